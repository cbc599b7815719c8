"""Receiving slices: chain replication while the bytes come in (protocol 7).

A holder writes each piece, sends it on to the next holder of the chain and hashes it, then goes back for the next piece, so
all copies grow together. When the last byte is in, it commits its own copy (durable), waits for the answer of those behind
it and answers with one ack per holder, each with that holder's own receipt. A failing next holder never ends the upload:
it is reported, and those behind it are served from the copy that is already here. A holder whose own disk fails goes
on forwarding.

Small slices sent back to back are taken as one batch: one round of syncs, one receipt, one answer.
"""

from dataclasses import dataclass, field

import structlog

from stratos.crypto.keys import node_address
from stratos.resource.frames import BulkSocket
from stratos.resource.link import TRANSFER_ERRORS, BulkLink
from stratos.resource.services import Services
from stratos.resource.store import SliceWriter, StoreError
from stratos.wire.limits import KIB
from stratos.wire.receipts import UPLOAD
from stratos.wire.transfer import (
    HolderAck,
    PlacementToken,
    UploadDone,
    UploadReady,
    UploadSlice,
)

BATCH_SLICES = 64
BATCH_SLICE_BYTES = 256 * KIB
"""Slices up to this size wait for the ones right behind them."""
_log = structlog.get_logger("stratos.resource.receiving")


class UploadRefused(Exception):
    """The upload breaks a rule; the connection ends with this answer."""

    def __init__(self, sentence: str, code: int = -7) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


@dataclass
class _Taken:
    """One slice of the batch."""

    message: UploadSlice
    token: PlacementToken
    writer: SliceWriter | None = None
    error: str = ""
    next: "_Next | None" = None
    """The link it is being forwarded on."""


@dataclass
class _Next:
    """The way to one next holder within a batch."""

    address: bytes
    link: BulkLink
    waiting: set[int] = field(default_factory=set)
    error: str = ""


