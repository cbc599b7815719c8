"""When a machine's roles are applied again."""

from __future__ import annotations

from msgspec import structs

from orchestrator.runtimes.provisioning import base_digest
from orchestrator.topology.machine import Machine

MACHINE = Machine(name="h", address="h", connection="ssh", hosts=("v1", "r1"), groups=("validators", "resource"))


def test_the_order_of_groups_in_the_inventory_means_nothing() -> None:
    """An inventory that lists its groups the other way round describes the same machine."""
    turned = structs.replace(MACHINE, hosts=("r1", "v1"), groups=("resource", "validators"))
    assert base_digest("p", MACHINE, [], facts="f") == base_digest("p", turned, [], facts="f")


def test_what_a_machine_is_for_and_knows_counts() -> None:
    """Another group, other playbooks or other facts of the fleet ask for the roles."""
    base = base_digest("p", MACHINE, [], facts="f")
    assert base != base_digest("p", structs.replace(MACHINE, groups=("validators",)), [], facts="f")
    assert base != base_digest("q", MACHINE, [], facts="f")
    assert base != base_digest("p", MACHINE, [], facts="g")
