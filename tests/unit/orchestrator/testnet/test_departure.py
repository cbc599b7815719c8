"""Who may leave: rules about what stays behind."""

import pytest

from orchestrator.testnet.departure import meta_must_stay, slices_must_stay, validator_must_stay


@pytest.mark.parametrize(("others", "others_up"), [(1, 1), (3, 3), (4, 3), (6, 5)])
def test_a_meta_node_may_leave_others_that_are_a_quorum(others: int, others_up: int) -> None:
    """More than two thirds of those that stay answer."""
    assert meta_must_stay("m1", others=others, others_up=others_up) is None


@pytest.mark.parametrize(
    ("others", "others_up", "reason"), [(0, 0, "last meta node"), (3, 2, "3 must answer and 2 do")]
)
def test_a_meta_node_that_the_others_need_stays(others: int, others_up: int, reason: str) -> None:
    """The last one, and one without which there is no quorum, with the fix."""
    sentence = meta_must_stay("m1", others=others, others_up=others_up)
    assert sentence is not None and reason in sentence


@pytest.mark.parametrize(
    ("stakes", "up", "reason"),
    [
        ({"a": 1, "b": 1, "c": 1}, "abc", None),
        ({"a": 1, "b": 1, "c": 1}, "ab", "66 % of the stake"),
        ({"a": 10, "b": 1}, "a", None),
        ({"a": 10, "b": 1}, "b", "9 % of the stake"),
        ({}, "", "last validator"),
        ({"a": 0}, "a", "last validator"),
    ],
)
def test_a_validator_leaves_only_stake_that_can_go_on(stakes: dict[str, int], up: str, reason: str | None) -> None:
    """More than two thirds of the stake that stays must answer; exactly two thirds is not enough."""
    sentence = validator_must_stay("v1", stakes=stakes, up=frozenset(up))
    assert (sentence is None) == (reason is None)
    assert reason is None or reason in str(sentence)


@pytest.mark.parametrize(("slices", "others", "stays"), [(0, 0, False), (5, 4, False), (5, 3, True)])
def test_slices_leave_only_for_enough_holders(slices: int, others: int, stays: bool) -> None:
    """A node that holds nothing may always go."""
    assert (slices_must_stay("r1", slices=slices, others_active=others, copies=4) is not None) == stays
