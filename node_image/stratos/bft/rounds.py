"""The rules of the algorithm: from what is known about a height to the next thing to do, and nothing else.

These are the `upon` rules of Tendermint (arXiv 1807.04938, algorithm 1; line numbers below), asked again and again
until none applies. Two rules are sharper than there, both harmless to safety: a quorum of nil precommits ends the
round at once, and a certificate from a peer decides like own votes. Timeouts are the replica's business; it calls
`prevote_at_timeout` and so on through the same actions.
"""

from msgspec import Struct

from stratos.bft.height import HeightState, Status, Step
from stratos.bft.wal import LockRecord
from stratos.wire.block import NIL_HASH


class CastPrevote(Struct, frozen=True):
    block_hash: bytes


class CastPrecommit(Struct, frozen=True):
    """Precommit nil."""


class AcceptPolka(Struct, frozen=True):
    """A quorum of prevotes for a valid block in this round: it becomes the valid block; with `lock`, lock and precommit."""

    block_hash: bytes
    lock: bool


class EnterRound(Struct, frozen=True):
    round: int


class WaitPrevotes(Struct, frozen=True):
    """A quorum prevoted without agreeing: give the rest a moment."""


class WaitPrecommits(Struct, frozen=True):
    """A quorum precommitted without deciding: give the rest a moment."""


class Decide(Struct, frozen=True):
    """The block is final and executed; by own votes of `round`, or by a peer's certificate (None)."""

    block_hash: bytes
    round: int | None


class Diverged(Struct, frozen=True):
    """A final block does not execute here."""

    block_hash: bytes


Action = CastPrevote | CastPrecommit | AcceptPolka | EnterRound | WaitPrevotes | WaitPrecommits | Decide | Diverged


class Rules:
    """Tendermint's rules. A class only so that the mutation checks of the simulator can break one by a subclass."""

    def next(self, state: HeightState) -> Action | None:
        """The next thing to do, None when only a new event can help."""
        if state.step is Step.NEW:
            return None
        return self.decision(state) or self.skip(state) or self.vote(state) or self.wait(state)

    def decision(self, state: HeightState) -> Action | None:
        """Lines 49-54: a quorum of precommits of any round, or a certificate, decides."""
        if state.certified is not None:
            block_hash, round_number = state.certified[0], None
        elif state.decided is not None:
            round_number, block_hash = state.decided
        else:
            return None
        status = state.status_of(block_hash)
        if status is Status.VALID:
            return Decide(block_hash, round_number)
        if status is Status.INVALID:
            return Diverged(block_hash)
        return None

    def skip(self, state: HeightState) -> Action | None:
        """Line 55: more than a third of the weight is in a later round."""
        if state.votes.top <= state.round:
            return None
        reached = state.votes.round_reached()
        return EnterRound(reached) if reached > state.round else None

    def vote(self, state: HeightState) -> Action | None:
        """Lines 22-46: prevote on the proposal, precommit on a polka."""
        if state.step is Step.PROPOSE:
            choice = self.prevote(state)
            return CastPrevote(choice) if choice is not None else None
        polka = state.votes.round(state.round).prevotes.majority
        if polka is None:
            return None
        if polka == NIL_HASH:
            return CastPrecommit() if state.step is Step.PREVOTE else None
        if not state.polka_seen and state.status_of(polka) is Status.VALID:
            return AcceptPolka(polka, lock=state.step is Step.PREVOTE)
        return None

    def prevote(self, state: HeightState) -> bytes | None:
        """Lines 22-33: what to prevote for this round's proposal, None while there is nothing to say yet."""
        arrival = state.proposals.get(state.round)
        if arrival is None:
            return None
        block_hash = arrival.block_hash
        valid_round = arrival.proposal.valid_round
        if not self.lock_allows(state, block_hash, valid_round):
            return NIL_HASH
        if not arrival.timely and valid_round < 0 and state.locked_hash != block_hash:
            return NIL_HASH
        status = state.status_of(block_hash)
        if status is Status.VALID:
            return block_hash
        return NIL_HASH if status is Status.INVALID else None

    def lock_allows(self, state: HeightState, block_hash: bytes, valid_round: int) -> bool:
        """A lock yields only to the same block or to a polka of its own or a later round."""
        return state.locked_round <= max(valid_round, -1) or state.locked_hash == block_hash

    def lock(self, state: HeightState, block_hash: bytes) -> None:
        """Line 38: lock on a polka's block in this round."""
        state.locked_round = state.round
        state.locked_hash = block_hash

    def keep_valid(self, state: HeightState, block_hash: bytes) -> None:
        """Lines 42-43: the newest block with a polka, to be proposed again if this round fails."""
        state.valid_round = state.round
        state.valid_hash = block_hash
        state.valid_polka = state.votes.round(state.round).prevotes.signatures(block_hash)

    def restore(self, state: HeightState, block_hash: bytes, lock: LockRecord) -> None:
        """The lock and valid block that the log remembers."""
        state.locked_round = state.valid_round = lock.round
        state.locked_hash = state.valid_hash = block_hash
        state.valid_polka = lock.polka

    def wait(self, state: HeightState) -> Action | None:
        """Lines 34-35, 47-48: quorums that do not agree start a timeout, once a round."""
        votes = state.votes.round(state.round)
        if votes.precommits.majority == NIL_HASH:
            return EnterRound(state.round + 1)
        if state.step is Step.PREVOTE and votes.prevotes.has_quorum and not state.prevote_wait:
            return WaitPrevotes()
        if votes.precommits.has_quorum and not state.precommit_wait:
            return WaitPrecommits()
        return None
