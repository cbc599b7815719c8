"""Votes of one height: tallies per round and kind, what is worth knowing about later rounds, proof of equivocation.

Only votes with a checked signature enter. The first vote of a validator for a (round, kind) counts; a different second
one is never counted but returned as evidence, once per validator and height. Memory is bounded whatever peers
send: rounds `current - PAST_ROUNDS .. current + AHEAD_ROUNDS` keep their votes, beyond them only the highest round of
each validator is remembered, which is what the skip-round rule needs (the round that more than a third of the weight
has reached).
"""

from msgspec import Struct

from stratos.bft.quorum import has_honest
from stratos.bft.signing import SignatureCheck, vote_bytes
from stratos.bft.validator_set import ValidatorSet
from stratos.wire.block import PREVOTE, PrecommitSignature, Vote

PAST_ROUNDS = 8
AHEAD_ROUNDS = 2


class VoteSet:
    """Votes of one kind in one round, with running weights."""

    __slots__ = ("_by_hash", "_validators", "has_quorum", "majority", "seen", "votes", "weight")

    def __init__(self, validators: ValidatorSet) -> None:
        self._validators = validators
        self._by_hash: dict[bytes, int] = {}
        self.votes: dict[int, Vote] = {}
        self.seen = 0
        """Bitmap of the validators whose vote is here."""
        self.weight = 0
        self.has_quorum = False
        """More than 2/3 of the weight voted, for whatever."""
        self.majority: bytes | None = None
        """The block hash (or NIL_HASH) with more than 2/3 of the weight."""

    def add(self, vote: Vote) -> None:
        """Count a vote whose signature is right and whose validator has none here yet."""
        index = vote.index
        if index in self.votes:
            raise ValueError(f"validator {index} already has a vote in round {vote.round}; compare before adding")
        self.votes[index] = vote
        self.seen |= 1 << index
        weight = self._validators[index].weight
        self.weight += weight
        tally = self._by_hash[vote.block_hash] = self._by_hash.get(vote.block_hash, 0) + weight
        if not self.has_quorum and self._validators.is_quorum(self.weight):
            self.has_quorum = True
        if self.majority is None and self._validators.is_quorum(tally):
            self.majority = vote.block_hash

    def signatures(self, block_hash: bytes) -> tuple[PrecommitSignature, ...]:
        """Signatures of the votes for `block_hash`, by index: the body of a certificate or polka."""
        return tuple(
            PrecommitSignature(index, self.votes[index].signature)
            for index in sorted(self.votes)
            if self.votes[index].block_hash == block_hash
        )


class RoundVotes(Struct):
    """Both vote sets of one round."""

    prevotes: VoteSet
    precommits: VoteSet

    def of(self, kind: int) -> VoteSet:
        return self.prevotes if kind == PREVOTE else self.precommits


class Equivocation(Struct, frozen=True):
    """Two correctly signed different votes of one validator for one (height, round, kind)."""

    validator: bytes
    vote_a: Vote
    vote_b: Vote


class HeightVotes:
    """All votes known of one height, bounded."""

    def __init__(self, height: int, validators: ValidatorSet, *, layer: str, genesis_hash: bytes) -> None:
        self.height = height
        self.validators = validators
        self.highest = [-1] * len(validators)
        """Highest round in which each validator was seen to vote."""
        self.top = -1
        """The highest of them."""
        self._layer = layer
        self._genesis_hash = genesis_hash
        self._rounds: dict[int, RoundVotes] = {}
        self._base = 0
        self._accused: set[int] = set()
        self._messages: dict[tuple[int, int, bytes], bytes] = {}

    def round(self, number: int) -> RoundVotes:
        """Vote sets of a round (made when first asked for)."""
        votes = self._rounds.get(number)
        if votes is None:
            votes = self._rounds[number] = RoundVotes(VoteSet(self.validators), VoteSet(self.validators))
        return votes

    def rounds(self) -> list[int]:
        """Rounds with vote sets, ascending."""
        return sorted(self._rounds)

    def message(self, kind: int, round_number: int, block_hash: bytes) -> bytes:
        """Signed bytes of a vote, computed once for all voters."""
        key = (kind, round_number, block_hash)
        message = self._messages.get(key)
        if message is None:
            if len(self._messages) >= 64:
                self._messages.clear()
            message = self._messages[key] = vote_bytes(
                self._genesis_hash,
                layer=self._layer,
                kind=kind,
                height=self.height,
                round_number=round_number,
                block_hash=block_hash,
            )
        return message

    def check(self, vote: Vote) -> SignatureCheck:
        """The signature check a wanted vote needs."""
        message = self.message(vote.kind, vote.round, vote.block_hash)
        return SignatureCheck(self.validators[vote.index].public_key, message, vote.signature)

    def keeps(self, round_number: int) -> bool:
        """Whether votes of this round are kept, not only noticed."""
        return self._base - PAST_ROUNDS <= round_number <= self._base + AHEAD_ROUNDS

    def wants(self, vote: Vote) -> bool:
        """Whether a vote could change anything here: worth a signature check."""
        index = vote.index
        if vote.height != self.height or index >= len(self.validators):
            return False
        if not self.keeps(vote.round):
            return vote.round > self._base and vote.round > self.highest[index]
        votes = self._rounds.get(vote.round)
        known = votes.of(vote.kind).votes.get(index) if votes is not None else None
        if known is None:
            return True
        return known.block_hash != vote.block_hash and index not in self._accused

    def add(self, vote: Vote) -> Equivocation | None:
        """Take in a wanted vote with a right signature; the proof when it contradicts one already here."""
        index = vote.index
        if vote.round > self.highest[index]:
            self.highest[index] = vote.round
            self.top = max(self.top, vote.round)
        if not self.keeps(vote.round):
            return None
        votes = self.round(vote.round).of(vote.kind)
        known = votes.votes.get(index)
        if known is None:
            votes.add(vote)
            return None
        if known.block_hash == vote.block_hash or index in self._accused:
            return None
        self._accused.add(index)
        return Equivocation(self.validators[index].address, known, vote)

    def enter_round(self, number: int) -> None:
        """The replica is in round `number` now: forget votes of rounds long past."""
        self._base = number
        for old in [known for known in self._rounds if known < number - PAST_ROUNDS]:
            del self._rounds[old]

    def round_reached(self) -> int:
        """Highest round that more than a third of the weight has reached: at least one honest validator is there."""
        weight = 0
        for number, index in sorted(((number, index) for index, number in enumerate(self.highest)), reverse=True):
            weight += self.validators[index].weight
            if has_honest(weight, self.validators.total):
                return number
        return -1
