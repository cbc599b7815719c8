"""A testnet's life through the command line, with real nodes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import SMALL, Tool, eventually

from orchestrator.testnet.control import kill_nodes, start_nodes
from orchestrator.testnet.folder import TestnetFolder
from stratos.client import Client, ObjectToPut


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A tool whose testnet is down, and without processes, at the end."""
    tool = Tool(tmp_path)
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


def test_up_down_up_keeps_the_testnet(tool: Tool) -> None:
    """`up` verifies an upload, twice changes nothing, `down` leaves no process, and the next `up` goes on from there."""
    first = tool.json("up")
    assert (first["changed"], first["started"]) == (4, 4)
    assert first["probe"]["verified"] is True
    assert first["height"] >= 1
    again = tool.json("up")
    assert (again["changed"], again["started"]) == (0, 0)
    status = tool.json("status")
    assert (status["running"], status["total"]) == (4, 4)
    assert {node["health"] for node in status["nodes"]} == {"ok"}
    down = tool.json("down")
    assert len(down["stopped"]) == 4
    eventually(lambda: tool.processes() == [])
    assert tool.json("down")["changed"] == 0
    back = tool.json("up")
    assert back["started"] == 4
    assert back["height"] >= first["height"]


def test_plan_tells_what_up_would_start_and_restart(tool: Tool) -> None:
    """Nothing for a testnet that is as wanted; a node that is down is started, one whose config changes is restarted."""
    assert tool.json("plan")["hosts"][0]["change"] == "new"
    tool.json("up", "--no-probe")
    assert tool.json("plan")["hosts"][0]["change"] == "unchanged"
    kill_nodes(TestnetFolder(tool.root / "net"), ["r2"])
    tool.write(SMALL.replace("{hosts: {v1: }}", "{hosts: {v1: {stratos_log_level: debug}}}"))
    [host] = tool.json("plan")["hosts"]
    assert (host["change"], host["starts"], host["restarts"]) == ("changed", ["r2"], ["v1"])


def test_exec_spawn_raises_the_same_testnet(tool: Tool) -> None:
    """`stratos_spawn: exec` differs in nothing but how processes begin."""
    tool.write(SMALL.replace("    stratos_copies: 1\n", "    stratos_copies: 1\n    stratos_spawn: exec\n"))
    assert tool.json("up")["probe"]["verified"] is True
    assert tool.json("up")["changed"] == 0


def test_one_more_resource_node_joins_without_touching_the_others(tool: Tool) -> None:
    """Adding a host starts only that node, which is registered on the chain, activated by the meta nodes and given slices."""
    tool.json("up")
    before = {node["name"]: node["pid"] for node in tool.json("status")["nodes"]}
    tool.write(SMALL.replace("r[1:2]", "r[1:3]"))
    report = tool.json("up")
    assert [node["name"] for node in report["differences"] if node["kind"] != "unchanged"] == ["r3"]
    assert (report["changed"], report["started"]) == (1, 1)
    nodes = {node["name"]: node for node in tool.json("status")["nodes"]}
    assert {name: nodes[name]["pid"] for name in before} == before
    assert nodes["r3"]["health"] == "ok"
    assert tool.json("up")["changed"] == 0
    home = tool.root / "net" / "nodes" / "r3" / "data" / "slices" / "slices"
    with Client.from_testnet(tool.root / "net") as client:

        def receives_a_slice() -> bool:
            client.put_many([ObjectToPut(name=f"o{number}", data=os.urandom(1_000)) for number in range(20)])
            return any(path.is_file() for path in home.rglob("*"))

        eventually(receives_a_slice)


def test_a_removed_node_leaves_and_its_home_is_kept(tool: Tool) -> None:
    """Removing a host unbonds and stops only that node."""
    tool.json("up")
    tool.write(SMALL.replace("r[1:2]", "r1"))
    report = tool.json("up")
    assert [node["name"] for node in report["differences"] if node["kind"] == "removed"] == ["r2"]
    assert any("r2 removed" in note for note in report["notes"])
    assert (tool.root / "net" / "removed" / "r2" / "node.key").exists()
    assert [node["name"] for node in tool.json("status")["nodes"] if node["whose"] == "ours"] == ["v1", "m1", "r1"]


