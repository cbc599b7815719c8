"""One orchestrator at a time per testnet: a lock beside the folders, dropped by the kernel when its holder dies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.identity import lock_holder, take_lock

_held: set[Path] = set()


@contextlib.contextmanager
def hold_testnet(root: Path, name: str) -> Iterator[None]:
    """Hold the testnet `name` for this process; raises EnvironmentFault naming who has it. May be nested."""
    path = (root / ".locks" / f"{name}.lock").resolve()
    if path in _held:  # this process has it: a demo that calls `up` inside its own lock
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = take_lock(path)
    if descriptor is None:
        holder = lock_holder(path)
        who = f"process {holder.pid}" if holder is not None else "another process"
        raise EnvironmentFault(
            f"{who} is changing testnet {name} right now; wait for it to finish, or end it, and run again"
        )
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        os.close(descriptor)
