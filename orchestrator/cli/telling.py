"""Progress of long work: on a terminal one line that is replaced, elsewhere a line when something new begins.

What is no terminal (a log of CI, a pipe) still shows where a command is, but only lines that differ and not more than
one a second, so that waiting in small steps does not fill it.
"""

from __future__ import annotations

import sys
import time
from typing import Self

QUIET_SECONDS = 1.0


class Teller:
    """Call it with what is being done; used as a context it leaves the terminal clean."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._wanted = wanted
        self._terminal = sys.stderr.isatty()
        self._last = ""
        self._told_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the last line off the terminal."""
        if self._wanted and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, text: str) -> None:
        """Say where things are. Part of it may come from a machine or a server of others, whose bytes are not for the terminal."""
        text = "".join(letter if letter.isprintable() else " " for letter in text)
        if not self._wanted or text == self._last:
            return
        now = time.monotonic()
        if self._terminal:
            import shutil  # only at a terminal: this is on the path of the quickest commands

            room = shutil.get_terminal_size().columns - 1  # a line that wraps could not be replaced
            print(f"\r\x1b[K{text[:room]}", end="", file=sys.stderr, flush=True)
        elif now - self._told_at >= QUIET_SECONDS:
            print(f"stratosctl: {text}", file=sys.stderr, flush=True)
            self._told_at = now
        self._last = text
