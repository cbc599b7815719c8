"""Thresholds of Byzantine agreement."""

import pytest

from stratos.bft.quorum import has_honest, is_quorum, quorum


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (100, 67)])
def test_quorum_is_two_thirds_and_one_more(count: int, needed: int) -> None:
    """quorum(n) = floor(2n/3) + 1 (protocol 1)."""
    assert quorum(count) == needed


def test_exactly_two_thirds_is_not_a_quorum() -> None:
    """More than two thirds means more, also where a float could not tell."""
    total = 3 * 2**60
    assert not is_quorum(2**61, total)
    assert is_quorum(2**61 + 1, total)


def test_exactly_one_third_may_all_be_liars() -> None:
    """Only more than one third contains somebody honest."""
    assert not has_honest(2**60, 3 * 2**60)
    assert has_honest(2**60 + 1, 3 * 2**60)
