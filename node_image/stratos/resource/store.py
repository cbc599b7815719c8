"""Slices on disk, named by their digest (`resource.pieces`): a slice is there whole and durable, or it is not there.

Layout: `slices/<1 hex>/<hex>` (16 folders, because each one that a batch touches costs it a directory sync), `incoming/`
(being written; emptied at start), `quarantine/`, `spare/`, and `version`: a store whose version is not `STORE_VERSION` is refused
untouched, since slices of another format would otherwise pass for damaged ones. A store without that file is of this version.
A slice file is its bytes, then the hashes of its 64 KiB pieces (which lead to its name), then a footer (magic, length), so
one file and one fdatasync hold everything a proof needs. A writer hashes as bytes pass; `commit` does fdatasync, rename, directory
fsync, in this order, for many slices at once, and only then may anybody be told.

Reads verify every piece against the stored hashes. A file that fails (bit flip, truncation) is moved to quarantine
and reported; it never leaves this disk as data.

Dropped large slices become spare files for the next ones: overwriting pages and extents that exist is several times
cheaper than allocating new ones. A spare is a cache: it goes first when space is needed.
"""

import errno
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from stratos.resource.pieces import PIECE, SliceHashes, piece_count, slice_digest
from stratos.wire.file_head import unknown_version
from stratos.wire.limits import MIB, SLICE_BYTES

MAGIC = b"STSLICE2"
STORE_VERSION = "2"
_FOOTER = struct.Struct(">8sQ")
SPARE_MIN_BYTES = 1 * MIB
MAX_SPARES = 8
HASH_CACHE = 256
FAN_OUT_DIGITS = 1
TOGETHER = 4
SYNC_THREADS = 16
FREE_MARGIN_BYTES = 16 * MIB
"""Left free on the file system for journals and logs."""

OnCorrupt = Callable[[bytes, str], None]
"""(digest, sentence): a slice that was here is not whole any more."""


class StoreError(Exception):
    """The store could not do it; one sentence."""


class DiskFull(StoreError):
    """No room for the slice, by the node's limit or on the file system."""


class WrongBytes(StoreError):
    """What was written is not the slice that was announced."""


class MissingSlice(StoreError):
    """No such slice here."""


class CorruptSlice(StoreError):
    """The slice's file does not hold the slice any more; it has been quarantined."""


def file_bytes(length: int) -> int:
    """Size of the file of a slice of `length` bytes."""
    return length + 32 * piece_count(length) + _FOOTER.size


