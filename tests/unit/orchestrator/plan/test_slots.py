"""The public ports, and the steps of ten between nodes of one machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.ports import PortMap, SlotRequest, assign_slots
from stratos.wire.config import Ports

ROLES = ("validator", "meta", "resource")


def test_a_machine_of_its_own_has_the_public_ports() -> None:
    """One node of each role on a machine: all have the ports of the public network."""
    ports = assign_slots(PortMap(), [SlotRequest(role, role, "host") for role in ROLES])
    assert ports.ports_of("validator", "validator") == Ports(p2p=26_656, http=1_317, metrics=26_660)
    assert ports.ports_of("meta", "meta").p2p == 8_888
    assert ports.ports_of("resource", "resource").bulk == 18_081


def test_the_second_node_of_a_role_is_ten_higher() -> None:
    """Every port of it, and the next node is ten higher again."""
    ports = assign_slots(PortMap(), [SlotRequest(name, "validator", "host") for name in "abc"])
    assert [ports.ports_of(name, "validator").http for name in "abc"] == [1_317, 1_327, 1_337]


def test_known_slots_stay_when_a_neighbour_leaves() -> None:
    """A node never moves because another one went; the freed slot is taken by the next newcomer."""
    before = assign_slots(PortMap(), [SlotRequest(name, "meta", "host") for name in "abc"])
    after = assign_slots(before, [SlotRequest(name, "meta", "host") for name in "bcd"])
    assert after.slots == {"b": 1, "c": 2, "d": 0}


@given(
    st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from("xyz")), max_size=40),
    st.lists(st.tuples(st.sampled_from(ROLES), st.sampled_from("xyz")), max_size=40),
)
def test_no_two_nodes_of_a_machine_share_a_port(old: list[tuple[str, str]], new: list[tuple[str, str]]) -> None:
    """Whatever came and went before."""
    known = assign_slots(PortMap(), [SlotRequest(f"n{i}", role, place) for i, (role, place) in enumerate(old)])
    asked = [SlotRequest(f"n{i}", role, place) for i, (role, place) in enumerate(new)]
    ports = assign_slots(known, asked)
    taken: set[tuple[str, int]] = set()
    for one in asked:
        mine = ports.ports_of(one.name, one.role)
        for port in filter(None, (mine.p2p, mine.http, mine.bulk, mine.metrics)):
            assert (one.place, port) not in taken
            taken.add((one.place, port))
