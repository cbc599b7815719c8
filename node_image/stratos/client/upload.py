"""One upload: slices are hashed, placed and sent while later ones are still being made.

Order of things for a slice: BLAKE3 tree -> placement by the meta layer -> first holder, which forwards along the chain ->
one ack per holder. The file's content name (Keccak, the slowest pass of all) is computed beside that and only wanted at
the end. A holder that fails is replaced: what is durable is reported, the slice is placed once more, and only the
missing copies move. Nothing is charged before a holder's receipt is ordered, and `abort` returns the rest.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from stratos.client.core import Core
from stratos.client.errors import BadInput, ClientError, Refused, Unreachable
from stratos.client.ledgerfile import ReceiptLine
from stratos.client.records import PutResult, UploadFile
from stratos.client.sending import SendJob, send_slices
from stratos.client.session import Sessions
from stratos.client.sources import EMPTY, MemorySource, SliceSource
from stratos.crypto.cid import FileHasher, file_cid
from stratos.crypto.handle import Handle, HandleError, check_name
from stratos.crypto.signing import sign_bytes
from stratos.meta.context import copy_cost
from stratos.resource.pieces import SliceHashes
from stratos.wire.codec import encode
from stratos.wire.limits import (
    KIB,
    MAX_SLICES_PER_PLACEMENT,
    MIB,
    SLICE_BYTES,
)
from stratos.wire.metalog import (
    AbortUpload,
    CompleteUpload,
    FileRecord,
    HeldIndices,
    Place,
    SliceSpec,
    UploadReceipts,
)
from stratos.wire.metarpc import GetPlacement, PlacementAnswer
from stratos.wire.receipts import TAG_RECEIPT, Receipt
from stratos.wire.transfer import HolderAck

IN_FLIGHT_BYTES = 160 * MIB
KEPT_BYTES = 64 * MIB
PLACE_ROUNDS = 3
MAX_NOTE_BYTES = 64 * KIB
SMALL_SLICE_BYTES = 256 * KIB
MENDED_CODES = frozenset({"copies", "replayed"})
"""Refusals of a completion that has too few copies: its receipts are all new, or were handed in a moment ago."""
GROUP_SLICES = 64


def require_name(name: str) -> None:
    """Refuse what cannot be a file's name before any byte moves; raises BadInput."""
    try:
        check_name(name)
    except HandleError as error:
        raise BadInput(str(error)) from error


@dataclass
class _Slice:
    """One slice from `add` until it is durable and part of its file's name."""

    index: int
    source: SliceSource
    spec: SliceSpec | None = None
    place: int = -1
    """Index under which it was placed last; that is what the file refers to."""
    holders: set[bytes] = field(default_factory=set)
    length: int = 0
    done: bool = False
    hashed: bool = True
    """Whether the file's content name needs its bytes no more."""
    moved: bool = False
    """Whether its bytes have been reported as moved."""
    kept: bool = False
    """Whether its bytes stay in memory to the end of the upload."""


