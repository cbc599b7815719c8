"""Machines as day-two commands meet them: connections over SSH, many at once, each failure one sentence."""