def test_killed_nodes_come_back(tool: Tool) -> None:
    """The supervisor restarts a node that dies, and status counts it."""
    tool.json("up")
    victim = next(node for node in tool.json("status")["nodes"] if node["name"] == "m1")
    os.kill(victim["pid"], signal.SIGKILL)

    def back() -> bool:
        node = next(node for node in tool.json("status")["nodes"] if node["name"] == "m1")
        return node["pid"] not in (0, victim["pid"]) and node["health"] == "ok" and node["restarts"] == 1

    eventually(back)


def test_single_nodes_are_killed_and_started(tool: Tool) -> None:
    """A node that is killed on purpose stays down until it is started; nobody else is touched, and `up` brings it back too."""
    tool.json("up", "--no-probe")
    folder = TestnetFolder(tool.root / "net")
    before = {node["name"]: node["pid"] for node in tool.json("status")["nodes"]}
    assert kill_nodes(folder, ["r1"]) == {"r1"}
    states = {node["name"]: node for node in tool.json("status")["nodes"]}
    assert (states["r1"]["state"], states["r1"]["pid"]) == ("stopped", 0)
    assert start_nodes(folder, ["r1"]) == {"r1"}
    assert kill_nodes(folder, ["r2"]) == {"r2"}
    report = tool.json("up")
    assert (report["changed"], report["started"]) == (1, 1)
    after = {node["name"]: node["pid"] for node in tool.json("status")["nodes"]}
    assert {name: after[name] == pid for name, pid in before.items()} == {
        "v1": True,
        "m1": True,
        "r1": False,
        "r2": False,
    }


def test_a_frozen_node_goes_on_where_it_was(tool: Tool) -> None:
    """`node pause` freezes and says so, `stats` still answers, and both `unpause` and `up` let it go on; a name is needed."""
    tool.json("up", "--no-probe")
    assert tool.json("node", "pause", "r1", "m1")["changed"] == ["m1", "r1"]
    states = {node["name"]: node["state"] for node in tool.json("status")["nodes"]}
    assert states == {"v1": "running", "m1": "paused", "r1": "paused", "r2": "running"}
    assert set(tool.json("node", "stats")["nodes"]) == set(states)
    assert tool.json("node", "unpause", "r1")["changed"] == ["r1"]
    assert tool.json("up", "--no-probe")["started"] == 1
    assert {node["state"] for node in tool.json("status")["nodes"]} == {"running"}
    refused = tool.run("node", "stop")
    assert refused.returncode == 2 and "needs the names of nodes" in refused.stderr


def test_two_testnets_side_by_side(tool: Tool) -> None:
    """Two inventories are two testnets with their own ports; one's `down` does not touch the other."""
    other = Tool(tool.inventory.parent)
    other.inventory = tool.inventory.with_name("other.yml")
    other.write(SMALL)
    first, second = tool.json("up"), other.json("up")
    assert not set(first["endpoints"].values()) & set(second["endpoints"].values())
    assert len(tool.json("down")["stopped"]) == 4
    assert other.json("status")["running"] == 4
    assert other.run("down", "--purge").returncode == 0


def test_the_environment_is_explained(tool: Tool) -> None:
    """A port in use, a broken inventory and an unknown node are one sentence with a fix and their exit code."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        base = stranger.getsockname()[1] - 1
        tool.write(SMALL.replace("stratos_copies: 1", f"stratos_copies: 1\n    stratos_port_base: {base}"))
        refused = tool.run("up")
    assert refused.returncode == 3
    assert "stratos_port_base" in refused.stderr
    assert "Traceback" not in refused.stderr
    tool.write(SMALL.replace("stratos_copies: 1", "stratos_copies: many"))
    refused = tool.run("up")
    assert refused.returncode == 2
    assert "stratos_copies = 'many'" in refused.stderr
    tool.write(SMALL)
    refused = tool.run("logs", "nobody")
    assert refused.returncode == 2
    assert "stratosctl up" in refused.stderr
    eventually(lambda: tool.processes() == [])


def test_a_second_orchestrator_is_refused(tool: Tool) -> None:
    """While one process changes a testnet, another one is told who does."""
    from orchestrator.testnet.lock import hold_testnet

    with hold_testnet(tool.root, "net"):
        refused = tool.run("up")
    assert refused.returncode == 3
    assert f"process {os.getpid()} is changing testnet net" in refused.stderr


def test_logs_are_merged_by_time(tool: Tool) -> None:
    """`logs --json` gives every node's lines in one order."""
    tool.json("up", "--no-probe")
    done = tool.run("logs", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["node"] for line in lines} == {"v1", "m1", "r1", "r2"}
    times = [line["time"] for line in lines if "time" in line]
    assert times == sorted(times)
