"""The meta service layer's state machine: entries of the log -> state, the same on every node, to the byte.

Pure: no clock, no chance, no IO; signatures are checked through the verifier it is given. A block is: begin (time moves on:
epoch roll, clearing away, lotteries, the monitor), entries one by one, each in a branch of its own that is dropped when
the entry is refused, end (ozone must be conserved; the authorities of height + 2). Refused entries are never part of a
block: the proposer leaves them out and a block that carries one is invalid.
"""

from collections.abc import Callable

from msgspec import structs

from stratos.bft.signing import Verifier
from stratos.ledger import staking
from stratos.ledger.machine import Ledger
from stratos.meta import (
    beacon,
    bridge,
    disputes,
    epochs,
    holders,
    index,
    monitor,
    outbox,
    ozone,
    placing,
    receipts,
    repair,
    replay,
    sessions,
    uploads,
)
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.entries import WALLET_KEY_BYTES, author_address
from stratos.meta.errors import InvariantBroken, MetaError
from stratos.meta.rooms import BEACON, CHAIN_HEIGHT, CLOCK, PENDING, Clock, u64
from stratos.state import Branch, Reader, State
from stratos.wire.block import EntryResult, Event, Validator
from stratos.wire.genesis import Genesis
from stratos.wire.metalog import (
    AbortUpload,
    ActionSignature,
    Allot,
    BeaconCommit,
    BeaconReveal,
    ChainBlock,
    CloseSession,
    CompleteUpload,
    Dispute,
    DownloadReceipts,
    Entry,
    NodeStatus,
    OpenSession,
    Place,
    PossessionFailure,
    RemoveFile,
    RepairReceipts,
    UploadReceipts,
)

MAX_EVENTS = 256


class MetaMachine:
    """Executes blocks of the meta log on branches of its state."""

    def __init__(self, genesis: Genesis, genesis_hash: bytes, verify: Verifier) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash
        self._verify = verify
        self._events: list[Event] = []

    def init_genesis(self, branch: Branch) -> None:
        """Balances, authorities and holders as the ledger's genesis leaves them; the clock stands at genesis time."""
        ledger = Ledger(self.genesis)
        ledger_state = State().fork()
        events = ledger.init_genesis(ledger_state)
        context = self.context(
            height=0, time_ms=self.genesis.time_ms, witness_ms=1, epoch=0, last_commit_hash=b"\0" * 32
        )
        for event in events:
            bridge.apply_event(branch, context, event)
        bridge.set_chain_validators(branch, staking.voters(ledger_state))
        CHAIN_HEIGHT.set(branch, b"", self.genesis.initial_height - 1)
        BEACON.set(branch, u64(1), self.genesis_hash)
        CLOCK.set(branch, b"", Clock(0, self.genesis.time_ms, 1, 1, self.genesis.time_ms, 0, False))
        ozone.check_conserved(branch)

    def context(
        self, *, height: int, time_ms: int, witness_ms: int, epoch: int, last_commit_hash: bytes
    ) -> BlockContext:
        """Circumstances of one block."""
        return BlockContext(
            self.genesis,
            self.genesis_hash,
            self._verify,
            height,
            time_ms,
            witness_ms,
            epoch,
            last_commit_hash,
            self._event,
        )

    def begin_block(self, branch: Branch, *, height: int, time_ms: int, last_commit_hash: bytes) -> BlockContext:
        """Let time move on; returns the context for the block's entries."""
        self._events.clear()
        clock = get_clock(branch)
        step = min(max(0, time_ms - clock.time_ms), self._longest_step_ms())
        epoch = epochs.epoch_at(self.genesis, time_ms)
        context = self.context(
            height=height,
            time_ms=time_ms,
            witness_ms=clock.witness_ms + step,
            epoch=max(epoch, clock.epoch),
            last_commit_hash=last_commit_hash,
        )
        since = clock.epoch_since_ms
        chores = clock.chores
        if context.epoch > clock.epoch:
            self._roll(branch, context, previous=clock.epoch)
            since = time_ms
            chores = True
        if chores:
            more_sessions = sessions.finish_sessions(branch, context, uploads.abort_upload)
            chores = replay.forget(branch, context) or more_sessions
        placing.decide_placements(branch, context)
        monitor_due = clock.monitor_due_ms
        if clock.witness_ms >= monitor_due:
            # Judged by the time of the block before: what holders said since then is in this very block.
            monitor.run(branch, structs.replace(context, witness_ms=clock.witness_ms))
            monitor_due = clock.witness_ms + monitor.round_ms(context)
        CLOCK.set(
            branch,
            b"",
            Clock(height, time_ms, context.witness_ms, context.epoch, since, monitor_due, chores),
        )
        return context

    def deliver(self, branch: Branch, entry: Entry, name: bytes, context: BlockContext) -> EntryResult:
        """Apply one entry whose author's signature is right; `name` is its hash. A refused one leaves no trace."""
        self._events.clear()
        attempt = branch.branch()
        try:
            key = replay.check(attempt, context, entry.request)
            _HANDLERS[type(entry.request.body)](attempt, context, entry, name)
        except MetaError as error:
            return EntryResult(error.code, error.sentence[:1024], tuple(self._events[:MAX_EVENTS]))
        attempt.set(key, replay.USED)
        attempt.merge()
        return EntryResult("ok", "", tuple(self._events[:MAX_EVENTS]))

    def end_block(self, branch: Branch) -> tuple[Validator, ...]:
        """Check that no ozone appeared or vanished; the authorities that vote from height + 2 on."""
        ozone.check_conserved(branch)
        voters = tuple(Validator(a.address, a.public_key, 1) for a in outbox.authorities(branch))
        if not voters:
            raise InvariantBroken("no meta node is left active; the chain must never remove the last one")
        return voters

    def _roll(self, branch: Branch, context: BlockContext, *, previous: int) -> None:
        beacon.roll(branch, context, epoch=context.epoch, previous=previous)
        epochs.close_epoch(branch, context, context.epoch - 1)
        sessions.expire_sessions(branch, context)
        uploads.forget_finished(branch, context)
        index.forget_gone(branch, context)
        disputes.release_locked(branch, context)
        monitor.forget_findings(branch, context)

    def _longest_step_ms(self) -> int:
        """See rooms.Clock: longer silence of the whole layer is not the holders'."""
        return max(
            milliseconds(self.genesis.meta.status_seconds), 2 * milliseconds(self.genesis.meta_consensus.block_seconds)
        )

    def _event(self, kind: str, attributes: tuple[tuple[str, str], ...]) -> None:
        self._events.append(Event(kind, tuple((name, value[:4096]) for name, value in attributes)))


