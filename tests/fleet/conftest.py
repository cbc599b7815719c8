"""A fleet on machines, looked at from outside over SSH: the one STRATOS_FLEET_INVENTORY names, or one made here for the session.

Without an engine there is nothing to look at, and the tests say so. The fleet made here is as small as shows everything: three machines
that carry one validator, one meta node and two resource nodes, with limits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from orchestrator.topology.topology import NodeSpec, Topology, read_topology

ROOT = Path(__file__).resolve().parents[2]
_FLEET = (
    "--validators 1 --meta 1 --resource 2 --set stratos_copies=2 --set stratos_hardware_factor=0.005 "
    "--set stratos_block_seconds=1 --set stratos_meta_block_seconds=1 --set stratos_cpus=0.5 --set stratos_memory=512MiB"
)
_MINUTES = 10


def _stratosctl(*words: str, environment: dict[str, str]) -> None:
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", *words]
    done = subprocess.run(
        program, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=_MINUTES * 60, check=False
    )
    assert done.returncode == 0, f"stratosctl {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The inventory of a fleet that is up."""
    named = os.environ.get("STRATOS_FLEET_INVENTORY")
    if named:
        yield Path(named)
        return
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers, so there are no machines: {error}")
    folder = tmp_path_factory.mktemp("fleet")
    lab = f"fleet-{os.getpid()}"
    environment = {**os.environ, "STRATOS_TESTNETS": str(folder / "testnets")}
    file = folder / "fleet.yml"
    try:
        _stratosctl("lab", "create", lab, "--machines", "3", "--prepared", environment=environment)
        words = [*_FLEET.split(), "--set", f"stratos_testnet={lab}", "-o", str(file)]
        _stratosctl("lab", "inventory", lab, *words, environment=environment)
        _stratosctl("up", "-i", str(file), environment=environment)
        yield file
    finally:
        _stratosctl("lab", "destroy", lab, environment=environment)


@pytest.fixture(scope="session")
def topology(inventory: Path) -> Topology:
    """What the inventory says the fleet is."""
    return read_topology(inventory)


@pytest.fixture(scope="session")
def nodes(topology: Topology) -> tuple[NodeSpec, ...]:
    """Every node of the fleet."""
    return topology.nodes


class Fleet:
    """SSH to the machines, one connection per machine, as root through sudo or as the user who logs in."""

    def __init__(self, inventory: Path, topology: Topology, sockets: Path) -> None:
        self.topology = topology
        self._ssh_config = sockets / "ssh_config"
        self._ssh_config.write_text(
            f"Host *\n  ControlMaster auto\n  ControlPath {sockets}/%C\n  ControlPersist 60s\n  BatchMode yes\n"
        )
        self._inventory = inventory
        self._hosts: dict[tuple[str, bool], Host] = {}
        self._records: dict[str, dict[str, Any]] = {}

    def machine(self, name: str, *, sudo: bool = True) -> Host:
        """The machine of that label."""
        machine = next(one for one in self.topology.machines if one.name == name)
        return self._host(machine.hosts[0], sudo)

    def of(self, node: NodeSpec, *, sudo: bool = True) -> Host:
        """The machine that a node is on."""
        return self.machine(node.machine, sudo=sudo)

    def record(self, machine: str) -> dict[str, Any]:
        """What the machine's record says is there."""
        if machine not in self._records:
            file = self.machine(machine).file(f"/etc/stratos/{self.topology.name}/manifest.json")
            self._records[machine] = json.loads(file.content_string)
        return self._records[machine]

    def entry(self, node: NodeSpec) -> dict[str, Any]:
        """A node in its machine's record."""
        return next(entry for entry in self.record(node.machine)["nodes"] if entry["name"] == node.name)

    def container(self, node: NodeSpec) -> dict[str, Any]:
        """The engine's description of a node's container."""
        name = f"stratos-{self.topology.name}-{node.name}"
        found: dict[str, Any] = json.loads(self.of(node).check_output(f"docker inspect {name}"))[0]
        return found

    def _host(self, name: str, sudo: bool) -> Host:
        key = (name, sudo)
        if key not in self._hosts:
            self._hosts[key] = testinfra.get_host(
                f"ansible://{name}?ansible_inventory={self._inventory}&ssh_config={self._ssh_config}"
                + ("&sudo=true" if sudo else "")
            )
        return self._hosts[key]


@pytest.fixture(scope="session")
def fleet(inventory: Path, topology: Topology) -> Iterator[Fleet]:
    """The machines, reached as the inventory says."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as sockets:  # a short path: a socket's name has 108 bytes at most
        yield Fleet(inventory, topology, Path(sockets))
