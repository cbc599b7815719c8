"""The files through which the tool and the fork parent speak: what should run, and what does.

`wanted.json` is written by the tool, `observed.json` by the parent, each replaced whole by rename, so a reader sees an
old state or a new one and a crash of either side loses nothing: whoever comes next reads both and goes on. After
writing, the tool pokes the parent with SIGHUP; the parent answers by an observed revision.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")

WANTED_FILE = "wanted.json"
OBSERVED_FILE = "observed.json"
LAUNCHED_FILE = "launched.json"
PARENT_LOCK = "lock"
PARENT_LOG = "parent.log"
NODE_LOCK = "process.lock"
NODE_PROCESS = "process.json"
NODE_LOG = "node.log"
NODE_READY = "ready.json"
EXIT_LOCKED = 75
"""A child found its home locked by another process and left."""
EXIT_UNWANTED = 76
"""A child found, after locking its home, that it should not run any more."""


class WantedNode(Struct, frozen=True, kw_only=True):
    """How one node should be. `digest` stands for all its files and code: a running node with another one is replaced."""

    home: str
    role: str = ""
    spawn: str
    program: tuple[str, ...]
    """Command line of spawn `exec`."""
    digest: str
    run: bool = True
    kill: bool = False
    """With run false: SIGKILL instead of SIGTERM."""
    retry: int = 0
    """Raised to forget failures and start again at once."""


class Wanted(Struct, frozen=True, kw_only=True):
    """`leave`: the parent exits and its nodes go on. `finish`: it exits when nothing runs any more."""

    revision: int = 0
    nodes: dict[str, WantedNode] = {}
    leave: bool = False
    finish: bool = False


class ObservedNode(Struct, frozen=True, kw_only=True):
    """`state` is running, stopping, waiting (to be restarted), failed (given up) or stopped."""

    state: str
    pid: int = 0
    start: int = 0
    digest: str = ""
    since_ms: int = 0
    restarts: int = 0
    last_exit: str = ""


class Observed(Struct, frozen=True, kw_only=True):
    """`code` is the digest of the sources the parent has loaded; `error` says why it cannot work."""

    pid: int = 0
    start: int = 0
    code: str = ""
    revision: int = -1
    nodes: dict[str, ObservedNode] = {}
    error: str = ""


class Launched(Struct, frozen=True, kw_only=True):
    """`launched.json`: the parent last assigned to the folder, which may still be preloading."""

    pid: int
    start: int
    code: str


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """`process.json` in a home: who runs it and with which digest, written by the node's own process."""

    pid: int
    start: int
    digest: str
    spawn: str
    started_ms: int
    parent: int


def read_record(path: Path, kind: type[T]) -> T | None:
    """The record in `path`, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write_record(path: Path, record: Struct) -> None:
    """Replace `path` by the record, mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
