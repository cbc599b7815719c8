"""The lab as an Ansible inventory: how each machine is reached, and, when asked, nodes spread over the machines. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.lab.records import SSH_PORT, USER, Lab, LabMachine

ROLE_HOSTS = {"validators": "validator", "meta": "meta", "resource": "resource", "load": "load", "monitor": "monitor"}
"""Inventory groups that a fleet knows, and what their hosts are called here: validator1, meta1, …"""

USUAL_COPIES = 4
"""Copies of a slice without `stratos_copies`."""


def ssh_options(known_hosts: Path) -> str:
    """What `ssh` is told: hosts are exactly those whose keys the lab made."""
    path = str(known_hosts)
    if any(character.isspace() for character in path):
        path = f'"{path}"'  # ssh takes an option's value apart by itself, after the shell did
    return shlex.join(["-o", f"UserKnownHostsFile={path}", "-o", "StrictHostKeyChecking=yes"])


def connection(machine: LabMachine, *, key_file: Path, known_hosts: Path) -> dict[str, Any]:
    """Ansible's variables to reach a machine."""
    return {
        "ansible_host": machine.address,
        "ansible_port": SSH_PORT,
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(key_file),
        "ansible_ssh_common_args": ssh_options(known_hosts),
    }


def known_hosts_lines(lab: Lab, host_keys: Mapping[str, str]) -> str:
    """The known_hosts file of a lab; `host_keys` has each machine's public line."""
    return "".join(f"{machine.address} {host_keys[machine.name]}\n" for machine in lab.machines)


def machines_inventory(lab: Lab, *, key_file: Path, known_hosts: Path) -> dict[str, Any]:
    """Every machine by its own name, in no group: to be read beside an inventory that says what they are for."""
    hosts = {machine.name: connection(machine, key_file=key_file, known_hosts=known_hosts) for machine in lab.machines}
    return {"all": {"hosts": hosts}}


def fleet_inventory(
    lab: Lab, groups: Mapping[str, int], variables: Mapping[str, Any], *, key_file: Path, known_hosts: Path
) -> dict[str, Any]:
    """A whole inventory: hosts of each group dealt out to the machines in turn, so each machine gets about as many. Copies
    never share a machine, so where the resource nodes have fewer of them than copies are usual, `stratos_copies` says so."""
    turn = 0
    children: dict[str, Any] = {}
    for group, host in ROLE_HOSTS.items():
        hosts: dict[str, Any] = {}
        for number in range(1, groups.get(group, 0) + 1):
            machine = lab.machines[turn % len(lab.machines)]
            hosts[f"{host}{number}"] = connection(machine, key_file=key_file, known_hosts=known_hosts)
            turn += 1
        if hosts:
            children[group] = {"hosts": hosts}
    holders = min(groups.get("resource", 0), len(lab.machines))
    fewer = {"stratos_copies": holders} if 0 < holders < USUAL_COPIES else {}
    return {"all": {"vars": {**fewer, **variables}, "children": children}}


def render(inventory: dict[str, Any], *, comment: str) -> bytes:
    """The inventory as a YAML file."""
    import yaml

    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return (head + yaml.safe_dump(inventory, sort_keys=False, default_flow_style=False, width=1000)).encode()
