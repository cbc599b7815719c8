"""Machines of an inventory, and what a testnet on them may ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.topology.problems import Problem
from orchestrator.topology.topology import Topology, read_topology

ROOT = Path(__file__).resolve().parents[4]

FLEET = """
all:
  vars:
    ansible_user: ops
    ansible_port: 2222
    ansible_ssh_private_key_file: /keys/one
    ansible_ssh_common_args: -o ProxyJump=jump
    stratos_copies: 2
  children:
    validators: {hosts: {v1: {ansible_host: 192.0.2.1}}}
    meta: {hosts: {m1: {ansible_host: 192.0.2.1}}}
    resource:
      hosts:
        r1: {ansible_host: 192.0.2.2, stratos_cpus: 1.5, stratos_memory: 512 MiB}
        r2: {ansible_host: 192.0.2.3, stratos_address: r2.example.net}
    load: {hosts: {l1: {ansible_host: 192.0.2.9}}}
"""

Read = Callable[..., Topology]


def test_hosts_of_one_address_are_one_machine(read: Read) -> None:
    """Two inventory names with one ansible_host are reached once, under the first of them."""
    topology = read(FLEET)
    assert topology.runtime == "machines"
    first = topology.machines[0]
    assert (first.name, first.leader, first.hosts) == ("192.0.2.1", "v1", ("v1", "m1"))
    assert [machine.name for machine in topology.machines] == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9"]


def test_a_machine_carries_the_way_to_it(read: Read) -> None:
    """User, port, key and jump host are Ansible's own variables; load hosts have them too."""
    for machine in read(FLEET).machines:
        assert (machine.user, machine.port, machine.key_file) == ("ops", 2222, "/keys/one")
        assert machine.ssh_args == "-o ProxyJump=jump"


def test_passwords_are_not_carried(read: Read) -> None:
    """What Ansible needs as a secret stays with Ansible: no record of ours holds it."""
    topology = read(FLEET.replace("ansible_port: 2222", "ansible_port: 2222\n    ansible_password: hidden-word"))
    assert "hidden-word" not in repr(topology)


def test_address_and_limits_are_the_nodes(read: Read) -> None:
    """Others reach a node at stratos_address; limits are bytes and processors."""
    nodes = {node.name: node for node in read(FLEET).nodes}
    assert nodes["r2"].address == "r2.example.net" and nodes["r2"].machine == "192.0.2.3"
    assert (nodes["r1"].cpus, nodes["r1"].memory_bytes) == (1.5, 512 << 20)


def test_copies_never_share_a_machine(read: Read) -> None:
    """The label that keeps copies apart is the machine, unless the inventory names another."""
    assert {node.host for node in read(FLEET).nodes} == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}


def test_two_nodes_on_one_port_are_refused(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """Two nodes of a role that ask for the same ports of one machine are named, with the fix."""
    text = FLEET.replace("r2: {ansible_host: 192.0.2.3", "r2: {stratos_port_slot: 3, ansible_host: 192.0.2.2").replace(
        "stratos_cpus: 1.5", "stratos_port_slot: 3"
    )
    found = problems(text)
    assert any(p.variable == "stratos_port_slot" and "r1 on the same machine" in p.allowed for p in found)


def test_containers_need_local_connections(problems: Callable[[str], tuple[Problem, ...]]) -> None:
    """A container testnet is driven from here; a host that asks for SSH is a mistake."""
    found = problems(FLEET.replace("stratos_copies: 2", "stratos_copies: 2\n    stratos_runtime: docker"))
    assert {problem.variable for problem in found} == {"ansible_connection"}


def test_the_example_fleet_is_valid() -> None:
    """What we hand out as an example is an inventory that passes its own check, without a warning."""
    topology = read_topology(ROOT / "inventories" / "fleet.example.yml")
    assert topology.warnings == ()
    assert len(topology.nodes) == 14 and len(topology.machines) == 16


def test_a_limit_that_nobody_enforces_is_told(read: Read) -> None:
    """Bandwidth is limited in containers of one engine; on machines the inventory's number would promise what is not so."""
    limited = read(FLEET.replace("stratos_cpus: 1.5", "stratos_bandwidth_mbit: 50"))
    assert any("r1 will not be limited" in warning for warning in limited.warnings)
    assert not any("stratos_bandwidth_mbit" in warning for warning in read(FLEET).warnings)
