"""Deadlines of the core over the shell's timers, with as few re-arms as possible.

A block at a fast pace moves the propose deadline hundreds of times a second, but hardly any deadline is ever
reached. So a running timer is left alone as long as it will go off before the deadline: when it does, what remains is
armed again. Cancelling is forgetting the deadline. The core therefore never sees a stale timer.
"""

from enum import IntEnum

from stratos.bft.events import SetTimeout

EARLY_SECONDS = 0.002
"""How much too early a timer may go off (loops round to milliseconds)."""


class Timer(IntEnum):
    """Ids of the core's timers."""

    PACE = 1
    """The next block is due."""
    PROPOSE = 2
    PREVOTE = 3
    PRECOMMIT = 4
    STATUS = 5
    CATCH_UP = 6


class Timers:
    """Deadline and running shell timer per id."""

    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._running: dict[int, float] = {}

    def set(self, timer: Timer, delay_seconds: float, now: float) -> SetTimeout | None:
        """Move the deadline; the effect to emit, if any."""
        deadline = self._deadlines[timer] = now + delay_seconds
        running = self._running.get(timer)
        if running is not None and now <= running <= deadline:
            return None
        self._running[timer] = deadline
        return SetTimeout(int(timer), delay_seconds)

    def cancel(self, timer: Timer) -> None:
        """There is no deadline any more."""
        self._deadlines.pop(timer, None)

    def is_set(self, timer: Timer) -> bool:
        return timer in self._deadlines

    def fired(self, timer: int, now: float) -> tuple[bool, SetTimeout | None]:
        """Whether the deadline is reached now, and the effect to emit when it is not yet."""
        self._running.pop(timer, None)
        deadline = self._deadlines.get(timer)
        if deadline is None:
            return False, None
        if now + EARLY_SECONDS >= deadline:
            del self._deadlines[timer]
            return True, None
        self._running[timer] = deadline
        return False, SetTimeout(timer, deadline - now)
