"""A lab as an Ansible inventory."""

import shlex
from pathlib import Path

import pytest
import yaml

from orchestrator.lab import inventory, keys, records
from orchestrator.topology.inventory import load_inventory
from stratos.wire.genesis import MetaParams

KEY, KNOWN = Path("/labs/tiny/id_ed25519"), Path("/labs/tiny/known_hosts")
LAB = records.new_lab("tiny", machines=2, memory_bytes=0, cpus=0.0, taken=())


def test_hosts_are_checked_strictly_from_the_first_connection() -> None:
    """Every host's arguments name the lab's own known_hosts and refuse anything that is not in it."""
    hosts = inventory.machines_inventory(LAB, key_file=KEY, known_hosts=KNOWN)["all"]["hosts"]
    assert set(hosts) == {"machine1", "machine2"}
    for host in hosts.values():
        arguments = shlex.split(host["ansible_ssh_common_args"])
        assert arguments == ["-o", f"UserKnownHostsFile={KNOWN}", "-o", "StrictHostKeyChecking=yes"]
        assert host["ansible_user"] == "admin"


def test_a_path_with_a_space_stays_one_path_for_ssh() -> None:
    """The shell takes one pair of quotes off, ssh the other."""
    arguments = shlex.split(inventory.ssh_options(Path("/a b/known_hosts")))
    assert arguments[1] == 'UserKnownHostsFile="/a b/known_hosts"'


def test_nodes_are_dealt_out_to_the_machines_in_turn() -> None:
    """Five nodes on two machines are three and two, and each group has its hosts."""
    made = inventory.fleet_inventory(
        LAB, {"validators": 1, "meta": 1, "resource": 3}, {"stratos_replicas": 2}, key_file=KEY, known_hosts=KNOWN
    )["all"]
    children = made["children"]
    assert {group: list(children[group]["hosts"]) for group in children} == {
        "validators": ["validator1"],
        "meta": ["meta1"],
        "resource": ["resource1", "resource2", "resource3"],
    }
    addresses = [host["ansible_host"] for group in children.values() for host in group["hosts"].values()]
    assert addresses == ["10.213.0.11", "10.213.0.12", "10.213.0.11", "10.213.0.12", "10.213.0.11"]
    assert made["vars"] == {"stratos_copies": 2, "stratos_replicas": 2}


@pytest.mark.parametrize(
    ("resource", "said", "copies"), [(3, {}, 2), (1, {}, 1), (3, {"stratos_copies": 4}, 4), (0, {}, None)]
)
def test_copies_are_no_more_than_machines_unless_told(resource: int, said: dict[str, int], copies: int | None) -> None:
    """Two machines hold two copies; what the command line says is what the inventory says."""
    groups = {"validators": 1, "resource": resource}
    made = inventory.fleet_inventory(LAB, groups, said, key_file=KEY, known_hosts=KNOWN)["all"]
    assert made["vars"].get("stratos_copies") == copies


def test_usual_copies_are_those_of_a_genesis() -> None:
    """The number that is known here is the default of the record that decides."""
    assert MetaParams().copies == inventory.USUAL_COPIES


def test_what_is_rendered_is_what_ansible_reads(tmp_path: Path) -> None:
    """The YAML file goes through Ansible's own loader."""
    made = inventory.machines_inventory(LAB, key_file=KEY, known_hosts=KNOWN)
    file = tmp_path / "hosts.yml"
    file.write_bytes(inventory.render(made, comment="one\ntwo"))
    assert yaml.safe_load(file.read_text()) == made
    assert [host.name for host in load_inventory(file).hosts] == ["machine1", "machine2"]


def test_known_hosts_has_each_machine_by_its_address() -> None:
    """A line is an address and the public half of the key that was put into the machine."""
    lines = {machine.name: keys.public_line(keys.new_private_key()) for machine in LAB.machines}
    text = inventory.known_hosts_lines(LAB, lines)
    assert text.splitlines() == [f"10.213.0.11 {lines['machine1']}", f"10.213.0.12 {lines['machine2']}"]
