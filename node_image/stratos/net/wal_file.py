"""The write-ahead log's file: append, sync, replace. Blocking calls; the host runs the slow ones in its thread.

Appends go to the page cache at once; `sync` makes all of them durable with one fdatasync, however many records gathered
meanwhile (group commit). `replace` writes a new file beside the old one, syncs it and renames it over, so a crash
leaves one of the two, whole.
"""

import os
from pathlib import Path


class WalFile:
    """One append-only file. Not thread-safe: append and replace from one thread at a time, sync may overlap appends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        self._descriptor = self._open()
        if not existed:
            self._sync_folder()

    def read(self) -> bytes:
        """The whole log as found."""
        return self.path.read_bytes()

    def append(self, data: bytes) -> None:
        """Write behind what is there; not durable before `sync`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """Everything appended so far is on disk when this returns."""
        os.fdatasync(self._descriptor)

    def replace(self, data: bytes) -> None:
        """The log holds exactly `data`, durably."""
        fresh = self.path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(fresh, self.path)
        self._sync_folder()
        old, self._descriptor = self._descriptor, self._open()
        os.close(old)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _sync_folder(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
