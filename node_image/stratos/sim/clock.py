"""Virtual time: a heap of actions, run in order of time and then of scheduling. Nothing ever waits."""

import heapq
from collections.abc import Callable

START_WALL_MS = 1_760_000_000_000
"""Wall clock of the virtual world at time 0."""


class Clock:
    """Seconds since the start of the simulation."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0

    def after(self, delay_seconds: float, action: Callable[[], None]) -> None:
        """Run `action` this much later."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + max(delay_seconds, 0.0), self._sequence, action))

    def wall_ms(self, skew_seconds: float = 0.0) -> int:
        """Wall clock of a node whose clock is off by `skew_seconds`."""
        return START_WALL_MS + int((self.now + skew_seconds) * 1000)

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Run until this time or until `stop` says so (asked after each action)."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            self.steps += 1
            action()
            if stop():
                return
        self.now = max(self.now, until)
