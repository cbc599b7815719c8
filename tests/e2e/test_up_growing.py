"""One host more or fewer is one host touched: nodes of every role join a running testnet, and leave it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import SMALL, Tool, eventually

from orchestrator.testnet.control import kill_nodes
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.holders import read_holders
from stratos.client import Client, ObjectToPut


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A tool whose testnet is down, and without processes, at the end."""
    tool = Tool(tmp_path)
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


def nodes(tool: Tool) -> dict[str, dict[str, Any]]:
    """What `status` says, by name."""
    return {node["name"]: node for node in tool.json("status")["nodes"]}


def differing(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(node["name"], node["kind"]) for node in report["differences"] if node["kind"] != "unchanged"]


@pytest.mark.parametrize(
    ("more", "newcomer"),
    [("validators: {hosts: {v1: , v2: }}", "v2"), ("meta: {hosts: {m1: , m2: }}", "m2")],
)
def test_one_more_validator_or_meta_node_touches_only_itself(tool: Tool, more: str, newcomer: str) -> None:
    """The newcomer starts, is let in by nodes that have no file about it, catches up, votes; and its layer goes on with it."""
    tool.json("up", "--no-probe")
    before = nodes(tool)
    role = more.partition(":")[0]
    tool.write(SMALL.replace(f"{role}: {{hosts: {{{newcomer[0]}1: }}}}", more))
    report = tool.json("up")
    assert differing(report) == [(newcomer, "added")]
    assert (report["changed"], report["started"]) == (1, 1)
    after = nodes(tool)
    assert {name: after[name]["pid"] for name in before} == {name: node["pid"] for name, node in before.items()}
    assert after[newcomer]["details"]["voting"] is True
    others = "validators" if role == "validators" else "authorities"
    assert {after[name]["details"][others] for name in after if name[0] == newcomer[0]} == {2}
    height = after[newcomer]["height"]
    eventually(lambda: nodes(tool)[newcomer]["height"] > height + 2)
    assert tool.json("up")["changed"] == 0
    # Nobody's file lists it, and it comes back to them after a restart of the whole testnet all the same.
    tool.json("down")
    assert tool.json("up")["probe"]["verified"] is True
    eventually(lambda: nodes(tool)[newcomer]["health"] == "ok")


THREE = SMALL.replace("stratos_copies: 1", "stratos_copies: 2\n    stratos_drain_seconds: 60").replace(
    "r[1:2]", "r[1:3]"
)


def put_files(tool: Tool, count: int) -> list[tuple[str, bytes]]:
    """Handles and contents of fresh files."""
    contents = [os.urandom(40_000) for _ in range(count)]
    with Client.from_testnet(tool.root / "net") as client:
        results = client.put_many([ObjectToPut(name=f"o{at}", data=data) for at, data in enumerate(contents)])
    return [(result.handle, data) for result, data in zip(results, contents, strict=True)]


def read_back(tool: Tool, files: list[tuple[str, bytes]]) -> None:
    with Client.from_testnet(tool.root / "net") as client:
        assert client.get_many([handle for handle, _ in files]) == [data for _, data in files]


def test_a_removed_resource_node_hands_over_its_slices_first(tool: Tool) -> None:
    """Only that node is touched, it unbonds and runs until the others have every copy; then everything can still be read."""
    tool.write(THREE)
    tool.json("up", "--no-probe")
    files = put_files(tool, 30)
    before = nodes(tool)
    tool.write(THREE.replace("r[1:3]", "r[1:2]"))
    report = tool.json("up")
    assert differing(report) == [("r3", "removed")]
    assert report["changed"] == 1
    (note,) = report["notes"]
    assert note.startswith("r3 removed: unbonded on the chain") and "every slice has its copies elsewhere" in note
    after = nodes(tool)
    assert {name: node["pid"] for name, node in before.items() if name != "r3"} == {
        name: node["pid"] for name, node in after.items() if node["whose"] == "ours"
    }
    home = tool.root / "net" / "removed" / "r3"
    assert (home / "node.key").exists() and not (home / "maintenance").exists()
    held = [
        {path.name for path in (tool.root / "net" / "nodes" / name / "data" / "slices" / "slices").rglob("*")}
        for name in ("r1", "r2")
    ]
    assert held[0] == held[1] != set()
    read_back(tool, files)
    assert tool.json("up")["changed"] == 0