def slice_length(size: int) -> int:
    """Length of the slice in a file of `size` bytes; negative or odd values never pass the footer check."""
    body = size - _FOOTER.size
    return body - 32 * -(-body // (PIECE + 32))


class SliceWriter:
    """A slice on its way in: feed it in order, `finish`, then `SliceStore.commit`; or `discard`."""

    def __init__(self, store: "SliceStore", digest: bytes, length: int, path: Path, descriptor: int) -> None:
        self.digest = digest
        self.length = length
        self.path = path
        self.descriptor = descriptor
        self.hashes = SliceHashes()
        self._store = store
        self._open = True

    def write(self, data: memoryview) -> None:
        """Append bytes; raises WrongBytes when there are more than announced, DiskFull when the disk is."""
        if self.hashes.length + len(data) > self.length:
            raise WrongBytes(f"more than the announced {self.length} bytes came for slice {self.digest.hex()[:16]}")
        _write_all(self.descriptor, data)
        self.hashes.update(data)

    def finish(self) -> None:
        """Check length and digest, and append the hashes; raises WrongBytes."""
        name = self.digest.hex()[:16]
        if self.hashes.length != self.length:
            raise WrongBytes(f"slice {name} ended after {self.hashes.length} of {self.length} bytes; send it again")
        digest = self.hashes.finish()
        if digest != self.digest:
            raise WrongBytes(f"the bytes of slice {name} hash to {digest.hex()[:16]}; send the slice again")
        _write_all(self.descriptor, memoryview(b"".join(self.hashes.hashes) + _FOOTER.pack(MAGIC, self.length)))

    def discard(self) -> None:
        """Forget the slice and its bytes."""
        if self._open:
            self._open = False
            os.close(self.descriptor)
            self._store._discarded(self)

    def _close(self) -> None:
        self._open = False
        os.close(self.descriptor)


class SliceReader:
    """An open slice. Reads verify what they return."""

    def __init__(
        self, store: "SliceStore", digest: bytes, length: int, hashes: tuple[bytes, ...], descriptor: int
    ) -> None:
        self.digest = digest
        self.length = length
        self.hashes = hashes
        self._store = store
        self._descriptor = descriptor

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` from `offset` (a whole number of pieces); the count, less than asked only at the slice's end."""
        if offset % PIECE:
            raise ValueError(f"offset {offset} is not a multiple of {PIECE}")
        wanted = min(len(view), self.length - offset)
        if wanted < self.length - offset:
            wanted -= wanted % PIECE
        target = view[:wanted]
        done = 0
        while done < wanted:
            count = os.preadv(self._descriptor, [target[done:]], offset + done)
            if count == 0:
                raise self._store.corrupt(self.digest, f"its file ends at {offset + done}")
            done += count
        first = offset // PIECE
        if not _pieces_match(target, self.hashes[first : first + piece_count(wanted)]):
            raise self._store.corrupt(self.digest, f"bytes in {offset}..{offset + wanted} have changed")
        return wanted

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._store._reader_closed(self.digest)

    def __enter__(self) -> "SliceReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SliceStore:
    """All slices of one node. Methods may be called from any thread."""

    def __init__(self, root: Path, *, limit_bytes: int, on_corrupt: OnCorrupt | None = None) -> None:
        self.root = root
        self._limit = limit_bytes
        self._on_corrupt = on_corrupt
        self._lock = threading.Lock()
        self._lengths: dict[bytes, int] = {}
        self._used = 0
        self._reserved = 0
        self._serial = 0
        self._took_large = False
        self._spares: list[tuple[Path, int]] = []
        self._readers: dict[bytes, int] = {}
        self._cache: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()
        self._folders: dict[str, int] = {}
        self._syncers: ThreadPoolExecutor | None = None
        _check_version(root / "version")
        for name in ("slices", "incoming", "quarantine", "spare"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._load()

    # -- what is here

    def __contains__(self, digest: bytes) -> bool:
        with self._lock:
            return digest in self._lengths

    def __len__(self) -> int:
        with self._lock:
            return len(self._lengths)

    def digests(self) -> list[bytes]:
        """Every slice here, sorted."""
        with self._lock:
            return sorted(self._lengths)

    def length(self, digest: bytes) -> int | None:
        """Length of a slice, None when it is not here."""
        with self._lock:
            return self._lengths.get(digest)

    @property
    def used_bytes(self) -> int:
        """Bytes of slice files here and on their way in."""
        with self._lock:
            return self._used + self._reserved

    @property
    def free_bytes(self) -> int:
        """Bytes this node can still take: the smaller of its limit's rest and the file system's."""
        with self._lock:
            on_disk = self._free_on_disk() - FREE_MARGIN_BYTES
            return max(0, min(self._limit - self._used - self._reserved, on_disk))

    # -- writing

    def begin(self, digest: bytes, length: int) -> SliceWriter:
        """Room for a new slice; raises DiskFull. Two writers of one slice may race, the first commit wins."""
        if not 1 <= length <= SLICE_BYTES:
            raise WrongBytes(f"a slice has 1 to {SLICE_BYTES} bytes, not {length}")
        size = file_bytes(length)
        with self._lock:
            left = self._limit - self._used - self._reserved
            if size > left:
                raise DiskFull(f"no room for {length} bytes: {max(0, left)} of this node's {self._limit} are left")
            self._reserved += size
            self._serial += 1
            path = self.root / "incoming" / f"{digest.hex()[:16]}.{self._serial}"
            spare = self._take_spare(size)
        try:
            while size + FREE_MARGIN_BYTES > self._free_on_disk() and spare is None and self._give_up_spare():
                pass
            if spare is not None:
                os.rename(spare, path)
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            else:
                if size + FREE_MARGIN_BYTES > self._free_on_disk():
                    raise DiskFull(f"no room for {length} bytes: the file system of {self.root} is full")
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except BaseException as error:
            self._unreserve(size)
            for left_over in (path, *([spare] if spare is not None else [])):
                left_over.unlink(missing_ok=True)  # a spare is a cache: not worth finding its place again
            if isinstance(error, OSError):
                raise _disk_error(error, path) from error
            raise
        return SliceWriter(self, digest, length, path, descriptor)

    def commit(self, writers: Sequence[SliceWriter]) -> None:
        """Make finished slices durable and visible, all with one round of directory syncs."""
        folders: set[str] = set()
        moved: list[tuple[bytes, Path]] = []
        try:
            for writer in writers:
                size = file_bytes(writer.length)
                if os.fstat(writer.descriptor).st_size != size:
                    os.ftruncate(writer.descriptor, size)
            self._sync([writer.descriptor for writer in writers])
            for writer in writers:
                name = writer.digest.hex()
                folder = self._folder(name[:FAN_OUT_DIGITS])
                target = self.root / "slices" / name[:FAN_OUT_DIGITS] / name
                os.rename(writer.path, target)
                moved.append((writer.digest, target))
                folders.add(folder)
            for folder in folders:
                os.fsync(self._folders[folder])
        except OSError as error:
            with self._lock:
                for digest, target in moved:
                    if digest not in self._lengths:  # else it has taken the place of the same slice, which stays
                        target.unlink(missing_ok=True)
            for writer in writers:
                writer.discard()
            raise _disk_error(error, self.root) from error
        with self._lock:
            for writer in writers:
                writer._close()
                size = file_bytes(writer.length)
                self._reserved -= size
                if writer.digest not in self._lengths:
                    self._lengths[writer.digest] = writer.length
                    self._used += size
                self._remember(writer.digest, tuple(writer.hashes.hashes))
                self._took_large = self._took_large or 2 * writer.length > SLICE_BYTES

    # -- reading

    def open(self, digest: bytes) -> SliceReader:
        """An open slice; raises MissingSlice or CorruptSlice."""
        with self._lock:
            length = self._lengths.get(digest)
            hashes = self._cache.get(digest)
            if length is None:
                raise MissingSlice(f"slice {digest.hex()[:16]} is not here; ask another holder")
            self._readers[digest] = self._readers.get(digest, 0) + 1
        descriptor = -1
        try:
            try:
                descriptor = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise self.corrupt(digest, f"its file cannot be opened ({error.strerror})") from error
            if os.fstat(descriptor).st_size != file_bytes(length):
                raise self.corrupt(digest, "its file has another size")
            if hashes is None:
                hashes = self._read_hashes(digest, descriptor, length)
        except BaseException:
            if descriptor >= 0:
                os.close(descriptor)
            self._reader_closed(digest)
            raise
        return SliceReader(self, digest, length, hashes, descriptor)

    def corrupt(self, digest: bytes, reason: str) -> CorruptSlice:
        """Quarantine a slice; returns the error to raise."""
        name = digest.hex()
        with self._lock:
            length = self._lengths.pop(digest, None)
            self._cache.pop(digest, None)
            if length is not None:
                self._used -= file_bytes(length)
                self._serial += 1
            serial = self._serial
        sentence = f"slice {name[:16]} is damaged: {reason}; it was set aside and another copy is needed"
        if length is not None:
            try:
                os.rename(self._path(digest), self.root / "quarantine" / f"{name}.{serial}")
            except OSError:
                pass  # the file itself is gone, which is what the sentence says
            if self._on_corrupt is not None:
                self._on_corrupt(digest, sentence)
        return CorruptSlice(sentence)

    # -- dropping

    def drop(self, digest: bytes) -> bool:
        """Delete a slice; False when it is not here."""
        with self._lock:
            length = self._lengths.pop(digest, None)
            if length is None:
                return False
            self._cache.pop(digest, None)
            size = file_bytes(length)
            self._used -= size
            self._serial += 1
            spare = self.root / "spare" / str(self._serial)
            keep = size >= SPARE_MIN_BYTES and len(self._spares) < MAX_SPARES and not self._readers.get(digest)
            try:
                if keep:
                    os.rename(self._path(digest), spare)
                    self._spares.append((spare, size))
                else:
                    os.unlink(self._path(digest))
            except FileNotFoundError:
                pass
        return True

    def add_spare(self, size: int = SLICE_BYTES + 32 * piece_count(SLICE_BYTES) + _FOOTER.size) -> bool:
        """Write one spare file ahead of need; False when there are enough or space is short."""
        with self._lock:
            room = min(self._limit - self._used - self._reserved, self._free_on_disk())
            if len(self._spares) >= MAX_SPARES or room < 8 * size:
                return False
            self._serial += 1
            path = self.root / "spare" / str(self._serial)
        zeros = bytes(256 * 1024)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                for start in range(0, size, len(zeros)):
                    _write_all(descriptor, memoryview(zeros)[: size - start])
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, DiskFull):
            path.unlink(missing_ok=True)
            return False
        with self._lock:
            self._spares.append((path, size))
        return True

    @property
    def took_large(self) -> bool:
        """Whether slices of at least half the largest size have come in since the store was opened."""
        return self._took_large

    @property
    def spares(self) -> int:
        """Spare files ready for reuse."""
        with self._lock:
            return len(self._spares)

    def close(self) -> None:
        """Close folder handles and threads."""
        if self._syncers is not None:
            self._syncers.shutdown()
        with self._lock:
            for descriptor in self._folders.values():
                os.close(descriptor)
            self._folders.clear()

    # -- inside

    def _load(self) -> None:
        for leftover in (self.root / "incoming").iterdir():
            leftover.unlink()
        for spare in sorted((self.root / "spare").iterdir()):
            if len(self._spares) < MAX_SPARES:
                self._serial = max(self._serial, int(spare.name) if spare.name.isdigit() else 0)
                self._spares.append((spare, spare.stat().st_size))
            else:
                spare.unlink()
        for folder in (self.root / "slices").iterdir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    size = entry.stat().st_size
                    try:
                        digest = bytes.fromhex(entry.name)
                    except ValueError:
                        continue
                    # A truncated file still gets an entry: the first read finds it out, quarantines and reports it.
                    self._lengths[digest] = max(1, slice_length(size))
                    self._used += size

    def _sync(self, descriptors: Sequence[int]) -> None:
        """fdatasync all; many at once, because syncs that arrive together share the file system's journal commits."""
        if len(descriptors) < TOGETHER:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
            return
        with self._lock:
            if self._syncers is None:
                self._syncers = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="store-sync")
            syncers = self._syncers
        for _ in syncers.map(os.fdatasync, descriptors):
            pass

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.root / "slices" / name[:FAN_OUT_DIGITS] / name

    def _folder(self, prefix: str) -> str:
        with self._lock:
            if prefix not in self._folders:
                folder = self.root / "slices" / prefix
                if not folder.is_dir():
                    folder.mkdir(exist_ok=True)
                    parent = os.open(self.root / "slices", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    try:
                        os.fsync(parent)
                    finally:
                        os.close(parent)
                self._folders[prefix] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return prefix

    def _read_hashes(self, digest: bytes, descriptor: int, length: int) -> tuple[bytes, ...]:
        count = piece_count(length)
        trailer = os.pread(descriptor, 32 * count + _FOOTER.size, length)
        if len(trailer) != 32 * count + _FOOTER.size:
            raise self.corrupt(digest, "its piece hashes are cut off")
        magic, stored_length = _FOOTER.unpack_from(trailer, 32 * count)
        hashes = tuple(trailer[at : at + 32] for at in range(0, 32 * count, 32))
        if magic != MAGIC or stored_length != length or slice_digest(hashes) != digest:
            raise self.corrupt(digest, "its piece hashes have changed")
        with self._lock:
            self._remember(digest, hashes)
        return hashes

    def _remember(self, digest: bytes, hashes: tuple[bytes, ...]) -> None:
        self._cache[digest] = hashes
        self._cache.move_to_end(digest)
        while len(self._cache) > HASH_CACHE:
            self._cache.popitem(last=False)

    def _reader_closed(self, digest: bytes) -> None:
        with self._lock:
            left = self._readers.get(digest, 1) - 1
            if left:
                self._readers[digest] = left
            else:
                self._readers.pop(digest, None)

    def _discarded(self, writer: SliceWriter) -> None:
        writer.path.unlink(missing_ok=True)
        self._unreserve(file_bytes(writer.length))

    def _unreserve(self, size: int) -> None:
        with self._lock:
            self._reserved -= size

    def _take_spare(self, size: int) -> Path | None:
        if size < SPARE_MIN_BYTES:
            return None
        # Cutting a much larger file down, or growing a much smaller one, costs what reuse saves.
        fitting = [spare for spare in self._spares if size <= 2 * spare[1] and spare[1] <= 2 * size]
        if not fitting:
            return None
        best = min(fitting, key=lambda spare: abs(spare[1] - size))
        self._spares.remove(best)
        return best[0]

    def _give_up_spare(self) -> bool:
        with self._lock:
            if not self._spares:
                return False
            path, _ = self._spares.pop()
        path.unlink(missing_ok=True)
        return True

    def _free_on_disk(self) -> int:
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize


def _write_all(descriptor: int, data: memoryview) -> None:
    try:
        while len(data):
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise _disk_error(error, None) from error


def _disk_error(error: OSError, path: Path | None) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull("the disk of this node is full; free some space or lower its limit")
    where = f" {path}" if path is not None else ""
    return StoreError(f"the slice store cannot write{where}: {error.strerror or error}; check the disk")


def _pieces_match(data: memoryview, hashes: Sequence[bytes]) -> bool:
    return all(
        blake3(data[at * PIECE : (at + 1) * PIECE]).digest() == expected for at, expected in enumerate(hashes)
    ) and len(hashes) == piece_count(len(data))


def _check_version(path: Path) -> None:
    """Refuse a store of another version (UnknownVersion); write the version of one that has none."""
    try:
        found = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        found = ""
    if found == STORE_VERSION:
        return
    if found:
        raise unknown_version(path.parent, "the slice store", found, STORE_VERSION)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(f"{STORE_VERSION}\n")
        os.replace(fresh, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fresh.unlink(missing_ok=True)  # a full disk must not keep a holder from serving; the next start writes it
