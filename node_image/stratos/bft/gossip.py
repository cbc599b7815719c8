"""Repair of lost messages: say what is here, send exactly what a peer lacks.

In a healthy round nothing of this is sent. A replica that makes no progress tells a few peers (in turn, not all, or a
hundred stuck nodes would flood each other) its height, round and bitmaps of known votes. A peer at the same height
answers with the missing proposal and votes of that round, and with those of its own later round; a peer at a later
height answers with its own status, upon which the laggard asks for blocks.
"""

from collections.abc import Iterator

from stratos.bft.height import HeightState, Step
from stratos.wire.block import PRECOMMIT, PREVOTE, ConsensusMessage, RoundStatus

STATUS_PEERS = 6
"""Peers told when stuck."""
HEARTBEAT_PEERS = 2
"""Peers told now and then although all is well, so that a node cut off without knowing finds out."""
HEARTBEAT_EVERY = 8


def _bitmap(seen: int) -> bytes:
    return seen.to_bytes((seen.bit_length() + 7) // 8, "little")


def status_of(state: HeightState) -> RoundStatus:
    """What this replica has of its current height and round."""
    votes = state.votes.round(state.round)
    return RoundStatus(
        state.height,
        state.round,
        int(state.step),
        state.has_proposal(state.round),
        _bitmap(votes.prevotes.seen),
        _bitmap(votes.precommits.seen),
    )


def missing(state: HeightState, status: RoundStatus) -> Iterator[ConsensusMessage]:
    """Messages of this height that the sender of `status` lacks and this replica has."""
    if status.round > state.round:
        return
    if state.votes.keeps(status.round):
        yield from _missing_of_round(
            state,
            status.round,
            has_proposal=status.has_proposal,
            prevotes=int.from_bytes(status.prevotes, "little"),
            precommits=int.from_bytes(status.precommits, "little"),
        )
    if status.round < state.round and state.step is not Step.NEW:
        yield from _missing_of_round(state, state.round, has_proposal=False, prevotes=0, precommits=0)


def _missing_of_round(
    state: HeightState, number: int, *, has_proposal: bool, prevotes: int, precommits: int
) -> Iterator[ConsensusMessage]:
    if not has_proposal and (proposal := state.proposal_to_send(number)) is not None:
        yield proposal
    votes = state.votes.round(number)
    for kind, known in ((PREVOTE, prevotes), (PRECOMMIT, precommits)):
        vote_set = votes.of(kind)
        lacking = vote_set.seen & ~known
        while lacking:
            bit = lacking & -lacking
            yield vote_set.votes[bit.bit_length() - 1]
            lacking ^= bit


class PeerRing:
    """Peers that are up, in address order, taken in turn."""

    def __init__(self) -> None:
        self._peers: list[bytes] = []
        self._next = 0

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._peers

    def add(self, peer: bytes) -> None:
        if peer not in self._peers:
            self._peers.append(peer)
            self._peers.sort()

    def remove(self, peer: bytes) -> None:
        if peer in self._peers:
            self._peers.remove(peer)

    def take(self, count: int) -> list[bytes]:
        """The next `count` peers in turn (all, when there are no more)."""
        size = len(self._peers)
        if count >= size:
            return list(self._peers)
        start = self._next % size
        self._next = start + count
        return [self._peers[(start + offset) % size] for offset in range(count)]
