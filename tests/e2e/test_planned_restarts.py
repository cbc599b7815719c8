"""Planned restarts of resource nodes are nothing that a client notices."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from traffic import Traffic
from up_driver import SMALL, Tool, eventually

from orchestrator.testnet.control import runtime_of
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.holders import read_holders
from orchestrator.testnet.maintenance import set_maintenance
from orchestrator.testnet.readiness import meta_addresses, wait_ready
from stratos.client import Client

SIX = (
    SMALL.replace("stratos_copies: 1", "stratos_copies: 4")
    .replace("r[1:2]", "r[1:6]")
    .replace("stratos_status_seconds: 2", "stratos_status_seconds: 1")
)
RESOURCE = [f"r{number}" for number in range(1, 7)]
MIB = 1 << 20


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """Six resource nodes, up; down and without processes at the end."""
    tool = Tool(tmp_path)
    tool.write(SIX)
    tool.json("up", "--no-probe")
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


def test_restarting_every_resource_node_in_turn_fails_no_transfer(tool: Tool) -> None:
    """Maintenance on, restart, maintenance off, for each of six nodes, twice, while clients put and get: not one operation fails."""
    folder = TestnetFolder(tool.root / "net")
    plan = folder.need_plan()
    runtime = runtime_of(folder)
    scores = {view.name: view.status for view in (read_holders(meta_addresses(plan)) or {}).values()}
    assert set(scores.values()) == {"active"}
    with Traffic(folder.path, (300, 200_000, 16 * MIB)) as traffic:
        eventually(traffic.moved_on())
        for name in 2 * RESOURCE:
            pid = runtime.status()[name].pid
            assert set_maintenance(folder, runtime, name, True)
            runtime.stop([name])
            eventually(traffic.moved_on())
            runtime.start([name])
            assert set_maintenance(folder, runtime, name, False)
            wait_ready(plan, runtime, deadline_seconds=60.0, say=lambda _text: None, only=[name])
            assert runtime.status()[name].pid not in (0, pid)
            eventually(traffic.moved_on())
    assert traffic.failures == []
    assert traffic.puts > 12 and traffic.gets > 12
    after = read_holders(meta_addresses(plan)) or {}
    assert {view.status for view in after.values()} == {"active"}


def test_a_node_in_maintenance_gets_no_tasks_and_serves_what_it_has(tool: Tool) -> None:
    """What is put meanwhile lies elsewhere; its copies are not made again, for all that it is silent; `up` accepts it."""
    folder = TestnetFolder(tool.root / "net")
    assert tool.run("maintenance", "on", "r1", "r2").returncode == 0
    views = {view.name: view for view in (read_holders(meta_addresses(folder.need_plan())) or {}).values()}
    assert {name: view.status for name, view in views.items() if view.status != "active"} == {
        "r1": "maintenance",
        "r2": "maintenance",
    }
    with Client.from_testnet(folder.path) as client:
        handle = client.put(io.BytesIO(os.urandom(50_000)), name="x").handle
        held = client.open(handle).slices[0].holders
    ours = {folder.ring().nodes[name].node_key().address for name in ("r1", "r2")}
    assert len(held) == 4 and not ours & set(held)
    assert tool.json("up")["changed"] == 0
    assert tool.run("maintenance", "off", "r1", "r2").returncode == 0
    assert tool.run("maintenance", "on", "v1").returncode == 2
