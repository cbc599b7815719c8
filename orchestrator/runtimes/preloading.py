"""What the fork parent loads before it forks: the entry module, then the code of each role, one stage at a time.

In stages, so that the first nodes of the start order run on one core while the parent still imports what the next ones
need on another. What is loaded is frozen out of the garbage collector, so forked nodes go on sharing its pages. The
entry module offers `ROOMS` (role -> module), `prepare()`, which is called after each of them, and `preload()`; one without
rooms is loaded whole at once.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from orchestrator.runtimes.lean_imports import lean_imports

CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Importing an HTTP library reads the system's CA certificates, 100 ms; nodes trust keys, not CAs."""


class Preloader:
    """`entry` is the module once it is loaded; `error` says why loading failed."""

    def __init__(self, module: str) -> None:
        self.entry: Any = None  # a module, known by name only
        self.error = ""
        self._module = module
        self._rooms: dict[str, str] = {}
        self._whole = False
        gc.disable()

    def load(self, role: str) -> bool:
        """Everything a node of this role needs; False when it cannot be loaded."""
        if self.entry is None:
            self.step()
        if role in self._rooms:
            self._import(self._rooms.pop(role))
        elif role not in getattr(self.entry, "ROOMS", ()):
            while self.step():
                pass
        return not self.error

    def step(self) -> bool:
        """Load one stage more; False when there is nothing left to load."""
        if not self.unfinished:
            return False
        if self.entry is None:
            self._import(self._module)
        elif self._rooms:
            self._import(self._rooms.pop(next(iter(self._rooms))))
        else:
            self._import("")
            self._whole = True
        return self.unfinished

    @property
    def unfinished(self) -> bool:
        """Whether something is left to load and nothing has failed."""
        return not self.error and not self._whole

    def _import(self, name: str) -> None:
        """Import a module; the empty name stands for whatever else the entry wants."""
        try:
            with lean_imports(), _no_certificates():
                if not name:
                    self.entry.preload()
                elif self.entry is None:
                    self.entry = importlib.import_module(name)
                    self._rooms = dict(getattr(self.entry, "ROOMS", {}))
                else:
                    importlib.import_module(name)
                    self.entry.prepare()
        except Exception as error:  # noqa: BLE001  whatever an import raises answers "why does nothing start"
            self.error = f"the node's code cannot be loaded: {type(error).__name__}: {error}"


@contextmanager
def _no_certificates() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in CA_VARIABLES}
    os.environ.update(dict.fromkeys(CA_VARIABLES, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def wait_for_order(preloader: Preloader) -> bytes | None:
    """One line from stdin, preloading meanwhile; None when whoever launched us left without giving one."""
    _leave_when_abandoned()
    line, loading = b"", True
    poller = select.poll()
    poller.register(0, select.POLLIN)
    while not line.endswith(b"\n"):
        if poller.poll(0 if loading else None):
            data = os.read(0, 4096)
            if not data:
                return None
            line += data
        elif loading:
            loading = preloader.step()
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    return line


def _leave_when_abandoned() -> None:
    """Leave at once, also in the middle of an import, when the launcher is gone without having said what for."""

    def look(_number: int, _frame: FrameType | None) -> None:
        poller = select.poll()
        poller.register(0, select.POLLIN)
        if any(events & select.POLLHUP and not events & select.POLLIN for _, events in poller.poll(0)):
            os._exit(0)

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    look(signal.SIGIO, None)
