"""The participant's inventory: what is filled in is what Ansible and our own rules read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from orchestrator.errors import BadInput
from orchestrator.joining.form import Answers, fill, own_address, stos_text
from orchestrator.topology.topology import read_topology

ANSWERS = Answers(
    network="net",
    testnet="mine",
    network_folder="mine.network",
    runtime="machines",
    role="resource",
    name="resource-home",
    host="",
    address="203.0.113.7",
    region="",
    tier=2,
    disk="2 TiB",
    deposit_wei=1_600 * 10**18,
)


def test_a_machine_of_ones_own(tmp_path: Path) -> None:
    """One resource host by local connection, its tier, disk and deposit as answered; the rest is the network's to say."""
    path = tmp_path / "mine.yml"
    path.write_text(fill(ANSWERS))
    topology = read_topology(path)
    [node] = topology.nodes
    assert (topology.name, topology.runtime, topology.network) == ("mine", "machines", str(tmp_path / "mine.network"))
    assert (node.name, node.role, node.tier, node.address) == ("resource-home", "resource", 2, "203.0.113.7")
    assert (node.disk_bytes, node.deposit_wei, node.connection) == (2 * 1024**4, 1_600 * 10**18, "local")


def test_a_machine_over_ssh(tmp_path: Path) -> None:
    """User, address and port go to Ansible's own variables."""
    path = tmp_path / "mine.yml"
    path.write_text(fill(structs.replace(ANSWERS, host="admin@198.51.100.4:2222", region="eu", role="meta", tier=0)))
    topology = read_topology(path)
    [node], [machine] = topology.nodes, topology.machines
    assert (node.role, node.region, node.connection) == ("meta", "eu", "ssh")
    assert (machine.address, machine.user, machine.port) == ("198.51.100.4", "admin", 2222)


def test_a_validator_has_a_stake_and_no_deposit(tmp_path: Path) -> None:
    """Down to one wei, as the ticket's grant leaves it after fees."""
    path = tmp_path / "mine.yml"
    path.write_text(fill(structs.replace(ANSWERS, role="validator", tier=0, deposit_wei=0, stake_wei=10**21 - 1)))
    [node] = read_topology(path).nodes
    assert (node.role, node.stake_wei, node.deposit_wei) == ("validator", 10**21 - 1, 0)
    assert "tx undelegate" in path.read_text()


@pytest.mark.parametrize("host", ["a b", "admin@", "x@h:99999", "-oProxyCommand=x", "a@b@c", "h\nansible_user: root"])
def test_a_host_that_cannot_be_meant_is_refused(host: str) -> None:
    """Nothing but user, address and port gets into the file."""
    with pytest.raises(BadInput, match="USER@ADDRESS"):
        fill(structs.replace(ANSWERS, host=host))


def test_values_cannot_break_out_of_the_file(tmp_path: Path) -> None:
    """A network's name comes from somebody else; whatever it is, it stays a text."""
    path = tmp_path / "mine.yml"
    path.write_text(fill(structs.replace(ANSWERS, network='x\n  vars: {"stratos_tier": 3}', region="eu # no")))
    with pytest.raises(BadInput, match="stratos_region = 'eu # no'"):
        read_topology(path)


def test_stos_are_exact() -> None:
    """Down to one wei, without a float in between."""
    assert stos_text(800 * 10**18) == "800"
    assert stos_text(10**18 + 1) == "1.000000000000000001"


def test_the_own_address_is_found_without_sending() -> None:
    """Toward this machine it is this machine."""
    assert own_address(("127.0.0.1", 9)) == "127.0.0.1"
    with pytest.raises(BadInput, match="--address"):
        own_address(("no-such-host.invalid", 9))
