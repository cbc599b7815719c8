"""Starts a fork parent before anything else is known, so that its preloading overlaps with reading the inventory.

Standard library only and little of it: this is the first thing an `up` runs. Assigning the launched parent to a testnet
is one line on its stdin; not assigning it closes its stdin and it leaves by itself, also when this process dies.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from orchestrator.runtimes.identity import lock_holder

ENTRY = "stratos.node"


class LaunchedParent:
    """A parent that is preloading and waits to be told which testnet it serves."""

    def __init__(self, pid: int, stdin: int) -> None:
        self.pid = pid
        self._stdin = stdin

    def assign(self, folder: Path, code: str) -> None:
        """Make it the parent of the testnet in `folder`."""
        line = json.dumps({"folder": str(folder), "code": code}).encode() + b"\n"
        os.write(self._stdin, line)
        os.close(self._stdin)

    def dismiss(self) -> None:
        """Nobody needs it."""
        os.close(self._stdin)


def launch_parent(entry: str = ENTRY) -> LaunchedParent:
    """Start a parent that preloads `entry`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "orchestrator.runtimes.forkserver", entry],
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reading, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(reading)
        os.close(null)
    return LaunchedParent(pid, writing)


def parent_is_running(folder: Path) -> bool:
    """Whether the testnet in `folder` has a parent already."""
    return lock_holder(folder / "supervisor" / "lock") is not None
