"""Sets of voters and their proposers."""

from collections import Counter

import pytest

from stratos.bft.validator_set import ValidatorSet, ValidatorSetError
from stratos.sim.cluster import sim_key
from stratos.wire.block import Validator


def voters(*weights: int) -> list[Validator]:
    keys = [sim_key(1, "set", index) for index in range(len(weights))]
    return [Validator(key.address, key.public_key, weight) for key, weight in zip(keys, weights, strict=True)]


def test_order_of_the_list_does_not_matter() -> None:
    """Two nodes that list the same voters differently have the same set and hash."""
    members = voters(1, 2, 3, 4)
    assert ValidatorSet(members) == ValidatorSet(reversed(members))
    assert [validator.address for validator in ValidatorSet(members)] == sorted(v.address for v in members)


def test_hash_depends_on_weights() -> None:
    """A set with another weight is another set."""
    assert ValidatorSet(voters(1, 2)).hash != ValidatorSet(voters(1, 3)).hash


@pytest.mark.parametrize("weights", [(), (0,), (1, -1), (2**61, 2**61, 1)])
def test_impossible_sets_are_refused(weights: tuple[int, ...]) -> None:
    """Empty sets, members without weight and totals over 2**62 raise a named error."""
    with pytest.raises(ValidatorSetError):
        ValidatorSet(voters(*weights))


def test_a_member_listed_twice_is_refused() -> None:
    """One key, one vote."""
    [member] = voters(1)
    with pytest.raises(ValidatorSetError, match="twice"):
        ValidatorSet([member, member])


def test_turns_follow_weights() -> None:
    """Over 1,000 heights each validator proposes as often as its weight says, to within 1 %."""
    chosen = ValidatorSet(voters(1, 2, 3, 4))
    turns = Counter(chosen.proposer(height, 0).weight for height in range(1000))
    assert {weight: abs(count - 100 * weight) <= 10 for weight, count in turns.items()} == dict.fromkeys(
        (1, 2, 3, 4), True
    )


def test_every_equal_validator_gets_a_turn_soon() -> None:
    """Among n equals, any 3n rounds in a row contain everybody, so a dead proposer never blocks for long."""
    for count in (1, 4, 7, 31, 100):
        chosen = ValidatorSet(voters(*[1] * count))
        for start in range(50):
            assert {chosen.proposer_index(start, number) for number in range(3 * count)} == set(range(count))


def test_total_weight_may_be_two_to_the_62() -> None:
    """The largest weights still give every turn to somebody."""
    chosen = ValidatorSet(voters(2**61, 2**61))
    assert {chosen.proposer_index(height, 0) for height in range(10)} == {0, 1}
