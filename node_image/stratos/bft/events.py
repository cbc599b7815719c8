"""The seam of the consensus core: every event that goes in and every effect that comes out.

`Replica.handle(event, now, wall_ms)` returns effects; a shell carries them out strictly in the order given, because the
order is the safety argument: a WriteWal with `sync` must be on disk before the Broadcast behind it leaves. The
core never reads a clock, a disk or a socket, and never calls the application: long work (executing a block, writing
it to the store) is asked for by an effect and answered by an event, so a shell may run it in threads and the
simulator may run it inline.

Duties of a shell, in full:
- RequestProposal -> Application.propose -> ProposalReady.  RequestVerify -> Application.verify -> Verified.
- CommitBlock -> Application.commit, then block and state into the store in one atomic write -> Committed.
- SetTimeout with the same id replaces the earlier one (one running timer per id).
- WriteWal: append; ReplaceWal: write anew, sync, rename over the old log.
- PeerUp once the link to a validator or follower works, PeerDown when it breaks.
"""

from typing import Protocol

from msgspec import Struct

from stratos.bft.validator_set import ValidatorSet
from stratos.wire.block import Block, Commit, ConsensusMessage, Vote


class BlockTemplate(Struct, frozen=True, kw_only=True):
    """All of a block's header that consensus decides; the application adds entries and roots with `blocks.seal`."""

    layer: str
    genesis_hash: bytes
    height: int
    time_ms: int
    previous_hash: bytes
    last_commit: Commit
    validators_hash: bytes
    next_validators_hash: bytes
    proposer: bytes


class Application(Protocol):
    """The replicated state machine above consensus: deterministic in its arguments and the committed blocks.

    `propose` and `verify` execute the block on a fork of the committed state and remember the fork by block hash
    (several may be pending for one height); `commit` keeps one fork and drops the others.
    """

    def propose(self, template: BlockTemplate) -> Block:
        """Choose entries, execute them and return the block whose header carries the roots after execution."""
        ...

    def verify(self, block: Block) -> str | None:
        """Execute `block`; None when every root in its header is right, else one sentence with the reason."""
        ...

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        """Make the executed block final (executing it now if it was never seen); the set of height + 2."""
        ...


# Events: what a shell tells the core.


class Start(Struct, frozen=True):
    """First event, once: the bytes of the write-ahead log as found on disk (empty on a new node)."""

    wal: bytes


class Received(Struct, frozen=True):
    """A decoded message of the authenticated peer `peer` (20-byte node address).

    `verified` is True when the shell already checked what `Replica.signature_check(message)` asked for.
    """

    peer: bytes
    message: ConsensusMessage
    verified: bool = False


class Timeout(Struct, frozen=True):
    """The running timer `id` went off."""

    id: int


class ProposalReady(Struct, frozen=True):
    """The block asked for by RequestProposal of (height, round), already executed by the local application."""

    height: int
    round: int
    block: Block


class Verified(Struct, frozen=True):
    """Answer to RequestVerify: `error` None when the block executed to the roots in its header."""

    block_hash: bytes
    error: str | None


class Committed(Struct, frozen=True):
    """The application has made the block of `height` final; `validators` is the set of height + 2.

    `work` tells whether entries are still waiting. `durable` is False when the atomic write of block and state still
    runs: then a `Durable(height)` must follow, and the write-ahead log keeps what a crash before it would need.
    """

    height: int
    validators: ValidatorSet
    work: bool = False
    durable: bool = True


class Durable(Struct, frozen=True):
    """Block and state of `height` are on disk."""

    height: int


class WorkAvailable(Struct, frozen=True):
    """Entries wait to be ordered: a block is due `min_block_seconds` after the last one."""


class PeerUp(Struct, frozen=True):
    """Messages can be sent to this peer now."""

    peer: bytes


class PeerDown(Struct, frozen=True):
    """Messages to this peer are lost from now on."""

    peer: bytes


Event = Received | Timeout | ProposalReady | Verified | Committed | Durable | WorkAvailable | PeerUp | PeerDown | Start


# Effects: what the core asks of its shell, to be done in order.


class WriteWal(Struct, frozen=True):
    """Append `data` (already framed); with `sync`, everything appended so far is on disk before the next effect."""

    data: bytes
    sync: bool


class ReplaceWal(Struct, frozen=True):
    """Replace the whole log by `data` atomically (the rest belongs to blocks in the store)."""

    data: bytes


class Broadcast(Struct, frozen=True):
    """Send to every peer that is up."""

    message: ConsensusMessage


class SendTo(Struct, frozen=True):
    """Send to one peer; lost when it is down."""

    peer: bytes
    message: ConsensusMessage


class SetTimeout(Struct, frozen=True):
    """(Re)start timer `id`."""

    id: int
    delay_seconds: float


class RequestProposal(Struct, frozen=True):
    """Build and execute a block on the template, then ProposalReady. A newer request makes this one moot."""

    height: int
    round: int
    template: BlockTemplate


class RequestVerify(Struct, frozen=True):
    """Execute the block, then Verified. Its header fields, certificate, entries root and size are checked already."""

    block_hash: bytes
    block: Block


class CommitBlock(Struct, frozen=True):
    """The block is final: commit it to application and store, then Committed."""

    block_hash: bytes
    block: Block
    commit: Commit


class ReadBlock(Struct, frozen=True):
    """Read the committed block of `height` with its certificate and send it to `peer` as CommittedBlock."""

    peer: bytes
    height: int


class Evidence(Struct, frozen=True):
    """Two correctly signed, different votes of one validator for one (height, round, kind)."""

    validator: bytes
    vote_a: Vote
    vote_b: Vote


class Refused(Struct, frozen=True):
    """A message of `peer` broke a rule: for the log, and for a shell that cuts off repeat offenders."""

    peer: bytes
    reason: str


class Halt(Struct, frozen=True):
    """A block with a valid certificate does not execute here: this node's state is wrong and it must stop, loudly."""

    reason: str


Effect = (
    WriteWal
    | ReplaceWal
    | Broadcast
    | SendTo
    | SetTimeout
    | RequestProposal
    | RequestVerify
    | CommitBlock
    | ReadBlock
    | Evidence
    | Refused
    | Halt
)
