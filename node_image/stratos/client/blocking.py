"""`Client`, the blocking face: every operation of a user, over blocking sockets in plain threads.

This file is only the surface; the work is in `upload` and `sending` (putting), `remote` and `reading` (getting), `session`
(paying) and `core` (asking the meta layer). One client serves many threads; each method may be called from any of them.
"""

import io
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from stratos.client.chainlink import prepay
from stratos.client.core import Core
from stratos.client.errors import BadInput, ClientError, Environment, NotFound
from stratos.client.records import (
    BalanceView,
    Endpoints,
    FileEntry,
    GetResult,
    ObjectToPut,
    PrepayResult,
    ProgressCallback,
    PutResult,
    UploadFile,
)
from stratos.client.remote import RemoteFile
from stratos.client.session import Sessions
from stratos.client.sources import FileSource, MemorySource
from stratos.client.testnet import load_testnet
from stratos.client.upload import Upload, require_name
from stratos.crypto.cid import cid_text, multihash
from stratos.crypto.handle import Handle, HandleError, parse_handle
from stratos.crypto.keys import WalletKey
from stratos.wire.genesis import Genesis
from stratos.wire.limits import MAX_FILES_PER_PLACEMENT, MIB, SLICE_BYTES
from stratos.wire.metalog import RemoveFile
from stratos.wire.metarpc import Balance, FileList, GetBalance, ListFiles

Source = Path | str | bytes | bytearray | memoryview | BinaryIO
Target = Path | str | BinaryIO
LIST_PAGE = 1000
UNKNOWN_SIZE = 64 * MIB


