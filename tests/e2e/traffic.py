"""Clients that upload and download while something is done to their testnet; what is under test is that they never notice."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

from stratos.client import Client


class Traffic:
    """Clients that put and get in loops until told to stop; `failures` has every error."""

    def __init__(self, folder: Path, sizes: tuple[int, ...], *, pause_seconds: float = 0.0) -> None:
        self.failures: list[str] = []
        self.puts = 0
        self.gets = 0
        self._folder = folder
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._guarded, args=(size,)) for size in sizes]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def moved_on(self) -> Callable[[], bool]:
        """Whether every kind of operation has been done since this call."""
        puts, gets = self.puts, self.gets
        return lambda: bool(self.failures) or (self.puts > puts + 1 and self.gets > gets + 1)

    def _guarded(self, size: int) -> None:
        try:
            with Client.from_testnet(self._folder) as client:
                self._loop(client, size)
        except Exception as error:  # noqa: BLE001 - the test says what it was
            self.failures.append(f"{type(error).__name__}: {error}")

    def _loop(self, client: Client, size: int) -> None:
        kept: list[tuple[str, bytes]] = []
        while not self._stop.wait(self._pause_seconds):
            data = os.urandom(size)
            try:
                kept.append((client.put(io.BytesIO(data), name="x").handle, data))
                with self._lock:
                    self.puts += 1
            except Exception as error:  # noqa: BLE001 - counted, and the loop goes on
                self.failures.append(f"put of {size}: {type(error).__name__}: {error}")
            for handle, wanted in kept[-3:]:
                try:
                    right = client.read(handle) == wanted
                    if not right:
                        self.failures.append(f"get of {size}: wrong bytes")
                    with self._lock:
                        self.gets += 1
                except Exception as error:  # noqa: BLE001 - counted, and the loop goes on
                    self.failures.append(f"get of {size}: {type(error).__name__}: {error}")
