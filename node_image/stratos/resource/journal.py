"""The receipts journal: append-only, so that a restart neither loses nor repeats earnings.

Entries are u32 length | u32 CRC-32 | msgpack record. An entry is in the kernel before the step it pays for is sent (so
`kill -9` loses nothing), and on disk a moment later: one thread syncs for everybody, and `sync` waits for it where an
acknowledgement must outlive a power cut. A torn tail is cut off at start. When most of it is history, the live
accounts are written anew beside it and renamed over it. The first line is its kind and version (`wire.file_head`): entries of a
version that this program does not know must not be taken for a torn tail. A journal without that line is of version 1 too.

On a full disk nothing is half written: an entry that does not fit is taken back whole, so that entries after it are
still found at the next start. Entries that something waits for (`append`) are refused then; those that only tell what has
happened already (`note`) are kept and written before the next one that fits.
"""

import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from stratos.resource.store import StoreError
from stratos.wire.file_head import file_head, records_start
from stratos.wire.receipts import DownloadTask, Receipt

JOURNAL_VERSION = 1
_KIND = "receipts-journal"
_FIRST_LINE = file_head(_KIND, JOURNAL_VERSION)
_HEAD = struct.Struct(">II")
MAX_RECORD_BYTES = 1 << 20
SYNC_SECONDS = 0.2


class JournalError(StoreError):
    """The entry could not be written, so what it stands for must not happen."""


class Opened(Struct, frozen=True, array_like=True, tag="opened"):
    """A session account begins at a total the meta layer already knows (0 for a new session)."""

    session: bytes
    wallet: bytes
    key: bytes
    total_noz: int
    digest: bytes
    allotted_noz: int


class Served(Struct, frozen=True, array_like=True, tag="served"):
    """A download step was admitted."""

    session: bytes
    receipt: Receipt
    task: DownloadTask


class Voided(Struct, frozen=True, array_like=True, tag="voided"):
    """The last admitted step could not be delivered (damaged slice): it is taken back."""

    session: bytes


class Ordered(Struct, frozen=True, array_like=True, tag="ordered"):
    """The meta layer has ordered the session's receipt of this total."""

    session: bytes
    total_noz: int
    digest: bytes


class Signed(Struct, frozen=True, array_like=True, tag="signed"):
    """The last receipt of a session whose steps have all been ordered; only in a journal that was written anew."""

    session: bytes
    receipt: Receipt


class Held(Struct, frozen=True, array_like=True, tag="held"):
    """Slices of an upload (kind 1) or repair order (kind 3) became durable here: (index, length) items."""

    kind: int
    task: bytes
    items: tuple[tuple[int, int], ...]
    receipt: Receipt


class Settled(Struct, frozen=True, array_like=True, tag="settled"):
    """A repair order's receipt of this total has been ordered."""

    task: bytes
    total_noz: int


Record = Opened | Served | Voided | Ordered | Signed | Held | Settled
_decoder: "msgspec.msgpack.Decoder[Record]" = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


def pack(record: Record) -> bytes:
    """Bytes of one entry."""
    body = _encoder.encode(record)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def unpack(data: bytes) -> Iterator[tuple[Record, int]]:
    """(record, end offset) of every whole entry up to the first torn or damaged one; the first line is skipped."""
    offset = len(_FIRST_LINE) if data.startswith(_FIRST_LINE) else 0
    while len(data) - offset >= _HEAD.size:
        length, crc = _HEAD.unpack_from(data, offset)
        start = offset + _HEAD.size
        body = data[start : start + length]
        if length > MAX_RECORD_BYTES or len(body) < length or zlib.crc32(body) != crc:
            return
        try:
            record = _decoder.decode(body)
        except msgspec.DecodeError:
            return
        offset = start + length
        yield record, offset


