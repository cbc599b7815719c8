"""The order of a rolling replacement."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadInput
from orchestrator.plan.rolling import Rollable, meta_batches, resource_batches, validator_batches


def validators(*powers: int) -> list[Rollable]:
    """Validators v0, v1, ... with these powers."""
    return [Rollable(name=f"v{index}", role="validator", power_wei=power) for index, power in enumerate(powers)]


def holders(*regions: str) -> list[Rollable]:
    """Resource nodes r0, r1, ... in these regions."""
    return [Rollable(name=f"r{index}", role="resource", region=region) for index, region in enumerate(regions)]


@given(st.lists(st.integers(1, 10**24), min_size=4, max_size=40))
def test_a_batch_never_holds_a_third_of_the_power(powers: list[int]) -> None:
    """Whatever the stakes: each batch is below a third, at most (n - 1) // 3 strong, and all are replaced once."""
    nodes = validators(*powers)
    power = {node.name: node.power_wei for node in nodes}
    if max(powers) * 3 >= sum(powers):
        with pytest.raises(BadInput, match="--allow-halt"):
            validator_batches(nodes, total_wei=sum(powers), count=len(nodes), allow_halt=False)
        return
    made = validator_batches(nodes, total_wei=sum(powers), count=len(nodes), allow_halt=False)
    assert sorted(name for batch in made for name in batch.names) == sorted(power)
    assert all(3 * sum(power[name] for name in batch.names) < sum(powers) for batch in made)
    assert all(len(batch.names) <= (len(nodes) - 1) // 3 and not batch.halts for batch in made)


def test_three_equal_validators_halt_the_chain() -> None:
    """One of three holds exactly a third: without --allow-halt it is refused, with it the batch says so."""
    with pytest.raises(BadInput, match="v0 halts the chain"):
        validator_batches(validators(5, 5, 5), total_wei=15, count=3, allow_halt=False)
    made = validator_batches(validators(5, 5, 5), total_wei=15, count=3, allow_halt=True)
    assert [batch.names for batch in made] == [("v0",), ("v1",), ("v2",)]
    assert all(batch.halts for batch in made)


def test_outside_validators_count() -> None:
    """Power of others makes a batch of ours lighter: two of seven together, though only three are ours."""
    made = validator_batches(validators(1, 1, 1), total_wei=7, count=7, allow_halt=False)
    assert [len(batch.names) for batch in made] == [2, 1]


def test_meta_nodes_go_one_by_one() -> None:
    """Also when there are many; with three the layer would stop."""
    nodes = [Rollable(name=f"m{index}", role="meta") for index in range(7)]
    assert [batch.names for batch in meta_batches(nodes, count=7, allow_halt=False)] == [(f"m{i}",) for i in range(7)]
    with pytest.raises(BadInput, match="meta layer"):
        meta_batches(nodes[:3], count=3, allow_halt=False)


def test_resource_nodes_go_by_region_and_leave_a_copy() -> None:
    """No batch mixes regions, and none is as large as the number of copies."""
    made = resource_batches(holders("a", "b", "a", "b", "a", "b", "a", "b", "a", "b"), holders=10, copies=4)
    assert [(batch.region, len(batch.names)) for batch in made] == [("a", 3), ("a", 2), ("b", 3), ("b", 2)]


def test_uploads_keep_enough_holders() -> None:
    """With six holders and four copies, two may be away; with four, one at a time is the least there is."""
    assert [len(batch.names) for batch in resource_batches(holders(*"aaaaaa"), holders=6, copies=4)] == [2, 2, 2]
    assert [len(batch.names) for batch in resource_batches(holders(*"aaaa"), holders=4, copies=4)] == [1, 1, 1, 1]


def test_who_is_away_counts_as_being_replaced() -> None:
    """With one of seven away for good, a batch has one validator where it would have two; replaced itself, it is first and alone."""
    nodes = validators(*[1] * 7)
    made = validator_batches(nodes[1:], total_wei=7, count=7, away_wei=1, allow_halt=False)
    assert [len(batch.names) for batch in made] == [1] * 6
    nodes[6] = Rollable(name="v6", role="validator", power_wei=1, away=True)
    made = validator_batches(nodes, total_wei=7, count=7, away_wei=1, allow_halt=False)
    assert [batch.names for batch in made] == [("v6",), ("v0", "v1"), ("v2", "v3"), ("v4", "v5")]


def test_a_meta_node_that_is_away_leaves_no_room() -> None:
    """Three of four authorities are a quorum, two are none."""
    nodes = [Rollable(name=f"m{index}", role="meta") for index in range(4)]
    with pytest.raises(BadInput, match="1 are away already"):
        meta_batches(nodes[1:], count=4, away=1, allow_halt=False)
    back = Rollable(name="m3", role="meta", away=True)
    made = meta_batches([*nodes[:3], back], count=4, away=1, allow_halt=False)
    assert [batch.names for batch in made] == [("m3",), ("m0",), ("m1",), ("m2",)]