class UploadBatch:
    """Slices of one upload taken from one connection, answered together."""

    def __init__(self, services: Services, link: BulkSocket, caller: bytes) -> None:
        self._services = services
        self._link = link
        self._caller = caller
        self._taken: list[_Taken] = []
        self._nexts: dict[bytes, _Next] = {}
        self._acks: dict[bytes, HolderAck] = {}
        self._errors: dict[bytes, str] = {}

    def wants(self, message: object) -> bool:
        """Whether a message that has arrived already belongs to this batch."""
        return isinstance(message, UploadSlice) and message.upload == self._taken[-1].message.upload and not message.ask

    @property
    def open(self) -> bool:
        """Whether it is worth looking for one more slice before answering."""
        return len(self._taken) < BATCH_SLICES and self._taken[-1].message.placed.spec.length <= BATCH_SLICE_BYTES

    def take(self, message: UploadSlice) -> None:
        """Check, receive and forward one slice; raises UploadRefused or the connection's errors."""
        taken = _Taken(message, self._checked(message))
        self._taken.append(taken)
        store = self._services.store
        spec = message.placed.spec
        here = spec.digest in store
        if message.ask:
            self._link.send(UploadReady(message.index, not here))
            if here:
                return
        if not here:
            try:
                taken.writer = store.begin(spec.digest, spec.length)
            except StoreError as error:
                taken.error = str(error)
        try:
            self._start_forward(taken)
            self._receive(taken)
        except BaseException:
            if taken.writer is not None:
                taken.writer.discard()
            raise
        if taken.writer is not None:
            try:
                taken.writer.finish()
            except StoreError as error:
                self._failed(taken, str(error))
        self._services.counters.add("received_bytes", spec.length)

    def abandon(self) -> None:
        """The connection broke: keep nothing that was not answered for."""
        for taken in self._taken:
            if taken.writer is not None:
                taken.writer.discard()
        for following in self._nexts.values():
            following.link.close()

    def finish(self) -> None:
        """Commit, collect the answers from behind, answer."""
        services = self._services
        writers = [taken.writer for taken in self._taken if taken.writer is not None]
        try:
            if writers:
                services.store.commit(writers)
        except StoreError as error:
            for taken in self._taken:
                if taken.writer is not None:
                    taken.writer, taken.error = None, str(error)
        held = [
            (taken.message.index, taken.message.placed.spec.length)
            for taken in self._taken
            if not taken.error and taken.message.placed.spec.digest in services.store
        ]
        first = self._taken[0].message
        if held:
            epoch = max(taken.message.epoch for taken in self._taken)
            try:
                proof = services.books.hold(UPLOAD, first.upload, held, epoch=epoch)
            except StoreError as error:
                for taken in self._taken:
                    taken.error = taken.error or str(error)
            else:
                self._merge(HolderAck(services.key.address, proof.receipt, proof.indices, ""))
        for taken in self._taken:
            if taken.error:
                self._errors[services.key.address] = taken.error
        for following in self._nexts.values():
            self._collect(following)
        for taken in self._taken:
            self._complete_chain(taken)
        acks = list(self._acks.values())
        acks += [HolderAck(holder, None, (), error[:1000]) for holder, error in sorted(self._errors.items())]
        self._link.send(UploadDone(tuple(taken.message.index for taken in self._taken), tuple(acks)))

    # -- receiving

    def _checked(self, message: UploadSlice) -> PlacementToken:
        services = self._services
        if message.token is not None:
            services.placements.learn(message.token)
        token, session = services.placements.find(message.upload, message.index)
        placement = token.placement
        if placement.slices[message.index - placement.first_index] != message.placed:
            raise UploadRefused(f"slice {message.index} is not what was placed; send it as the placement says", -6)
        holders = message.placed.holders
        if message.position >= len(holders) or holders[message.position] != services.key.address:
            raise UploadRefused(f"this node is not holder {message.position} of slice {message.index}", -6)
        if len(message.addresses) != len(holders):
            raise UploadRefused(f"{len(message.addresses)} addresses for {len(holders)} holders; give one for each")
        if self._caller != session.key and node_address(self._caller) not in holders[: message.position]:
            raise UploadRefused(
                "this connection's key is neither the session's nor of a holder earlier in the chain", -3
            )
        if abs(message.epoch - services.epoch()) > 1:
            raise UploadRefused(
                f"the upload says epoch {message.epoch}, here it is {services.epoch()}; check the clock"
            )
        return token

    def _receive(self, taken: _Taken) -> None:
        left = taken.message.placed.spec.length
        following = taken.next
        with self._services.buffers.borrow() as buffer:
            while left:
                count = self._link.receive_data(buffer[: min(left, len(buffer))], most=left)
                left -= count
                piece = buffer[:count]
                if following is not None and not following.error:
                    try:
                        following.link.send_data(piece, flush=not left or count > BATCH_SLICE_BYTES)
                        self._services.counters.add("forwarded_bytes", count)
                    except TRANSFER_ERRORS as error:
                        following.error = str(error)
                if taken.writer is not None:
                    try:
                        taken.writer.write(piece)
                    except StoreError as error:
                        self._failed(taken, str(error))

    def _failed(self, taken: _Taken, error: str) -> None:
        taken.error = error
        if taken.writer is not None:
            taken.writer.discard()
            taken.writer = None

    # -- forwarding

    def _start_forward(self, taken: _Taken) -> None:
        message = taken.message
        position = message.position + 1
        if position >= len(message.placed.holders):
            return
        address = message.placed.holders[position]
        following = self._nexts.get(address)
        if following is None:
            try:
                link = self._services.links.get(address, message.addresses[position])
            except TRANSFER_ERRORS as error:
                self._errors[address] = str(error)
                return
            following = self._nexts[address] = _Next(address, link)
        if following.error:
            return
        try:
            following.link.send(self._forwarded(taken, position, following.link, ask=False), flush=False)
            following.waiting.add(message.index)
            taken.next = following
        except TRANSFER_ERRORS as error:
            following.error = str(error)

    def _forwarded(self, taken: _Taken, position: int, link: BulkLink, *, ask: bool) -> UploadSlice:
        message = taken.message
        shown = (message.upload, taken.token.placement.first_index)
        token = None if shown in link.tokens else taken.token
        link.tokens.add(shown)
        return UploadSlice(
            message.upload, message.index, position, message.epoch, ask, message.placed, token, message.addresses
        )

    def _collect(self, following: _Next) -> None:
        """Read the answers of one next holder until all its slices are answered for."""
        try:
            if following.error:
                raise ConnectionError(following.error)
            following.link.flush()
            while following.waiting:
                done = following.link.expect(UploadDone)
                following.waiting.difference_update(done.indices)
                for ack in done.acks:
                    self._merge(ack)
            self._services.links.put(following.link)
        except (*TRANSFER_ERRORS, ConnectionError) as error:
            following.error = str(error) or "the connection broke"
            self._errors[following.address] = following.error
            following.link.close()
            _log.warning("next holder failed", holder=following.address.hex(), reason=following.error)

    def _merge(self, ack: HolderAck) -> None:
        if ack.error or ack.receipt is None:
            self._errors[ack.holder] = ack.error or "no receipt came"
            return
        known = self._acks.get(ack.holder)
        if known is None or len(ack.indices) >= len(known.indices):
            self._acks[ack.holder] = ack

    def _complete_chain(self, taken: _Taken) -> None:
        """Give the slice, from the copy that is here, to holders behind that have not answered for it."""
        message = taken.message
        if taken.error:
            return
        position = message.position + 1
        if taken.next is not None and not taken.next.error:
            return
        if position < len(message.placed.holders) and message.placed.holders[position] in self._errors:
            position += 1
        for place in range(position, len(message.placed.holders)):
            try:
                self._send_copy(taken, place)
                return
            except (*TRANSFER_ERRORS, StoreError) as error:
                self._errors[message.placed.holders[place]] = str(error)

    def _send_copy(self, taken: _Taken, position: int) -> None:
        message = taken.message
        links = self._services.links
        link = links.get(message.placed.holders[position], message.addresses[position])
        try:
            link.send(self._forwarded(taken, position, link, ask=True))
            if link.expect(UploadReady).want:
                with (
                    self._services.store.open(message.placed.spec.digest) as reader,
                    self._services.buffers.borrow() as buffer,
                ):
                    offset = 0
                    while offset < reader.length:
                        count = reader.read_into(buffer, offset)
                        link.send_data(buffer[:count])
                        offset += count
                        self._services.counters.add("forwarded_bytes", count)
            done = link.expect(UploadDone)
        except BaseException:
            link.close()
            raise
        for ack in done.acks:
            self._merge(ack)
        links.put(link)
