"""Who a process is: pid and start time, never pid alone; and file locks whose holder the kernel names.

A pid is reused, so every signal goes through a pidfd that was opened first and checked after. A home is locked with a
POSIX record lock for as long as its node lives: the lock vanishes with the process, survives exec, is not inherited by
fork, and F_GETLK tells who holds it, so a node is found even when the process that started it died before it could
write anything down. Standard library only: this is imported before anything else of an `up`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import time
from pathlib import Path
from typing import NamedTuple

_FLOCK = "hhqqi4x"
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""


class ProcessIdentity(NamedTuple):
    """`start` is the kernel's start time of the process in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        return identify(self.pid) == self


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has `pid` now; None when there is none or it is only waiting to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else ProcessIdentity(pid, int(fields[19]))


def is_stopped(pid: int) -> bool:
    """Whether the process is frozen by SIGSTOP."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def open_process(identity: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process, or None when it is gone."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except (ProcessLookupError, OverflowError, ValueError):
        return None
    if identify(identity.pid) != identity:
        os.close(descriptor)
        return None
    return descriptor


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone."""
    descriptor = open_process(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(identities: list[ProcessIdentity], timeout_seconds: float) -> list[ProcessIdentity]:
    """Wait until the processes have ended; those that have not by the timeout."""
    deadline = time.monotonic() + timeout_seconds
    left: list[ProcessIdentity] = []
    for identity in identities:
        descriptor = open_process(identity)
        if descriptor is None:
            continue
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.append(identity)
        finally:
            os.close(descriptor)
    return left


def take_lock(path: Path) -> int | None:
    """Lock `path` (made when missing, mode 0600) for the life of this process; its descriptor, or None when another holds it.

    Closing any descriptor of the file in this process gives the lock up, so open it nowhere else.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def lock_holder(path: Path) -> ProcessIdentity | None:
    """The process that holds the lock on `path`; None when nobody does. Not for a lock of the calling process."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
        while True:
            pid = _holder_pid(descriptor)
            if pid is None:
                return None
            identity = identify(pid)
            # The same holder before and after reading its start time: then the start time is the holder's.
            if identity is not None and _holder_pid(descriptor) == pid:
                return identity


def _holder_pid(descriptor: int) -> int | None:
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, request))
    return None if kind == fcntl.F_UNLCK else int(pid)
