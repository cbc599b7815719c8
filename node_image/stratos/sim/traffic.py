"""Users and holders of the full world: sessions, uploads, downloads, their receipts, and receipts that must not be paid again.

No bytes move; what is simulated is everything that is signed and ordered about them. A user goes from one stage to the next
when the committed log shows the last one, and says things again when it does not; now and then receipts are sent a
second time in a fresh entry, inflated, or for a slice of somebody else.
"""

import random
from enum import IntEnum

from blake3 import blake3
from msgspec import structs

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.meta.entries import sign_receipt
from stratos.meta.machine import get_clock
from stratos.meta.rooms import FILE, HOLDER, PLACEMENT, SESSION, SLICE, u32
from stratos.sim.authorities import Desk
from stratos.wire.metalog import (
    CloseSession,
    CompleteUpload,
    DownloadReceipts,
    FileRecord,
    HeldIndices,
    NodeStatus,
    OpenSession,
    Place,
    PlacedSlice,
    ServedTasks,
    SliceSpec,
    UploadReceipts,
)
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    UPLOAD,
    DownloadTask,
    ReceiptBody,
    chain_digest,
    indices_digest,
)

STEP_SECONDS = 0.3
PATIENCE_STEPS = 12
"""A user whose entry does not show up in the log starts anew after this many steps."""


class Stage(IntEnum):
    OPEN = 0
    PLACE = 1
    COMPLETE = 2
    DOWNLOAD = 3
    CLOSE = 4


