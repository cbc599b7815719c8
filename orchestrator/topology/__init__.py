"""Ansible inventory -> Topology: what the testnet should be, validated with all errors at once. Pure after loading."""
