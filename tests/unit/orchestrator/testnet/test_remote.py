"""Which nodes are meant, how a shell is opened where they run, and what the exit code of many commands is."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.exec import code_of
from orchestrator.errors import BadInput
from orchestrator.plan.plan import Existing, Plan, make_plan
from orchestrator.testnet.choosing import chosen_nodes
from orchestrator.testnet.remote import Outcome, ssh_words
from orchestrator.topology.machine import Machine
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology


@pytest.fixture
def plan() -> Plan:
    made = make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda port: True
    )
    return made.plan


def test_nodes_are_named_singly_by_group_and_by_machine(plan: Plan) -> None:
    """Names add up without doubles in the plan's order; nothing means all; what is not there is named with what is."""
    everyone = [node.name for node in plan.operated]
    assert (
        [node.name for node in chosen_nodes(plan, [])]
        == everyone
        == [node.name for node in chosen_nodes(plan, ["all"])]
    )
    resources = [node.name for node in plan.operated if node.role == "resource"]
    first = everyone[0]
    assert [node.name for node in chosen_nodes(plan, ["resource", resources[0], first])] == [first, *resources]
    machine = plan.operated[0].machine
    assert first in [node.name for node in chosen_nodes(plan, [machine])]
    with pytest.raises(BadInput, match=f"no node 'nobody'; it has {first}"):
        chosen_nodes(plan, ["nobody"])


def test_ssh_goes_the_way_ansible_would() -> None:
    """Arguments of the inventory first, then port, key and user when they are said; this machine needs no ssh."""
    machine = Machine(
        name="192.0.2.1",
        address="192.0.2.1",
        connection="ssh",
        hosts=("v1",),
        groups=(),
        user="ops",
        port=2222,
        key_file="/keys/id",
        ssh_args="-o ProxyJump=hop -o 'UserKnownHostsFile=/a b'",
    )
    assert ssh_words(machine) == [
        *("ssh", "-o", "ProxyJump=hop", "-o", "UserKnownHostsFile=/a b"),
        *("-p", "2222", "-i", "/keys/id", "-l", "ops", "192.0.2.1"),
    ]
    plain = Machine(name="x", address="x", connection="ssh", hosts=("x",), groups=())
    assert ssh_words(plain) == ["ssh", "x"]
    here = Machine(name="x", address="x", connection="local", hosts=("x",), groups=())
    assert ssh_words(here)[0] != "ssh"
    assert Path(ssh_words(here)[0]).name


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((Outcome(node="a", code=7),), 7),
        ((Outcome(node="a"), Outcome(node="b")), 0),
        ((Outcome(node="a"), Outcome(node="b", code=7)), 1),
        ((Outcome(node="a"), Outcome(node="b", problem="b: gone; wait")), 4),
        ((Outcome(node="b", problem="b: gone; wait"),), 3),
    ],
)
def test_one_exit_code_says_it_all(outcomes: tuple[Outcome, ...], code: int) -> None:
    """One node's own, 1 when one of several failed, 4 when some were not reached, 3 when none was."""
    assert code_of(outcomes) == code
