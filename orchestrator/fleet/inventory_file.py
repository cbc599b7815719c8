"""An Ansible inventory of machines as we remember them, for those that are in the user's inventory no more."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from orchestrator.topology.machine import Machine


def write_inventory(path: Path, machines: Iterable[Machine], *, testnet: str) -> Path:
    """Write one host per machine, under its leader's name and in its groups, mode 0600; the path."""
    machines = list(machines)
    hosts = {machine.leader: _variables(machine) for machine in machines}
    groups = sorted({group for machine in machines for group in machine.groups})
    children: dict[str, dict[str, object]] = {
        group: {"hosts": {machine.leader: {} for machine in machines if group in machine.groups}} for group in groups
    }
    text = yaml.safe_dump(
        {"all": {"hosts": hosts, "vars": {"stratos_testnet": testnet}, "children": children}}, sort_keys=True
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)
    return path


def _variables(machine: Machine) -> dict[str, object]:
    given = {
        "ansible_connection": machine.connection,
        "ansible_host": machine.address,
        "ansible_port": machine.port if machine.connection != "local" else None,
        "ansible_user": machine.user,
        "ansible_ssh_private_key_file": machine.key_file,
        "ansible_ssh_common_args": machine.ssh_args,
    }
    return {name: value for name, value in given.items() if value}
