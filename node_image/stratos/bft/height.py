"""Everything a replica knows about one undecided height: votes, proposals, blocks, its own step, lock and memory.

Data and questions about it, no decisions: those are `rounds.Rules`. A block is kept once, by hash, with what the
application said about it, because a valid block may be proposed again in a later round. What is kept is bounded:
one proposal per round near the current one, and of blocks only those still proposed, locked, valid or decided.
"""

from enum import IntEnum

from msgspec import Struct

from stratos.bft.validator_set import ValidatorSet
from stratos.bft.votes import PAST_ROUNDS, HeightVotes
from stratos.bft.wal import Memory
from stratos.wire.block import (
    EMPTY_COMMIT,
    NIL_HASH,
    Block,
    Commit,
    CommittedBlock,
    PrecommitSignature,
    Proposal,
)


class Tip(Struct, frozen=True, kw_only=True):
    """The newest committed block and the validator sets around it: where a replica starts from."""

    height: int
    """0 before the first block (initial height - 1)."""
    block_hash: bytes
    time_ms: int
    commit: Commit
    """Its certificate (EMPTY_COMMIT before the first block)."""
    voters: ValidatorSet
    """The set of `height`, which signed the certificate."""
    validators: ValidatorSet
    """The set of height + 1."""
    next_validators: ValidatorSet
    """The set of height + 2."""


def genesis_tip(*, time_ms: int, initial_height: int, validators: ValidatorSet) -> Tip:
    """Where a new network starts: no block yet, the genesis set for the first two heights."""
    return Tip(
        height=initial_height - 1,
        block_hash=NIL_HASH,
        time_ms=time_ms,
        commit=EMPTY_COMMIT,
        voters=validators,
        validators=validators,
        next_validators=validators,
    )


class Step(IntEnum):
    """Where in a round the replica is."""

    NEW = 0
    """The height before is not committed by the application yet."""
    PROPOSE = 1
    PREVOTE = 2
    """Own prevote cast."""
    PRECOMMIT = 3
    """Own precommit cast."""


class Status(IntEnum):
    """What the application said about a block."""

    PENDING = 0
    VALID = 1
    INVALID = 2


class Candidate(Struct):
    """A block of this height whose header fits the chain."""

    block: Block
    status: Status


class Arrival(Struct, frozen=True):
    """A correctly signed proposal; `timely` is the block time rule by the wall clock at arrival."""

    proposal: Proposal
    block_hash: bytes
    timely: bool


class HeightState:
    """One height, from the first message about it to its decision."""

    def __init__(self, height: int, validators: ValidatorSet, *, layer: str, genesis_hash: bytes) -> None:
        self.height = height
        self.validators = validators
        self.votes = HeightVotes(height, validators, layer=layer, genesis_hash=genesis_hash)
        self.memory = Memory()
        self.round = 0
        self.step = Step.NEW
        self.proposals: dict[int, Arrival] = {}
        self.candidates: dict[bytes, Candidate] = {}
        self.wanted: set[bytes] = set()
        """Blocks that have a quorum of votes of some kind and round."""
        self.decided: tuple[int, bytes] | None = None
        """(round, block hash) with a quorum of precommits."""
        self.certified: tuple[bytes, CommittedBlock] | None = None
        """A block with a checked certificate from a peer."""
        self.locked_round = -1
        self.locked_hash: bytes | None = None
        self.valid_round = -1
        self.valid_hash: bytes | None = None
        self.valid_polka: tuple[PrecommitSignature, ...] = ()
        self.polka_seen = False
        """This round's polka is taken in."""
        self.prevote_wait = False
        self.precommit_wait = False

    def enter_round(self, number: int) -> None:
        """Forget what only mattered to rounds long past."""
        self.round = number
        self.step = Step.PROPOSE
        self.polka_seen = self.prevote_wait = self.precommit_wait = False
        self.votes.enter_round(number)
        for old in [known for known in self.proposals if known < number - PAST_ROUNDS]:
            del self.proposals[old]
        kept = {self.locked_hash, self.valid_hash} | self.wanted
        for old, arrival in list(self.proposals.items()):
            if old < number - 1 and arrival.block_hash not in kept:
                del self.proposals[old]
        kept |= {arrival.block_hash for arrival in self.proposals.values()}
        for block_hash in [known for known in self.candidates if known not in kept]:
            del self.candidates[block_hash]

    def status_of(self, block_hash: bytes) -> Status | None:
        """What is known about a block, None when it is not here."""
        candidate = self.candidates.get(block_hash)
        return candidate.status if candidate is not None else None

    def note_majorities(self, round_number: int) -> None:
        """After a vote in this round: remember blocks that got a quorum."""
        votes = self.votes.round(round_number)
        for majority in (votes.prevotes.majority, votes.precommits.majority):
            if majority is not None and majority != NIL_HASH:
                self.wanted.add(majority)
        decision = votes.precommits.majority
        if decision is not None and decision != NIL_HASH and self.decided is None:
            self.decided = (round_number, decision)

    def wanted_in(self, round_number: int) -> bytes | None:
        """The block a quorum of this round voted for, by prevotes or precommits."""
        votes = self.votes.round(round_number)
        for majority in (votes.precommits.majority, votes.prevotes.majority):
            if majority is not None and majority != NIL_HASH:
                return majority
        return None

    def has_proposal(self, round_number: int) -> bool:
        """Whether the block this round is about is here: the one with a quorum if any, else any proposal."""
        wanted = self.wanted_in(round_number)
        if wanted is not None:
            return wanted in self.candidates
        return round_number in self.proposals

    def proposal_to_send(self, round_number: int) -> Proposal | None:
        """The proposal of this round that a lagging peer needs."""
        arrival = self.proposals.get(round_number)
        return arrival.proposal if arrival is not None else None

    def block_of(self, block_hash: bytes) -> Block:
        return self.candidates[block_hash].block