class User:
    """One wallet that uploads and downloads in a loop."""

    def __init__(
        self, desk: Desk, wallet: WalletKey, holders: dict[bytes, NodeKey], rng: random.Random, *, until: float
    ) -> None:
        self._desk = desk
        self._wallet = wallet
        self._holders = holders
        self._rng = rng
        self._until = until
        self._stage = Stage.OPEN
        self._waited = 0
        self._round = 0
        self._session = b""
        self._key = NodeKey(bytes(32))
        self._upload = b""
        self._specs: tuple[SliceSpec, ...] = ()
        self._placed: tuple[PlacedSlice, ...] = ()
        self._sent: list[DownloadReceipts] = []
        desk.meta.clock.after(rng.uniform(0.2, 1.0), self._step)

    def _bytes(self, what: str) -> bytes:
        return blake3(self._wallet.address + f"{what}/{self._round}".encode()).digest()

    def _step(self) -> None:
        clock = self._desk.meta.clock
        if clock.now > self._until:
            return
        before = self._stage
        match self._stage:
            case Stage.OPEN:
                self._open()
            case Stage.PLACE:
                self._place()
            case Stage.COMPLETE:
                self._complete()
            case Stage.DOWNLOAD:
                self._download()
            case Stage.CLOSE:
                self._desk.submit(CloseSession(self._session), self._key)
                self._stage = Stage.OPEN
        self._waited = 0 if self._stage is not before else self._waited + 1
        if self._waited > PATIENCE_STEPS:
            self._stage, self._waited = Stage.OPEN, 0
        clock.after(STEP_SECONDS * self._rng.uniform(0.5, 1.5), self._step)

    def _open(self) -> None:
        self._round += 1
        self._key = NodeKey(self._bytes("session"))
        expiry = self._desk.meta.clock.wall_ms() + 60_000
        raw = self._desk.submit(OpenSession(self._key.public_key, 40_000_000, 10_000_000, expiry), self._wallet)
        self._session = blake3(raw).digest()[:16]
        self._upload = self._bytes("upload")[:16]
        self._specs = tuple(
            SliceSpec(self._bytes(f"slice{number}"), self._rng.randrange(1, 500_000))
            for number in range(self._rng.randrange(1, 4))
        )
        self._stage = Stage.PLACE

    def _place(self) -> None:
        state = self._desk.state
        if SESSION.get(state, self._session) is None:
            return
        placement = PLACEMENT.get(state, self._upload + u32(0))
        if placement is not None:
            self._placed = placement.slices
            self._stage = Stage.COMPLETE
        elif self._waited % 4 == 1:
            self._desk.submit(Place(self._session, self._upload, 0, self._specs, 0, 0), self._key)

    def _receipts(self, *, stretch: int = 0) -> tuple[HeldIndices, ...]:
        by_holder: dict[bytes, list[int]] = {}
        for index, placed in enumerate(self._placed):
            for holder in placed.holders:
                by_holder.setdefault(holder, []).append(index)
        epoch = get_clock(self._desk.state).epoch
        items = []
        for holder, indices in sorted(by_holder.items()):
            total = sum(self._placed[index].spec.length for index in indices) + stretch
            body = ReceiptBody(UPLOAD, self._upload, holder, epoch, total, indices_digest(indices))
            receipt = sign_receipt(
                body, giver=self._key, taker=self._holders[holder], genesis_hash=self._desk.genesis_hash
            )
            items.append(HeldIndices(receipt, tuple(indices)))
        return tuple(items)

    def _cid(self) -> bytes:
        return b"\x01\x66\x1b\x14" + self._bytes("file")[:20]

    def _complete(self) -> None:
        if FILE.get(self._desk.state, self._wallet.address + self._cid()) is not None:
            self._stage = Stage.DOWNLOAD
            return
        if self._waited % 3:
            return
        slices = tuple(range(len(self._placed)))
        size = sum(placed.spec.length for placed in self._placed)
        file = FileRecord(self._cid(), f"file{self._round}", size, "", False, b"", slices)
        receipts = self._receipts()
        if self._rng.random() < 0.4:
            self._desk.submit(UploadReceipts(self._session, self._upload, receipts, b""), self._key)
        if self._rng.random() < 0.3:
            self._desk.submit(UploadReceipts(self._session, self._upload, self._receipts(stretch=7), b""), self._key)
        self._desk.submit(CompleteUpload(self._session, self._upload, receipts, (file,)), self._key)

    def _download(self) -> None:
        epoch = get_clock(self._desk.state).epoch
        for placed in self._placed:
            record = SLICE.get(self._desk.state, placed.spec.digest)
            if record is None or not record.holders:
                continue
            holder = self._rng.choice(record.holders)
            task = DownloadTask(placed.spec.digest, 0, placed.spec.length, 0)
            body = ReceiptBody(DOWNLOAD, self._session, holder, epoch, task.length, chain_digest(EMPTY_CHAIN, task))
            receipt = sign_receipt(
                body, giver=self._holders[holder], taker=self._key, genesis_hash=self._desk.genesis_hash
            )
            batch = DownloadReceipts((ServedTasks(receipt, (task,)),))
            self._desk.submit(batch, self._holders[holder])
            self._sent.append(batch)
            stretched = structs.replace(receipt, body=structs.replace(body, total_noz=task.length * 2))
            if self._rng.random() < 0.3:
                self._desk.submit(DownloadReceipts((ServedTasks(stretched, (task, task)),)), self._holders[holder])
        for batch in self._rng.sample(self._sent, min(2, len(self._sent))):
            earner = batch.receipts[0].receipt.body.earner
            self._desk.submit(batch, self._holders[earner])
        self._stage = Stage.CLOSE if self._rng.random() < 0.5 else Stage.OPEN


class Heartbeats:
    """All holders report their status."""

    def __init__(self, desk: Desk, holders: dict[bytes, NodeKey], *, every: float, until: float) -> None:
        self._desk = desk
        self._holders = holders
        self._every = every
        self._until = until
        self._beat()

    def _beat(self) -> None:
        clock = self._desk.meta.clock
        for address, key in self._holders.items():
            if HOLDER.get(self._desk.state, address) is not None:
                self._desk.submit(NodeStatus(10**12, 0, 0, False, "", ""), key)
        if clock.now < self._until:
            clock.after(self._every, self._beat)