class Upload:
    """Made by `Client.begin_upload`. As a context manager it aborts (uncharged) unless `complete` succeeded."""

    def __init__(
        self, core: Core, sessions: Sessions, *, copies: int | None, expected_bytes: int = 0, names_file: bool = True
    ) -> None:
        self.id: bytes = os.urandom(16)
        """16 bytes; readers of the unfinished upload pass it to `Client.open_upload`."""
        self.copies = copies or core.genesis.meta.copies
        self._core = core
        self._sessions = sessions
        # Enough for what is known to come; an upload of unknown size goes on as long as the session's pool lasts.
        wanted = self.copies * copy_cost(core.genesis.meta, max(expected_bytes, 1))
        self._session = sessions.acquire(wanted)
        self._lock = threading.Condition()
        self._slices: list[_Slice] = []
        self._next_place = 0
        self._measured: dict[int, _Slice] = {}
        self._next_in_order = 0
        self._placing = 0
        self._in_flight_bytes = 0
        self._in_flight = 0
        self._kept_bytes = 0
        self._failure: BaseException | None = None
        self._file_hash = FileHasher()
        self._names_file = names_file
        self._hashing = False
        self._to_hash: list[_Slice] = []
        self._acks: dict[bytes, HolderAck] = {}
        self._submitted: dict[bytes, int] = {}
        self._acked_epoch = 0
        self._known_placed = False
        self._former_places: dict[int, int] = {}
        self._started = time.monotonic()
        self._ended = False
        self.on_moved: Callable[[int], None] | None = None
        """Told the bytes of each slice that has become durable."""

    # -- for callers

    def add(self, data: bytes | bytearray | memoryview) -> int:
        """Add the next slice (1 byte to the network's slice size; it must not change until the upload ends). Returns its
        index at once; waits only when too many slices are in flight."""
        return self.add_source(MemorySource(data))

    def add_source(self, source: SliceSource) -> int:
        """`add` for bytes that are read where they are."""
        length = source.length
        limit = min(SLICE_BYTES, self._core.genesis.meta.slice_bytes)
        if not 1 <= length <= limit:
            raise BadInput(f"a slice has 1 to {limit} bytes, not {length}; cut the data accordingly")
        with self._lock:
            self._check()
            while self._in_flight and (
                self._in_flight_bytes + length > IN_FLIGHT_BYTES or self._in_flight >= MAX_SLICES_PER_PLACEMENT
            ):
                self._lock.wait()
                self._check()
            each = _Slice(len(self._slices), source, length=length)
            self._slices.append(each)
            self._in_flight += 1
            self._in_flight_bytes += length
            if self._names_file:
                each.hashed = False
                self._to_hash.append(each)
                if not self._hashing:
                    self._hashing = True
                    self._core.hashers.submit(self._hash_file)
        self._core.workers.submit(self._measure, each)
        return each.index

    def add_many(self, sources: Sequence[SliceSource]) -> list[int]:
        """Add small slices that are there already: one placement for all of them."""
        if len(sources) > MAX_SLICES_PER_PLACEMENT or sum(source.length for source in sources) > IN_FLIGHT_BYTES:
            return [self.add_source(source) for source in sources]
        with self._lock:
            self._placing += 2  # nobody places one by one meanwhile
        try:
            indices = [self.add_source(source) for source in sources]
            with self._lock:
                while any(self._slices[index].spec is None for index in indices):
                    self._lock.wait()
                    self._check()
        finally:
            with self._lock:
                self._placing -= 2
        with self._lock:
            self._placing += 1
        self._core.workers.submit(self._place_waiting)
        return indices

    def publish(self, progress: bytes = b"") -> None:
        """Wait until all slices added so far are durable and let readers see them and `progress` (at most 64 KiB)."""
        if len(progress) > MAX_NOTE_BYTES:
            raise BadInput(f"a progress note of {len(progress)} bytes is over {MAX_NOTE_BYTES}; shorten it")
        self._wait_durable()
        self._submit_receipts(progress)

    def complete(self, files: Sequence[UploadFile]) -> list[PutResult]:
        """Make the upload's slices into files, one result each."""
        records = []
        try:
            self._wait_durable()
            with self._lock:
                while self._hashing:
                    self._lock.wait()
                    self._check()
                self._check()
            records = self._order_completion(files)
        except ClientError as error:
            self._core.note("put", started=self._started, task=self.id.hex(), error=error)
            raise
        results = self._results(files, records)
        self._end()
        for result in results:
            self._core.note(
                "put",
                started=self._started,
                task=self.id.hex(),
                handle=result.handle,
                bytes=result.bytes,
                noz=result.charged_noz,
            )
        return results

    def _order_completion(self, files: Sequence[UploadFile]) -> list[FileRecord]:
        """Order the files; copies whose holder was lost since it acknowledged them are made again first."""
        for last in (False, False, True):
            records = [self._record(each) for each in files]
            receipts = self._unsubmitted()
            body = CompleteUpload(self._session.id, self.id, self._giver_signed(receipts), tuple(records))
            try:
                self._core.order(body)
            except Refused as error:
                if error.code not in MENDED_CODES or last or any(each.source is EMPTY for each in self._slices):
                    raise
                self._submit_receipts()
                self._place_anew()
                continue
            self._mark_submitted(receipts)
            return records
        raise AssertionError("unreachable")

    def _place_anew(self) -> None:
        """Place every slice once more, which moves only copies that are missing now."""
        with self._lock:
            waiting = list(self._slices)
            for each in waiting:
                each.done = False
                each.holders.clear()
                self._in_flight += 1
                self._in_flight_bytes += each.length
        for start in range(0, len(waiting), MAX_SLICES_PER_PLACEMENT):
            self._send_anew(waiting[start : start + MAX_SLICES_PER_PLACEMENT], 1)
        self._wait_durable()

    def abort(self) -> None:
        """Give the upload up; nothing more is charged."""
        if self._ended:
            return
        with self._lock:
            self._failure = self._failure or Refused("the upload was given up", "aborted")
            self._lock.notify_all()
        started = time.monotonic()
        error: ClientError | None = None
        try:
            if self._known_placed:
                self._core.order(AbortUpload(self._session.id, self.id))
        except ClientError as refused:
            error = refused  # the session's end aborts it as well
        self._core.note("abort", started=started, task=self.id.hex(), error=error)
        self._end()

    def __enter__(self) -> "Upload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    # -- hashing

    def _measure(self, each: _Slice) -> None:
        try:
            hashes = SliceHashes()
            for chunk in each.source.chunks():
                hashes.update(chunk)
            each.spec = SliceSpec(hashes.finish(), each.length)
            with self._lock:
                self._measured[each.index] = each
                self._lock.notify_all()
                start = self._placing < 2
                if start:
                    self._placing += 1
            if start:
                self._place_waiting()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the caller's thread
            self._fail(error)

    def _hash_file(self) -> None:
        """The file's content name: all slices in order, beside the transfer."""
        try:
            while True:
                with self._lock:
                    if not self._to_hash or self._failure is not None:
                        self._hashing = False
                        self._lock.notify_all()
                        return
                    each = self._to_hash.pop(0)
                for chunk in each.source.chunks():
                    self._file_hash.update(chunk)
                with self._lock:
                    each.hashed = True
                    self._release(each)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the caller's thread
            with self._lock:
                self._hashing = False
            self._fail(error)

    # -- placing and sending

    def _place_waiting(self) -> None:
        """Place what waits, batch by batch, until nothing does; runs in a worker."""
        try:
            while True:
                with self._lock:
                    batch = self._next_batch()
                    if not batch or self._failure is not None:
                        self._placing -= 1
                        return
                for group in self._groups(self._placed(batch)):
                    self._core.workers.submit(self._send, group, 1)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the caller's thread
            with self._lock:
                self._placing -= 1
            self._fail(error)

    def _next_batch(self) -> list[_Slice]:
        """Measured slices that are next in order, so that an unfinished upload reads in the order it was written."""
        batch: list[_Slice] = []
        while len(batch) < MAX_SLICES_PER_PLACEMENT and self._next_in_order in self._measured:
            batch.append(self._measured.pop(self._next_in_order))
            self._next_in_order += 1
        for each in batch:
            each.place = self._next_place
            self._next_place += 1
        return batch

    def _placed(self, batch: list[_Slice]) -> list[SendJob]:
        """Have the meta layer choose holders for a batch, whose `place`s are in a row."""
        first = batch[0].place
        specs = []
        for each in batch:
            assert each.spec is not None
            specs.append(each.spec)
        cost = self.copies * sum(copy_cost(self._core.genesis.meta, spec.length) for spec in specs)
        self._core.order(Place(self._session.id, self.id, first, tuple(specs), self.copies, 0))
        self._known_placed = True
        self._session.pool_noz -= cost
        answer = self._core.ask(GetPlacement(self.id, first), PlacementAnswer)
        placement = answer.token.placement
        jobs = []
        for offset, each in enumerate(batch):
            each.holders.update(placement.already[offset])
            jobs.append(SendJob(each.place, placement.slices[offset], answer.token, each.source, each))
        return jobs

    def _groups(self, jobs: list[SendJob]) -> list[list[SendJob]]:
        """Large slices alone, small ones by their first holder, so that a batch shares a connection and a sync."""
        groups: list[list[SendJob]] = []
        small: dict[bytes, list[SendJob]] = {}
        for job in jobs:
            if not job.placed.holders or job.source.length > SMALL_SLICE_BYTES:
                groups.append([job])
            else:
                group = small.setdefault(job.placed.holders[0], [])
                if not group:
                    groups.append(group)
                group.append(job)
                if len(group) == GROUP_SLICES:
                    del small[job.placed.holders[0]]
        return groups

    def _send(self, group: list[SendJob], round_number: int) -> None:
        try:
            if self._failure is not None:
                return
            moving = [job for job in group if job.placed.holders]
            problem = ""
            if moving:
                acks, problem = send_slices(self._core, self.id, moving)
                self._take_acks(acks)
            short = []
            for job in group:
                each: _Slice = job.owner
                with self._lock:
                    for holder in job.placed.holders:
                        ack = self._acks.get(holder)
                        if ack is not None and job.index in ack.indices:
                            each.holders.add(holder)
                if len(each.holders) < self.copies and job.placed.holders:
                    short.append(each)
            for each in (job.owner for job in group):
                if each not in short:
                    self._durable(each)
            if short:
                self._replace(short, round_number, problem)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the caller's thread
            self._fail(error)

    def _replace(self, short: list[_Slice], round_number: int, problem: str) -> None:
        """Ask for other holders for copies that were not made."""
        refused: ClientError | None = None
        if round_number < PLACE_ROUNDS:
            try:
                self._submit_receipts()
                self._send_anew(short, round_number + 1)
                return
            except Refused as error:
                if error.code != "holders":
                    raise
                refused = error
        least = min(self.copies, 3)
        for each in short:
            if len(each.holders) < least:
                raise Unreachable(
                    f"slice {each.index} has {len(each.holders)} durable copies of {self.copies}: "
                    f"{problem or (refused.sentence if refused else 'holders failed')}; nothing more is charged, try again"
                )
            self._durable(each)

    def _send_anew(self, slices: list[_Slice], round_number: int) -> None:
        """Place slices under new indices and send what is missing; raises what placing raises."""
        with self._lock:
            for each in slices:
                self._former_places[each.place] = each.length
                each.place = self._next_place
                self._next_place += 1
        for group in self._groups(self._placed(slices)):
            self._send(group, round_number)

    def _take_acks(self, acks: Sequence[HolderAck]) -> None:
        with self._lock:
            for ack in acks:
                known = self._acks.get(ack.holder)
                if ack.receipt is not None and (known is None or len(ack.indices) > len(known.indices)):
                    self._acks[ack.holder] = ack
                    if not self._acked_epoch:
                        self._acked_epoch = ack.receipt.body.epoch
                        self._core.due_receipts.watch(self.id, self._hand_in_old)

    def _durable(self, each: _Slice) -> None:
        with self._lock:
            each.done = True
            self._in_flight -= 1
            self._in_flight_bytes -= each.length
            self._release(each)
            first, each.moved = not each.moved, True
            self._lock.notify_all()
        if first and self.on_moved is not None:
            self.on_moved(each.length)

    def _release(self, each: _Slice) -> None:
        """Let go of bytes in memory; a few stay until the end, in case a copy is lost before the file is ordered."""
        if not each.done or not each.hashed or each.kept or not isinstance(each.source, MemorySource):
            return
        if self._kept_bytes + each.length > KEPT_BYTES:
            each.source = EMPTY
        else:
            each.kept = True
            self._kept_bytes += each.length

    def _wait_durable(self) -> None:
        with self._lock:
            self._check()
            while self._in_flight:
                self._lock.wait()
                self._check()

    # -- receipts

    def _hand_in_old(self) -> None:
        """Hand in the receipts of an epoch that has passed: they are void one epoch after theirs."""
        with self._lock:
            epoch = self._acked_epoch
            if self._ended or self._failure is not None or not epoch or epoch >= self._core.epoch():
                return
        try:
            self._submit_receipts()
        except ClientError:
            with self._lock:  # tried again an epoch on; the upload's end says it if that is too late
                self._acked_epoch = self._acked_epoch or epoch
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must reach the caller's thread
            self._fail(error)

    def _submit_receipts(self, progress: bytes = b"") -> None:
        receipts = self._unsubmitted()
        if not receipts and not progress:
            return
        try:
            self._core.order(UploadReceipts(self._session.id, self.id, self._giver_signed(receipts), progress))
        except Refused as error:
            if error.code != "replayed":  # another thread of this upload handed the same receipts in a moment ago
                raise
        self._mark_submitted(receipts)

    def _unsubmitted(self) -> list[HolderAck]:
        with self._lock:
            self._acked_epoch = 0
            return [
                ack
                for holder, ack in sorted(self._acks.items())
                if ack.receipt is not None and ack.receipt.body.total_noz > self._submitted.get(holder, 0)
            ]

    def _mark_submitted(self, receipts: Sequence[HolderAck]) -> None:
        with self._lock:
            for ack in receipts:
                if ack.receipt is not None:
                    self._submitted[ack.holder] = max(ack.receipt.body.total_noz, self._submitted.get(ack.holder, 0))

    def _giver_signed(self, receipts: Sequence[HolderAck]) -> tuple[HeldIndices, ...]:
        core = self._core
        signed = []
        for ack in receipts:
            if ack.receipt is None:
                continue
            body = ack.receipt.body
            signature = core.key.sign(sign_bytes(TAG_RECEIPT, core.genesis_hash, encode(body)))
            signed.append(HeldIndices(Receipt(body, signature, ack.receipt.taker_signature), ack.indices))
            core.ledger.write(
                ReceiptLine(
                    time_ms=core.now_ms(),
                    wallet=core.wallet.address.hex(),
                    kind=body.kind,
                    task=body.task.hex(),
                    earner=body.earner.hex(),
                    epoch=body.epoch,
                    total_noz=body.total_noz,
                    digest=body.digest.hex(),
                )
            )
        return tuple(signed)

    # -- ending

    def _record(self, each: UploadFile) -> FileRecord:
        for index in each.slices:
            if not 0 <= index < len(self._slices):
                raise BadInput(f"file {each.name!r} names slice {index}; this upload has {len(self._slices)}")
        multihash = each.multihash
        if multihash is None:
            if not self._names_file or list(each.slices) != list(range(len(self._slices))):
                raise BadInput(f"file {each.name!r} is not all slices in order; pass its multihash")
            multihash = self._file_hash.multihash()
        require_name(each.name)
        cid = file_cid(multihash, tag=each.tag, video=each.video)
        slices = tuple(self._slices[index].place for index in each.slices)
        size = sum(self._slices[index].length for index in each.slices)
        return FileRecord(cid, each.name, size, each.tag, each.video, each.note, slices)

    def _results(self, files: Sequence[UploadFile], records: Sequence[FileRecord]) -> list[PutResult]:
        seconds = round(time.monotonic() - self._started, 6)
        charged = self._charged()
        results: list[PutResult] = []
        for each, record in zip(files, records, strict=True):
            copies = min((len(self._slices[index].holders) for index in each.slices), default=self.copies)
            results.append(
                PutResult(
                    handle=str(Handle(self._core.wallet.address, record.file_cid, each.name)),
                    bytes=record.size,
                    slices=len(record.slices),
                    copies=copies,
                    charged_noz=0 if results else charged,
                    degraded=copies < self.copies,
                    seconds=seconds,
                )
            )
        return results

    def _charged(self) -> int:
        """What the receipts handed in cost: each new copy's bytes and its part of the repair reserve."""
        by_place = {each.place: each.length for each in self._slices}
        by_place.update(self._former_places)
        return sum(
            copy_cost(self._core.genesis.meta, by_place[index])
            for ack in self._acks.values()
            for index in ack.indices
            if index in by_place
        )

    def _end(self) -> None:
        self._ended = True
        self._core.due_receipts.forget(self.id)
        self._sessions.release(self._session)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
            self._lock.notify_all()

    def _check(self) -> None:
        failure = self._failure
        if failure is None:
            return
        if isinstance(failure, ClientError):
            raise failure
        raise Unreachable(f"the upload failed: {failure}") from failure