class Client:
    """A wallet's access to one network. Use as a context manager, or call `close()`: it returns unspent ozone."""

    def __init__(
        self,
        genesis: Genesis,
        endpoints: Endpoints,
        wallet: WalletKey,
        *,
        ledger_dir: Path | None = None,
        deadline_seconds: float = 30.0,
        session_noz: int | None = None,
    ) -> None:
        self.wallet = wallet
        self._core = Core(genesis, endpoints, wallet, ledger_dir=ledger_dir, deadline_seconds=deadline_seconds)
        self._sessions = Sessions(self._core, session_noz=session_noz)
        self._slice_bytes = min(SLICE_BYTES, genesis.meta.slice_bytes)
        self._closed = False

    @classmethod
    def from_testnet(
        cls, folder: Path, *, wallet: str = "user", ledger_dir: Path | None = None, deadline_seconds: float = 30.0
    ) -> "Client":
        """A client of the testnet in `folder` with its wallet file `wallets/<wallet>.json`; its ledger goes to
        `ledger/` of the folder unless told otherwise."""
        testnet = load_testnet(folder)
        return cls(
            testnet.genesis,
            testnet.endpoints,
            testnet.wallet(wallet),
            ledger_dir=ledger_dir or testnet.ledger_dir,
            deadline_seconds=deadline_seconds,
        )

    @property
    def slice_bytes(self) -> int:
        """The largest slice this network takes."""
        return self._slice_bytes

    # -- money

    def balance(self) -> BalanceView:
        """Ozone of this wallet."""
        answer = self._core.ask(GetBalance(self.wallet.address), Balance)
        return BalanceView(
            wallet=self.wallet.text, available_noz=answer.available_noz, reserved_noz=answer.reserved_noz
        )

    def prepay(self, amount_wei: int, *, beneficiary: bytes | None = None) -> PrepayResult:
        """Buy ozone for `amount_wei` (a chain transaction); returns when the block is committed and the ozone credited."""
        started = time.monotonic()
        try:
            result = prepay(self._core, amount_wei, beneficiary)
        except ClientError as error:
            self._core.note("prepay", started=started, error=error)
            raise
        self._core.note("prepay", started=started, noz=result.bought_noz)
        return result

    # -- putting

    def put(
        self,
        source: Source,
        *,
        name: str | None = None,
        copies: int | None = None,
        video: bool = False,
        tag: str = "",
        note: bytes = b"",
        progress: ProgressCallback | None = None,
    ) -> PutResult:
        """Store a file (path), bytes or a binary file object under `name` (default: the path's last part)."""
        if isinstance(source, Path | str):
            path = Path(source)
            try:
                with path.open("rb") as opened:
                    return self.put(
                        opened,
                        name=name or path.name,
                        copies=copies,
                        video=video,
                        tag=tag,
                        note=note,
                        progress=progress,
                    )
            except OSError as error:
                raise BadInput(f"cannot read {path}: {error.strerror}; name an existing file") from error
        named = name or "unnamed"
        require_name(named)
        size = _size_of(source)
        with Upload(
            self._core, self._sessions, copies=copies, expected_bytes=UNKNOWN_SIZE if size is None else size
        ) as upload:
            report = _Report(progress, size)
            upload.on_moved = report.moved
            indices = list(self._add_all(upload, source, size))
            file = UploadFile(name=named, slices=tuple(indices), video=video, tag=tag, note=note)
            result = upload.complete([file])[0]
            report.finished(result.bytes)
            return result

    def put_many(self, objects: Sequence[ObjectToPut], *, copies: int | None = None) -> list[PutResult]:
        """Store many small objects (each at most one slice, at most 512) with one placement; all or nothing."""
        if not 1 <= len(objects) <= MAX_FILES_PER_PLACEMENT:
            raise BadInput(f"put_many takes 1 to {MAX_FILES_PER_PLACEMENT} objects, not {len(objects)}; split them")
        for each in objects:
            require_name(each.name)
        total = sum(len(each.data) for each in objects)
        with Upload(self._core, self._sessions, copies=copies, expected_bytes=total, names_file=False) as upload:
            files = []
            numbered = upload.add_many([MemorySource(each.data) for each in objects if each.data])
            for each in objects:
                slices = (numbered.pop(0),) if each.data else ()
                files.append(UploadFile(name=each.name, slices=slices, multihash=multihash(each.data)))
            return upload.complete(files)

    def begin_upload(self, *, copies: int | None = None, expected_bytes: int = UNKNOWN_SIZE) -> Upload:
        """An upload whose slices the caller adds one by one (video segments, growing files); `expected_bytes` decides
        how much ozone is set aside for it."""
        return Upload(self._core, self._sessions, copies=copies, expected_bytes=expected_bytes)

    def _add_all(self, upload: Upload, source: Source, size: int | None) -> Iterator[int]:
        if isinstance(source, bytes | bytearray | memoryview):
            view = memoryview(source).cast("B")
            for start in range(0, len(view), self._slice_bytes):
                yield upload.add(view[start : start + self._slice_bytes])
            return
        assert not isinstance(source, Path | str)
        if size is not None:
            descriptor, begin = source.fileno(), source.tell()
            for start in range(0, size, self._slice_bytes):
                length = min(self._slice_bytes, size - start)
                yield upload.add_source(FileSource(descriptor, begin + start, length, self._core.buffers))
            return
        while True:
            data = _read_up_to(source, self._slice_bytes)
            if not data:
                return
            yield upload.add(data)

    # -- reading

    def open(self, handle: str) -> RemoteFile:
        """A stored file for reading: size, note, slices, ranges. Raises NotFound."""
        return RemoteFile(self._core, self._sessions, handle=_parsed(handle))

    def open_upload(self, upload_id: bytes) -> RemoteFile:
        """An upload for reading while it is still in progress: what is durable so far and its progress note."""
        return RemoteFile(self._core, self._sessions, upload_id=upload_id)

    def get(self, handle: str, target: Target, *, progress: ProgressCallback | None = None) -> GetResult:
        """Download a file, verified, to a path (written beside it and renamed when whole) or a file object."""
        started = time.monotonic()
        return self._noted("get", handle, started, lambda: self._get(handle, target, progress, started))

    def read(self, handle: str) -> bytes:
        """A whole file in memory; for small ones."""

        def whole() -> tuple[bytes, int]:
            remote = self.open(handle)
            return remote.read(0, remote.size), remote.paid_noz

        return self._noted_bytes("get", handle, whole)

    def read_range(self, handle: str, offset: int, length: int) -> bytes:
        """Verified bytes [offset, offset + length); shorter at the end of the file."""

        def part() -> tuple[bytes, int]:
            remote = self.open(handle)
            return remote.read(offset, length), remote.paid_noz

        return self._noted_bytes("range", handle, part)

    def get_many(self, handles: Sequence[str]) -> list[bytes]:
        """Many small files in memory, in order, several at once."""
        return list(self._core.callers.map(self.read, handles))

    def stream(self, handle: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Verified chunks in order as they arrive, with the next slices fetched ahead."""
        started = time.monotonic()
        done = 0
        remote = None
        failure: ClientError | None = None
        try:
            remote = self.open(handle)
            for chunk in remote.stream(offset=offset, length=length):
                done += len(chunk)
                yield chunk
        except ClientError as error:
            failure = error
            raise
        finally:
            paid = remote.paid_noz if remote is not None else 0
            self._core.note("stream", started=started, handle=handle[:300], bytes=done, noz=paid, error=failure)

    def _get(self, handle: str, target: Target, progress: ProgressCallback | None, started: float) -> GetResult:
        remote = self.open(handle)
        report = _Report(progress, remote.size)
        if not isinstance(target, Path | str):
            done = 0
            for chunk in remote.stream():
                target.write(chunk)
                done += len(chunk)
                report.moved(len(chunk))
            report.finished(done)
            return self._got(handle, remote, started, "")
        path = Path(target)
        partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Environment(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error
        try:
            try:
                if remote.size:
                    remote.download(descriptor, progress=report.moved)
            finally:
                os.close(descriptor)
            os.replace(partial, path)
        except OSError as error:
            raise Environment(
                f"cannot write {path}: {error.strerror}; free some space or choose another place"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        report.finished(remote.size)
        return self._got(handle, remote, started, str(path))

    def _got(self, handle: str, remote: RemoteFile, started: float, path: str) -> GetResult:
        seconds = round(time.monotonic() - started, 6)
        return GetResult(handle=handle, bytes=remote.size, charged_noz=remote.paid_noz, seconds=seconds, path=path)

    def _noted(self, op: str, handle: str, started: float, action: Callable[[], GetResult]) -> GetResult:
        try:
            result = action()
        except ClientError as error:
            self._core.note(op, started=started, handle=handle[:300], error=error)
            raise
        self._core.note(op, started=started, handle=handle[:300], bytes=result.bytes, noz=result.charged_noz)
        return result

    def _noted_bytes(self, op: str, handle: str, action: Callable[[], tuple[bytes, int]]) -> bytes:
        started = time.monotonic()
        try:
            data, paid = action()
        except ClientError as error:
            self._core.note(op, started=started, handle=handle[:300], error=error)
            raise
        self._core.note(op, started=started, handle=handle[:300], bytes=len(data), noz=paid)
        return data

    # -- index

    def ls(self) -> list[FileEntry]:
        """Files of this wallet."""
        entries: list[FileEntry] = []
        after = b""
        while True:
            answer = self._core.ask(ListFiles(self.wallet.address, after, LIST_PAGE), FileList)
            for each in answer.files:
                after = each.file_cid
                try:
                    handle = str(Handle(self.wallet.address, each.file_cid, each.name))
                except HandleError:
                    handle = f"sdm://{self.wallet.text}/{cid_text(each.file_cid)}"
                entries.append(
                    FileEntry(
                        handle=handle,
                        name=each.name,
                        size=each.size,
                        video=each.video,
                        copies=each.copies,
                        created_ms=each.created_ms,
                    )
                )
            if len(answer.files) < LIST_PAGE:
                return entries

    def rm(self, handle: str) -> None:
        """Remove a file of this wallet; holders drop slices nobody else refers to."""
        started = time.monotonic()
        parsed = _parsed(handle)
        if parsed.wallet != self.wallet.address:
            raise BadInput(f"{handle} belongs to another wallet; only its owner can remove it")
        try:
            self._core.order(RemoveFile(parsed.cid), key=self.wallet)
        except ClientError as error:
            self._core.note("rm", started=started, handle=handle[:300], error=error)
            if isinstance(error, NotFound):  # the log knows the file by its digest only
                raise NotFound(f"there is no file {handle}; `stratosctl ls` lists what a wallet has") from error
            raise
        self._core.note("rm", started=started, handle=handle[:300])

    def close(self) -> None:
        """Settle and close the session (unspent ozone returns) and all connections."""
        if self._closed:
            return
        self._closed = True
        self._sessions.close()
        self._core.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Report:
    """Adds up progress from several threads."""

    def __init__(self, callback: ProgressCallback | None, total: int | None) -> None:
        self._callback = callback
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        """So many more bytes are done."""
        if self._callback is None:
            return
        with self._lock:
            self._done += count
            done = self._done
        self._callback(done, max(done, self._total or 0))

    def finished(self, size: int) -> None:
        """Everything is done."""
        if self._callback is not None:
            self._callback(size, size)


def _parsed(handle: str) -> Handle:
    try:
        return parse_handle(handle)
    except HandleError as error:
        raise BadInput(str(error)) from error


def _size_of(source: bytes | bytearray | memoryview | BinaryIO) -> int | None:
    """Bytes to come, None when only reading tells."""
    if isinstance(source, bytes | bytearray | memoryview):
        return memoryview(source).nbytes
    try:
        descriptor = source.fileno()
        if not source.seekable():
            return None
        return max(0, os.fstat(descriptor).st_size - source.tell())
    except (OSError, AttributeError, io.UnsupportedOperation):
        return None


def _read_up_to(source: BinaryIO, size: int) -> bytes:
    """Read until `size` bytes or the end, from a pipe too."""
    parts: list[bytes] = []
    left = size
    while left:
        part = source.read(left)
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
