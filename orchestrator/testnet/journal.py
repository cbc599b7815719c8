"""The journal: one line per step that was taken, for people, and for the tests that end an orchestrator after each.

Nothing is decided from it: what to do next always follows from what is there. So a torn last line harms nobody.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


class Journal:
    """Appends steps to `journal.jsonl`."""

    def __init__(self, path: Path, command: str) -> None:
        self._path = path
        self._command = command
        self.steps: list[str] = []

    def step(self, name: str, **details: object) -> None:
        """Note that a step has been taken."""
        self.steps.append(name)
        line = {
            "time_ms": time.time_ns() // 1_000_000,
            "pid": os.getpid(),
            "command": self._command,
            "step": name,
            **details,
        }
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
