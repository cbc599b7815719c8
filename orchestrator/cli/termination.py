"""SIGTERM as Ctrl-C, for commands that leave something running unless they clean up: `timeout`, a CI job and a service manager send it.

Only such commands take this: elsewhere the default (die at once) is right, and the workers a command forks would inherit a handler.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came; a KeyboardInterrupt, so that whatever cleans up after Ctrl-C cleans up after this."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within it, SIGTERM raises Terminated in the main thread."""
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
