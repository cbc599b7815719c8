"""A stored file (or an upload in progress) seen by a reader: ranges of the file become ranges of its slices."""

import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import accumulate

from stratos.client.core import Core
from stratos.client.errors import BadInput, Environment, NotFound
from stratos.client.proven import file_doubt
from stratos.client.reading import read_range
from stratos.client.session import Sessions, SessionSpent
from stratos.crypto.handle import Handle
from stratos.meta.placement import serving_order
from stratos.resource.pieces import piece_span
from stratos.wire.limits import KIB, MIB
from stratos.wire.metalog import PlacedSlice
from stratos.wire.metarpc import FileAnswer, GetFile, GetUpload

STREAM_CHUNKS = (64 * KIB, 1 * MIB, 4 * MIB)
STREAM_AHEAD = 3
READ_PARALLEL = 4
ALLOT_AHEAD = 64


class RemoteFile:
    """Made by `Client.open` and `Client.open_upload`. Reads are verified and paid from the client's session."""

    def __init__(
        self, core: Core, sessions: Sessions, *, handle: Handle | None = None, upload_id: bytes | None = None
    ) -> None:
        self._core = core
        self._sessions = sessions
        self._parsed = handle
        self._upload_id = upload_id
        self.handle: str = "" if handle is None else str(handle)
        """Empty for an upload in progress."""
        self.name: str = ""
        self.size: int = 0
        """Bytes of all slices known now."""
        self.video: bool = False
        self.note: bytes = b""
        self.progress: bytes = b""
        self.complete: bool = False
        self.slice_lengths: tuple[int, ...] = ()
        self.copies: int = 0
        """Fewest holders of any slice, by the index."""
        self.paid_noz = 0
        self._slices: tuple[PlacedSlice, ...] = ()
        self._ends: list[int] = []
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Look again: an upload in progress may have grown."""
        if self._parsed is not None:
            wallet, cid = self._parsed.wallet, self._parsed.cid
            try:
                answer = self._core.find(
                    GetFile(wallet, cid),
                    FileAnswer,
                    doubt=lambda told: file_doubt(self._core.trust, wallet, cid, told),
                )
            except NotFound as error:
                raise NotFound(f"there is no file {self.handle}; `stratosctl ls` lists what a wallet has") from error
        else:
            assert self._upload_id is not None
            answer = self._core.find(GetUpload(self._upload_id), FileAnswer)
        if answer.stored is not None:
            record = answer.stored.record
            self.name, self.video, self.note = record.name, record.video, record.note
        self.progress = answer.progress
        self.complete = answer.complete
        self._slices = answer.slices
        self.slice_lengths = tuple(each.spec.length for each in answer.slices)
        self._ends = list(accumulate(self.slice_lengths))
        self.size = self._ends[-1] if self._ends else 0
        self.copies = min((len(each.holders) for each in answer.slices), default=0)

    @property
    def slices(self) -> tuple[PlacedSlice, ...]:
        """Slices in file order with the holders that have them now."""
        return self._slices

    def read(self, offset: int, length: int) -> bytes:
        """Verified bytes [offset, offset + length), shorter at the end."""
        return bytes(self._read_pieces(offset, length))

    def read_slice(self, index: int) -> bytes:
        """One whole slice, in file order."""
        if not 0 <= index < len(self._slices):
            raise BadInput(f"slice {index} of a file of {len(self._slices)} slices")
        start = self._ends[index] - self.slice_lengths[index]
        return self.read(start, self.slice_lengths[index])

    def stream(self, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Verified chunks in order; the next ones are fetched while one is used. The first is small, so it is there soon."""
        self._check_range(offset)
        end = self.size if length is None else min(self.size, offset + length)
        ahead: deque[Future[memoryview]] = deque()
        position, number = offset, 0
        try:
            while position < end or ahead:
                while position < end and len(ahead) < STREAM_AHEAD:
                    size = min(STREAM_CHUNKS[min(number, len(STREAM_CHUNKS) - 1)], end - position)
                    # Chunks end at slice boundaries, so that neighbours come from different holders.
                    size = min(size, self._ends[bisect_right(self._ends, position)] - position)
                    ahead.append(self._core.workers.submit(self._read_pieces, position, size))
                    position += size
                    number += 1
                yield bytes(ahead.popleft().result())
        finally:
            for waiting in ahead:
                waiting.cancel()

    def download(self, descriptor: int, *, progress: Callable[[int], None] | None = None) -> int:
        """Write the whole file, verified, into an open file; slices come from several holders at once. noz paid."""
        starts = [end - length for end, length in zip(self._ends, self.slice_lengths, strict=True)]
        jobs = list(zip(self._slices, starts, strict=True))
        paid = 0
        self._allot_ahead()
        running: deque[Future[int]] = deque()
        try:
            while jobs or running:
                while jobs and len(running) < READ_PARALLEL:
                    placed, start = jobs.pop(0)
                    if len(self._slices) == 1:
                        paid += self._download_slice(placed, start, descriptor, progress)
                    else:
                        running.append(
                            self._core.workers.submit(self._download_slice, placed, start, descriptor, progress)
                        )
                if running:
                    paid += running.popleft().result()
        finally:
            for waiting in running:
                waiting.cancel()
            for waiting in running:
                if not waiting.cancelled():
                    waiting.exception()
        with self._lock:
            self.paid_noz += paid
        return paid

    def _allot_ahead(self) -> None:
        """One allotment for the whole download instead of one per slice."""
        needs: dict[bytes, int] = {}
        epoch = self._core.epoch()
        for placed in self._slices[:ALLOT_AHEAD]:
            order = serving_order(self._core.wallet.address, placed.spec.digest, epoch, placed.holders)
            if order:
                needs[order[0]] = needs.get(order[0], 0) + placed.spec.length
        session = self._sessions.acquire(sum(needs.values()))
        try:
            session.allot(needs.items())
        except SessionSpent:
            pass  # slice by slice then, with as many sessions as it takes
        finally:
            self._sessions.release(session)

    def _download_slice(
        self, placed: PlacedSlice, start: int, descriptor: int, progress: Callable[[int], None] | None
    ) -> int:
        with self._core.buffers.borrow() as buffer:
            return read_range(
                self._core,
                self._sessions,
                placed,
                _FileSink(descriptor, start, buffer),
                offset=0,
                length=placed.spec.length,
                progress=progress,
            )

    def _check_range(self, offset: int) -> None:
        if offset < 0 or offset > self.size:
            raise BadInput(f"offset {offset} is outside the file of {self.size} bytes")

    def _read_pieces(self, offset: int, length: int) -> memoryview:
        """Verified bytes of a range, in memory."""
        self._check_range(offset)
        if length < 0:
            raise BadInput(f"length {length} is negative")
        end = min(self.size, offset + length)
        parts: list[memoryview] = []
        while offset < end:
            index = bisect_right(self._ends, offset)
            placed = self._slices[index]
            start = self._ends[index] - placed.spec.length
            inside, stop = offset - start, min(end, self._ends[index]) - start
            wide, wide_length = piece_span(inside, stop - inside, placed.spec.length)
            sink = _MemorySink(wide, wide_length)
            paid = read_range(self._core, self._sessions, placed, sink, offset=wide, length=wide_length)
            with self._lock:
                self.paid_noz += paid
            parts.append(sink.view[inside - wide : stop - wide])
            offset = start + stop
        if len(parts) == 1:
            return parts[0]
        return memoryview(b"".join(parts))


class _MemorySink:
    """Bytes of a range in one buffer."""

    def __init__(self, offset: int, length: int) -> None:
        self.view = memoryview(bytearray(length))
        self._offset = offset

    def room(self, offset: int, length: int) -> memoryview:
        start = offset - self._offset
        return self.view[start : start + length]

    def keep(self, offset: int, length: int) -> None:
        pass


class _FileSink:
    """Bytes of a slice through a reused buffer to their place in a file."""

    def __init__(self, descriptor: int, start: int, buffer: memoryview) -> None:
        self._descriptor = descriptor
        self._start = start
        self._buffer = buffer

    def room(self, offset: int, length: int) -> memoryview:
        return self._buffer[: min(length, len(self._buffer))]

    def keep(self, offset: int, length: int) -> None:
        view = self._buffer[:length]
        try:
            while len(view):
                count = os.pwrite(self._descriptor, view, self._start + offset)
                offset += count
                view = view[count:]
        except OSError as error:
            raise Environment(f"cannot write the download: {error.strerror}; free some space and try again") from error
