"""Preflight: a machine is measured before anything is put on it, and judged against protocol.md 9."""