class Journal:
    """The open journal; UnknownVersion when it is of another version, untouched then. `append` from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._synced = threading.Condition(self._lock)
        data = path.read_bytes() if path.exists() else b""
        start = records_start(data, kind=_KIND, version=JOURNAL_VERSION, path=path)
        self.records: list[Record] = []
        whole = start or 0
        for record, end in unpack(data):
            self.records.append(record)
            whole = end
        self.lost_bytes = len(data) - whole
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._descriptor, whole)
        os.lseek(self._descriptor, whole, os.SEEK_SET)
        self.size = whole
        self._waiting = b"" if start is not None else _FIRST_LINE
        """Noted, and not written yet: it goes before the next entry."""
        self._written = 0
        self._durable = 0
        self._closing = False
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._sync_loop, name="journal-sync", daemon=True)
        self._thread.start()

    def append(self, *records: Record) -> int:
        """Hand entries to the kernel; returns a mark for `sync`. Raises JournalError, with nothing written."""
        data = b"".join([pack(record) for record in records])
        with self._lock:
            self._write(data)
            return self._written

    def note(self, *records: Record) -> None:
        """Entries that are true whether or not they can be written now; they never come after later ones."""
        data = b"".join([pack(record) for record in records])
        with self._lock:
            try:
                self._write(data)
            except JournalError:
                self._waiting += data

    def _write(self, data: bytes) -> None:
        if self._failure is not None:
            raise JournalError(_sentence(self._failure)) from self._failure
        view = memoryview(self._waiting + data)
        try:
            while len(view):
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            try:
                os.ftruncate(self._descriptor, self.size)
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
            except OSError as worse:
                self._failure = worse
            raise JournalError(_sentence(error)) from error
        self.size += len(self._waiting) + len(data)
        self._waiting = b""
        self._written += 1
        self._changed.notify()

    def sync(self, mark: int) -> None:
        """Wait until everything up to `mark` is on disk; raises JournalError."""
        with self._lock:
            while self._durable < mark and self._failure is None:
                self._changed.notify()
                self._urgent = True
                self._synced.wait()
            if self._failure is not None:
                raise JournalError(_sentence(self._failure)) from self._failure

    _urgent = False

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the journal by these entries, atomically; raises JournalError and leaves it as it is."""
        with self._lock:
            beside = self.path.with_suffix(".new")
            try:
                descriptor, size = self._written_beside(beside, records)
            except OSError as error:
                beside.unlink(missing_ok=True)
                raise JournalError(_sentence(error)) from error
            # From the rename on the new file is the journal, whatever happens to the folder's sync.
            old, self._descriptor, self.size = self._descriptor, descriptor, size
            self._waiting = self._waiting.removeprefix(_FIRST_LINE)
            os.close(old)
            try:
                _sync_folder(self.path.parent)
            except OSError as error:
                self._failure = error
                raise JournalError(_sentence(error)) from error

    def _written_beside(self, beside: Path, records: Iterable[Record]) -> tuple[int, int]:
        """Descriptor and size of the new journal, in its place already."""
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        size = 0
        try:
            for data in (_FIRST_LINE, *map(pack, records)):
                size += len(data)
                view = memoryview(data)
                while len(view):
                    view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
            os.rename(beside, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, size

    def close(self) -> None:
        """Sync and close."""
        with self._lock:
            if self._closing:
                return
            if self._waiting:
                with suppress(JournalError):
                    self._write(b"")
            self._closing = True
            self._changed.notify()
        self._thread.join()
        os.close(self._descriptor)

    def _sync_loop(self) -> None:
        with self._lock:
            while True:
                while self._durable >= self._written and not self._closing:
                    self._changed.wait()
                if self._durable >= self._written:
                    return
                if not self._urgent and not self._closing:
                    self._changed.wait(SYNC_SECONDS)
                mark = self._written
                self._urgent = False
                try:
                    self._sync_outside_the_lock()
                except OSError as error:
                    self._failure = error
                self._durable = max(self._durable, mark)
                self._synced.notify_all()

    def _sync_outside_the_lock(self) -> None:
        descriptor = os.dup(self._descriptor)
        self._lock.release()
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
            self._lock.acquire()


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sentence(error: OSError) -> str:
    return f"this node cannot write its books ({error.strerror or error}); free some space on its disk"
