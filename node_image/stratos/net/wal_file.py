"""The write-ahead log's file: append, sync, replace. Blocking calls; the host runs the slow ones in its thread.

Appends go to the page cache at once; `sync` makes all of them durable with one fdatasync, however many records gathered
meanwhile (group commit). `replace` writes a new file beside the old one, syncs it and renames it over, so a crash
leaves one of the two, whole. The file begins with its kind and version (`wire.file_head`); a log without that line is of version 1 too
and gets it when it is next replaced.
"""

import os
from pathlib import Path

from stratos.wire.file_head import file_head, records_start

WAL_VERSION = 1
_KIND = "write-ahead-log"
WAL_HEAD = file_head(_KIND, WAL_VERSION)


class WalFile:
    """One append-only file; UnknownVersion when it is of another version, untouched then.

    Not thread-safe: append and replace from one thread at a time, sync may overlap appends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        found = path.read_bytes() if existed else b""
        start = records_start(found, kind=_KIND, version=WAL_VERSION, path=path)
        self._descriptor = self._open()
        if start is None:
            os.ftruncate(self._descriptor, 0)
            self.append(WAL_HEAD)
        if not existed:
            self._sync_folder()

    def read(self) -> bytes:
        """All records."""
        data = self.path.read_bytes()
        return data.removeprefix(WAL_HEAD)

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
            view = memoryview(WAL_HEAD + data)
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