def test_a_node_whose_slices_have_no_other_place_goes_on_running(tool: Tool) -> None:
    """It is named with the fix and exit code 4, nothing is lost; with one more holder the same command finishes."""
    tool.write(THREE)
    tool.json("up", "--no-probe")
    files = put_files(tool, 30)
    assert tool.run("maintenance", "on", "r1").returncode == 0
    tool.write(THREE.replace("r[1:3]", "r[1:2]"))
    refused = tool.run("up")
    assert refused.returncode == 4
    assert "r3 goes on running, because r3 holds" in refused.stderr and "add another one first" in refused.stderr
    assert any("r3 left the inventory and runs" in note for note in tool.json("status")["notes"])
    read_back(tool, files)
    assert tool.run("maintenance", "off", "r1").returncode == 0
    assert differing(tool.json("up", "--no-probe")) == [("r3", "removed")]
    read_back(tool, files)


def test_draining_is_waited_for_so_long_and_finished_by_the_next_run(tool: Tool) -> None:
    """At the deadline the node is named and runs; killed in the middle or not, the same command goes on from there."""
    hasty = THREE.replace("stratos_drain_seconds: 60", "stratos_drain_seconds: 1")
    tool.write(hasty)
    tool.json("up", "--no-probe")
    files = put_files(tool, 10)
    tool.write(hasty.replace("r[1:3]", "r[1:2]"))
    tool.run_for(1.0, "up", "--no-probe", "--wait-cooling-off")
    refused = tool.run("up", "--no-probe", "--wait-cooling-off")
    assert refused.returncode == 4
    assert "r3 " in refused.stderr and "goes on running" in refused.stderr
    eventually(lambda: tool.run("up", "--no-probe").returncode == 0)
    assert (tool.root / "net" / "removed" / "r3").exists()
    read_back(tool, files)


def test_validators_and_meta_nodes_leave_a_layer_that_goes_on(tool: Tool) -> None:
    """Each is taken out of its set before it stops; whole layers can be exchanged in one go."""
    grown = SMALL.replace("{v1: }", "{v1: , v2: }").replace("{m1: }", "{m1: , m2: }")
    tool.write(grown)
    tool.json("up", "--no-probe")
    tool.write(grown.replace("v1: , v2:", "v2:").replace("m1: , m2:", "m1:"))
    report = tool.json("up")
    assert differing(report) == [("m2", "removed"), ("v1", "removed")]
    assert report["probe"] is None and report["changed"] == 2
    left = nodes(tool)
    assert left["v2"]["details"]["validators"] == left["m1"]["details"]["authorities"] == 1
    height = left["v2"]["height"], left["m1"]["height"]
    eventually(
        lambda: (now := nodes(tool)) and now["v2"]["height"] > height[0] + 2 and now["m1"]["height"] > height[1] + 2
    )
    tool.write(SMALL.replace("{v1: }", "{v3: }").replace("{m1: }", "{m3: }"))
    exchanged = tool.json("up", "--no-probe")
    assert set(differing(exchanged)) >= {("v3", "added"), ("m3", "added"), ("m1", "removed"), ("v2", "removed")}
    assert nodes(tool)["v3"]["details"]["voting"] and nodes(tool)["m3"]["details"]["voting"]
    assert tool.json("up", "--no-probe")["changed"] == 0


def test_nodes_find_entry_points_that_no_file_names(tool: Tool) -> None:
    """A resource node that was configured with one meta node goes on when that one dies, because it has learned the others."""
    tool.json("up", "--no-probe")
    tool.write(SMALL.replace("{m1: }", '{"m[1:4]": }'))
    assert tool.json("up", "--no-probe")["changed"] == 3
    folder = TestnetFolder(tool.root / "net")
    learned = "meta nodes learned"
    eventually(lambda: all(learned in (folder.nodes / name / "node.log").read_text() for name in ("r1", "r2")))
    kill_nodes(folder, ["m1"])
    killed_ms = time.time_ns() // 1_000_000
    metas = [node.http_address for node in folder.need_plan().nodes if node.role == "meta" and node.name != "m1"]

    def both_report() -> bool:
        views = (read_holders(metas) or {}).values()
        return len(views) == 2 and all(int(view.last_status_ms) > killed_ms + 1_000 for view in views)

    eventually(both_report)
