"""Addresses of containers: recorded, of one region each, never shared, and free of what is there already."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.networks import ContainerNetworks, assign_networks, overlaps
from orchestrator.plan.plan import Existing
from tests.unit.orchestrator.plan.conftest import Planner, topology

NAMES = st.lists(st.sampled_from([f"n{number}" for number in range(40)]), unique=True, min_size=1)


def everything(_subnet: str) -> bool:
    return True


@given(first=NAMES, second=NAMES, regions=st.sampled_from([["eu"], ["eu", "us"], ["", "eu", "us"]]))
def test_addresses_stay_and_are_never_shared(first: list[str], second: list[str], regions: list[str]) -> None:
    """Whoever joins or leaves: a node that was placed keeps its address, and no two have one."""

    def nodes(names: list[str]) -> list[tuple[str, str]]:
        return [(name, regions[int(name[1:]) % len(regions)]) for name in names]

    before = assign_networks(ContainerNetworks(), nodes(first), hint="x", is_free=everything)
    after = assign_networks(before, nodes(second), hint="x", is_free=everything)
    again = {name: before.address(name, region) for name, region in nodes(first)}
    assert again == {name: after.address(name, region) for name, region in nodes(first)}
    addresses = [after.address(name, region) for name, region in nodes(sorted({*first, *second}))]
    assert len(set(addresses)) == len(addresses)
    subnets = [ipaddress.ip_network(subnet) for subnet in after.subnets.values()]
    assert not any(one.overlaps(other) for one in subnets for other in subnets if one is not other)


def test_a_subnet_that_is_in_use_is_passed_over() -> None:
    """The judge is asked until it agrees; without a free one there is a sentence."""
    refused: list[str] = []

    def third(subnet: str) -> bool:
        refused.append(subnet)
        return len(refused) == 3

    networks = assign_networks(ContainerNetworks(), [("a", "")], hint="x", is_free=third)
    assert networks.subnets == {"default": refused[-1]}
    assert len(set(refused)) == 3
    with pytest.raises(EnvironmentFault, match="no subnet of"):
        assign_networks(ContainerNetworks(), [("a", "")], hint="x", is_free=lambda _: False)


def test_more_nodes_than_a_subnet_holds_are_refused() -> None:
    """With the way out."""
    with pytest.raises(EnvironmentFault, match="no address left"):
        assign_networks(ContainerNetworks(), [(f"n{n}", "") for n in range(1020)], hint="x", is_free=everything)


@pytest.mark.parametrize(
    ("others", "shared"),
    [
        (["10.0.0.0/8"], True),
        (["10.192.3.128/25"], True),
        (["10.192.4.0/22", "0.0.0.0/0", "fe80::/64", "nonsense"], False),
    ],
)
def test_overlapping_is_sharing_an_address(others: list[str], shared: bool) -> None:
    """A default route shares none, and what is no subnet is nothing."""
    assert overlaps("10.192.0.0/22", others) == shared


def test_a_plan_of_containers_advertises_them_in_their_own_region(planner: Planner) -> None:
    """Genesis, configs and endpoints name the same address; a second plan keeps it without asking what is free."""
    wanted = topology(everywhere={"stratos_runtime": "docker"})
    first = planner(wanted)
    assert [node.config.network_address for node in first.plan.nodes] == [
        f"{first.plan.networks.address(node.name, '')}:{node.config.ports.bulk or node.config.ports.p2p}"
        for node in first.plan.nodes
    ]
    assert {node.config.listen for node in first.plan.nodes} == {"0.0.0.0"}
    second = planner(wanted, Existing(first.ring, first.plan, first.genesis))
    assert second.plan == first.plan
