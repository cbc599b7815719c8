"""An Ansible inventory of machines as we remember them, for those that are in the user's inventory no more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from orchestrator.topology.machine import Machine


def write_inventory(path: Path, machines: Iterable[Machine]) -> Path:
    """Write one host per machine, under its leader's name, mode 0600; the path."""
    hosts = {machine.leader: _variables(machine) for machine in machines}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts}}, sort_keys=True), encoding="utf-8")
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
