"""Which ports a testnet gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.ports import BLOCK_PORTS, SLOTS_PER_BLOCK, PortMap, PortSearch, assign_ports

EPHEMERAL = (32_768, 60_999)


def search(hint: str = "x", *, taken: frozenset[int] = frozenset(), base: int = 0) -> PortSearch:
    return PortSearch(hint=hint, ephemeral=EPHEMERAL, taken=taken, base=base)


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


@given(hint=st.text(max_size=20), count=st.integers(1, 200))
def test_ports_are_distinct_and_outside_the_ephemeral_range(hint: str, count: int) -> None:
    """No node shares a port with another, and no outgoing connection can be given one of them."""
    ports = assign_ports(PortMap(), names(count), search(hint), is_free=lambda port: True)
    used = [first + offset for first in ports.nodes.values() for offset in range(10)]
    assert len(set(used)) == len(used)
    assert all(1024 < port < EPHEMERAL[0] for port in used)


@given(first=st.integers(1, 40), second=st.integers(1, 40))
def test_known_nodes_keep_their_ports(first: int, second: int) -> None:
    """Growing or shrinking a testnet moves nobody."""
    before = assign_ports(PortMap(), names(first), search(), is_free=lambda port: True)
    after = assign_ports(before, names(second), search(), is_free=lambda port: True)
    shared = set(before.nodes) & set(after.nodes)
    assert {name: after.nodes[name] for name in shared} == {name: before.nodes[name] for name in shared}


def test_testnets_side_by_side_do_not_touch() -> None:
    """A block that another testnet recorded is left alone, even if nobody listens there now."""
    one = assign_ports(PortMap(), names(14), search(), is_free=lambda port: True)
    two = assign_ports(PortMap(), names(14), search(taken=frozenset(one.blocks)), is_free=lambda port: True)
    assert abs(one.blocks[0] - two.blocks[0]) >= BLOCK_PORTS


def test_a_busy_port_moves_the_whole_block() -> None:
    """A block is used only when every port that is needed is free."""
    one = assign_ports(PortMap(), names(3), search(), is_free=lambda port: True)
    busy = one.nodes["n2"] + 1
    two = assign_ports(PortMap(), names(3), search(), is_free=lambda port: port != busy)
    assert two.blocks != one.blocks


def test_more_nodes_than_a_block_take_another_one() -> None:
    """Testnets may have more nodes than a block has slots."""
    ports = assign_ports(PortMap(), names(SLOTS_PER_BLOCK + 1), search(), is_free=lambda port: True)
    assert len(ports.blocks) == 2


def test_a_base_that_is_asked_for_is_used_or_refused() -> None:
    """stratos_port_base is an order: the reason is said when it cannot be kept."""
    ports = assign_ports(PortMap(), names(2), search(base=21_000), is_free=lambda port: True)
    assert ports.nodes == {"n0": 21_000, "n1": 21_010}
    with pytest.raises(EnvironmentFault, match="stratos_port_base"):
        assign_ports(PortMap(), names(2), search(base=21_000), is_free=lambda port: port != 21_011)


def test_no_free_block_is_one_sentence() -> None:
    """A full machine is told so, with a way out."""
    with pytest.raises(EnvironmentFault, match="stratosctl down"):
        assign_ports(PortMap(), names(1), search(), is_free=lambda port: False)
