"""A participant joins a testnet that a coordinator runs, as two people would: two folders, two inventories, one ticket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import COMMAND_SECONDS, Tool, eventually

from stratos.client import Client, ObjectToPut


class Participant:
    """Another person's tool: their own testnets folder, and what they have is a ticket."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.tool = Tool(folder)
        self.inventory = folder / "mine.yml"
        self.tool.inventory = self.inventory

    def join(self, ticket: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`join` to the end."""
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "join", ticket, "-o", str(self.inventory)]
        return subprocess.run(
            [*program, "--runtime", "process", "--name", "mine", *options],
            env=self.tool.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Tool]:
    """A testnet that is up; gone at the end."""
    tool = Tool(tmp_path)
    tool.json("up", "--no-probe")
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


@pytest.fixture
def participant(tmp_path: Path) -> Iterator[Participant]:
    """Somebody else, whose node is gone at the end."""
    participant = Participant(tmp_path / "theirs")
    yield participant
    if participant.inventory.exists():
        assert participant.tool.run("down", "--purge").returncode == 0
    eventually(lambda: participant.tool.processes() == [])


def _ticket(coordinator: Tool, *options: str) -> dict[str, Any]:
    return coordinator.json("ticket", "create", *(options or ("--role", "resource")))


def test_a_participant_joins_earns_and_stops(coordinator: Tool, participant: Participant) -> None:
    """With nothing but the ticket a node gets funds, registers, becomes active and is given slices; both sides see it."""
    ticket = _ticket(coordinator)
    done = participant.join(ticket["ticket"], "--coordinator-key", ticket["coordinator"], "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["active"], report["role"], report["tier"]) == (True, "resource", 1)
    assert report["paid_wei"] == int(ticket["grant_wei"])
    again = json.loads(participant.join(ticket["ticket"], "--json").stdout)
    assert (again["changed"], again["paid_wei"], again["active"]) == (0, 0, True)
    assert participant.tool.json("up")["changed"] == 0

    theirs = {node["name"]: node["whose"] for node in coordinator.json("status")["nodes"]}
    assert theirs == {"v1": "ours", "m1": "ours", "r1": "ours", "r2": "ours", "mine": "outside"}
    seen = participant.tool.json("status")
    assert {node["name"]: node["whose"] for node in seen["nodes"]} == {
        "mine": "ours",
        "v1": "outside",
        "m1": "outside",
        "r1": "outside",
        "r2": "outside",
    }
    assert seen["height"] > 0
    home = participant.tool.root / "net" / "nodes" / "mine" / "data" / "slices" / "slices"
    with Client.from_testnet(coordinator.root / "net") as client:

        def receives_a_slice() -> bool:
            client.put_many([ObjectToPut(name=f"o{number}", data=os.urandom(1_000)) for number in range(20)])
            return any(path.is_file() for path in home.rglob("*"))

        eventually(receives_a_slice)
    eventually(lambda: "mine" in json.dumps(participant.tool.json("rewards")))
    assert participant.tool.json("down")["stopped"] == ["mine"]
    assert coordinator.json("status")["running"] == 4
