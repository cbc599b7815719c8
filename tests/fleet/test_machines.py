"""The machines around the nodes: ports, packet filter, clock, metrics."""

import json
import socket
import time
import urllib.request
from typing import Any

import pytest

from orchestrator.topology.topology import NodeSpec

pytestmark = [pytest.mark.molecule, pytest.mark.ci]
CLOSED = (2375, 2376, 9, 23)
"""The engine's API, and ports that nothing of ours uses."""
KNOCK = "python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)' %s %s"
WAIT_SECONDS = 60.0
CLOCK_SECONDS = 5.0


def get(url: str) -> str:
    """The body of a plain GET."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def connects(address: str, port: int) -> bool:
    """Whether a TCP connection can be made from here."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def test_ports_of_the_nodes_are_open(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Every port of a node can be reached at the node's address from outside its machine."""
    for node in nodes:
        ports = [port for port in fleet.entry(node)["ports"].values() if port]
        assert ports, node.name
        for port in ports:
            assert connects(node.address, port), f"{node.name} {port}"


def test_numbers_for_operators_are_out_of_others_reach(fleet, topology, nodes: tuple[NodeSpec, ...]) -> None:
    """A resource node's HTTP answers here, where the operator is, and not to another machine, which its bulk port lets in."""
    holders = [node for node in nodes if node.role == "resource"]
    assert holders
    for node in holders:
        other = fleet.machine(next(machine.name for machine in topology.machines if machine.name != node.machine))
        ports = fleet.entry(node)["ports"]
        assert connects(node.address, ports["http"])
        assert other.run(KNOCK, node.address, str(ports["bulk"])).rc == 0
        assert other.run(KNOCK, node.address, str(ports["http"])).rc != 0


def test_nothing_else_is_open(fleet, topology) -> None:
    """The engine listens on no port, nor does anything that we did not ask for."""
    for machine in topology.machines:
        for port in CLOSED:
            assert not connects(machine.address, port), f"{machine.name} {port}"


def test_the_engine_socket_is_for_root(fleet, topology) -> None:
    """Who may use the engine is root on that machine; others may not."""
    for machine in {node.machine for node in topology.nodes}:
        mode = fleet.machine(machine).check_output("stat -L -c %a /var/run/docker.sock")
        assert mode[-1] == "0"
        assert fleet.machine(machine, sudo=False).run("docker ps").rc != 0


def test_the_value_layer_advances(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Each validator's height grows while one looks."""
    for node in nodes:
        if node.role != "validator":
            continue
        url = f"http://{node.address}:{fleet.entry(node)['ports']['http']}/status"
        first = _height(json.loads(get(url)))
        deadline = time.monotonic() + WAIT_SECONDS
        while _height(json.loads(get(url))) <= first:
            assert time.monotonic() < deadline, f"{node.name} stays at height {first}"
            time.sleep(0.2)


def test_metrics_are_served(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Every node tells its metrics in Prometheus' form, on a port of its own where its HTTP is for everybody."""
    for node in nodes:
        ports = fleet.entry(node)["ports"]
        text = get(f"http://{node.address}:{ports['metrics'] or ports['http']}/metrics")
        assert any(line.startswith("stratos_") for line in text.splitlines()), node.name


def test_clocks_agree(fleet, topology) -> None:
    """A machine's clock is within a few seconds of ours: certificates and signatures depend on it."""
    for machine in topology.machines:
        before = time.time()
        there = float(fleet.machine(machine.name).check_output("date +%s.%N"))
        assert before - CLOCK_SECONDS <= there <= time.time() + CLOCK_SECONDS, machine.name


def test_logs_are_in_the_journal_and_without_keys(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """A node's lines are JSON, and nothing in them looks like a private key."""
    for node in nodes:
        lines = fleet.of(node).check_output(
            f"journalctl --quiet --output cat --lines 50 --unit {fleet.entry(node)['unit']}"
        )
        told = [line for line in lines.splitlines() if line.startswith("{")]
        assert told, node.name
        assert all(isinstance(json.loads(line), dict) for line in told), node.name
        assert "PRIVATE KEY" not in lines, node.name


def _height(status: dict[str, Any]) -> int:
    """The height in a status document, wherever it stands."""
    found = status.get("height", status.get("result", {}).get("height", -1))
    return int(found)
