"""The voters of one height: who, with which key and weight, in an order everybody agrees on.

A set is immutable and named by its hash, which headers carry for their own and the next height. The proposer of
(height, round) is a pure function of (set, height, round), so nobody has to remember who proposed before: the k-th
turn (k = height + round) lands on the weight line at offset + k/phi mod 1. Multiples of the golden ratio fill
the line more evenly than anything else, so each validator's share of turns is its share of the weight, over short
runs too, and consecutive rounds reach every honest validator soon instead of with luck.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from blake3 import blake3

from stratos.bft.quorum import is_quorum
from stratos.wire import limits
from stratos.wire.block import Validator
from stratos.wire.codec import encode

MAX_TOTAL_WEIGHT = 2**62
_GOLDEN_64 = 0x9E3779B97F4A7C15
_MASK_64 = 2**64 - 1


class ValidatorSetError(ValueError):
    """A list of validators that cannot be a set: empty, too long, twice the same member, weight out of range."""


class ValidatorSet:
    """Validators sorted by address, with their hash, total weight and index by address."""

    __slots__ = ("_ends", "_index", "_offset", "hash", "total", "validators")

    def __init__(self, validators: Iterable[Validator]) -> None:
        members = tuple(sorted(validators, key=lambda validator: validator.address))
        if not 1 <= len(members) <= limits.MAX_VALIDATORS:
            raise ValidatorSetError(f"a validator set has 1 to {limits.MAX_VALIDATORS} members, not {len(members)}")
        for validator in members:
            if validator.weight < 1:
                raise ValidatorSetError(
                    f"validator {validator.address.hex()} has weight {validator.weight}; leave it out instead"
                )
        self._index = {validator.address: position for position, validator in enumerate(members)}
        keys = {validator.public_key for validator in members}
        if len(self._index) != len(members) or len(keys) != len(members):
            raise ValidatorSetError(f"a validator set of {len(members)} lists a member twice; merge their weights")
        self._ends = list(accumulate(validator.weight for validator in members))
        self.total = self._ends[-1]
        if self.total > MAX_TOTAL_WEIGHT:
            raise ValidatorSetError(f"total weight {self.total} is over 2**62; use a larger unit of power")
        self.validators = members
        self.hash: bytes = blake3(encode(members)).digest()
        self._offset = int.from_bytes(self.hash[:8], "big")

    def __len__(self) -> int:
        return len(self.validators)

    def __getitem__(self, index: int) -> Validator:
        return self.validators[index]

    def __iter__(self) -> Iterator[Validator]:
        return iter(self.validators)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ValidatorSet) and other.hash == self.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"ValidatorSet({len(self)} members, weight {self.total}, {self.hash.hex()[:8]})"

    def index_of(self, address: bytes) -> int | None:
        """Position of the validator with this address, None when it does not vote."""
        return self._index.get(address)

    def proposer_index(self, height: int, round_number: int) -> int:
        """Index of the one validator that may propose in (height, round)."""
        turn = (self._offset + (height + round_number) * _GOLDEN_64) & _MASK_64
        return bisect_right(self._ends, turn * self.total >> 64)

    def proposer(self, height: int, round_number: int) -> Validator:
        """The one validator that may propose in (height, round)."""
        return self.validators[self.proposer_index(height, round_number)]

    def is_quorum(self, weight: int) -> bool:
        """More than two thirds of this set's weight."""
        return is_quorum(weight, self.total)