def get_clock(reader: Reader) -> Clock:
    """What the last block knew."""
    clock = CLOCK.get(reader, b"")
    if clock is None:
        raise InvariantBroken("the state has no clock; it was not initialised from a genesis file")
    return clock


def has_pending_placements(reader: Reader) -> bool:
    """Whether a lottery waits for further blocks."""
    return next(iter(PENDING.items(reader)), None) is not None


def work_left(reader: Reader) -> bool:
    """Whether a block is wanted although no entry waits: lotteries to draw, or chores of the last epoch roll."""
    return get_clock(reader).chores or has_pending_placements(reader)


def _wallet(entry: Entry) -> bytes:
    author = entry.request.author
    if len(author) != WALLET_KEY_BYTES:
        raise MetaError("signature", "this entry is signed by a wallet; sign it with the wallet's key")
    return author_address(author)


def _node(entry: Entry) -> bytes:
    author = entry.request.author
    if len(author) == WALLET_KEY_BYTES:
        raise MetaError("signature", "this entry is signed by a node; sign it with the node's key")
    return author_address(author)


def _open_session(branch: Branch, context: BlockContext, entry: Entry, name: bytes) -> None:
    body: OpenSession = entry.request.body  # type: ignore[assignment]
    sessions.open_session(branch, context, _wallet(entry), body, name)


def _remove_file(branch: Branch, context: BlockContext, entry: Entry, _name: bytes) -> None:
    body: RemoveFile = entry.request.body  # type: ignore[assignment]
    index.remove_file(branch, context, _wallet(entry), body)


def _close_session(branch: Branch, context: BlockContext, entry: Entry, _name: bytes) -> None:
    author = entry.request.author
    wallet = author_address(author) if len(author) == WALLET_KEY_BYTES else b""
    sessions.close_session(branch, context, author, wallet, entry.request.body)  # type: ignore[arg-type]


def _node_status(branch: Branch, context: BlockContext, entry: Entry, _name: bytes) -> None:
    body: NodeStatus = entry.request.body  # type: ignore[assignment]
    holder = holders.report_status(branch, context, _node(entry), body)
    if body.drops_done:
        index.finish_drops(branch, holder.address, body.drops_done)
    monitor.consider(branch, context, holder)


Handler = Callable[[Branch, BlockContext, Entry, bytes], None]


def _by_session(handler: Callable[..., None]) -> Handler:
    return lambda branch, context, entry, _name: handler(branch, context, entry.request.author, entry.request.body)


def _by_node(handler: Callable[..., None]) -> Handler:
    return lambda branch, context, entry, _name: handler(branch, context, _node(entry), entry.request.body)


_HANDLERS: dict[type, Handler] = {
    OpenSession: _open_session,
    Allot: _by_session(sessions.allot),
    CloseSession: _close_session,
    Place: _by_session(placing.place),
    UploadReceipts: _by_session(receipts.upload_receipts),
    CompleteUpload: _by_session(receipts.complete),
    AbortUpload: _by_session(uploads.abort_by_session),
    RemoveFile: _remove_file,
    Dispute: _by_session(disputes.dispute),
    NodeStatus: _node_status,
    DownloadReceipts: _by_node(receipts.download_receipts),
    RepairReceipts: _by_node(repair.repair_receipts),
    ChainBlock: _by_node(bridge.chain_block),
    BeaconCommit: _by_node(beacon.commit),
    BeaconReveal: _by_node(beacon.reveal),
    ActionSignature: _by_node(outbox.sign),
    PossessionFailure: _by_node(monitor.possession_failure),
}
