"""Handing in upload receipts before they are void, whatever the upload is waiting for.

A receipt counts in its own epoch and the next one. An upload whose data comes slowly (a pipe, segments being encoded, a
content name still being computed) may well outlast that, so one thread of a client looks at its uploads whenever an epoch
begins. It starts with the first receipt and has nothing to do for uploads that are shorter than an epoch.
"""

import threading
from collections.abc import Callable

from stratos.wire.genesis import Genesis

HandIn = Callable[[], None]


class DueReceipts:
    """The uploads of one client that have receipts to hand in. Thread-safe."""

    def __init__(self, genesis: Genesis, now_ms: Callable[[], int]) -> None:
        self._begin_ms = genesis.time_ms
        self._epoch_ms = max(1, round(genesis.meta.epoch_seconds * 1000))
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._watched: dict[bytes, HandIn] = {}
        self._thread: threading.Thread | None = None
        self._closing = False

    def watch(self, upload: bytes, hand_in: HandIn) -> None:
        """Call `hand_in` at every beginning of an epoch until `forget`; it must not raise."""
        with self._changed:
            if self._closing:
                return
            self._watched[upload] = hand_in
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stratos-due-receipts", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, upload: bytes) -> None:
        """The upload has ended."""
        with self._changed:
            self._watched.pop(upload, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched or self._closing)
                if self._changed.wait_for(lambda: self._closing, timeout=self._seconds_left()):
                    return
                due = list(self._watched.values())
            for hand_in in due:
                hand_in()

    def _seconds_left(self) -> float:
        """To the beginning of the next epoch, and a millisecond, so that it has begun then."""
        passed = max(0, self._now_ms() - self._begin_ms) % self._epoch_ms
        return (self._epoch_ms - passed + 1) / 1000
