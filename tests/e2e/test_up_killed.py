"""An orchestrator killed at any instant: the next `up` or `down` converges."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import Tool, eventually

STEPS = ["begun", "keys", "plan", "genesis", "placed", "started", "ready"]


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """A tool whose testnet is down, and without processes, at the end."""
    tool = Tool(tmp_path)
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


@pytest.mark.parametrize("step", STEPS)
def test_up_finishes_what_a_killed_up_began(tool: Tool, step: str) -> None:
    """After a kill at any journalled step, `up` brings the testnet up and a second one changes nothing."""
    assert tool.run_until_step(step, "up") == -9
    assert tool.json("up")["nodes"] == {"validator": 1, "meta": 1, "resource": 2}
    again = tool.json("up")
    assert (again["changed"], again["started"]) == (0, 0)


@pytest.mark.parametrize("step", STEPS)
def test_down_ends_what_a_killed_up_began(tool: Tool, step: str) -> None:
    """After a kill at any journalled step, `down` leaves no process."""
    assert tool.run_until_step(step, "up") == -9
    assert tool.run("down").returncode == 0
    eventually(lambda: tool.processes() == [])


def test_kills_at_random_instants_do_no_harm(tool: Tool) -> None:
    """Many runs of `up` and `down`, each killed somewhere: what follows still works, and keys and genesis never change."""
    source = random.Random(20261121)
    assert tool.json("up", "--no-probe")["changed"] == 4
    genesis = (tool.root / "net" / "genesis.json").read_bytes()
    for _ in range(6):
        tool.run_for(source.uniform(0.05, 1.0), source.choice(["up", "down"]))
    report = tool.json("up")
    assert report["nodes"] == {"validator": 1, "meta": 1, "resource": 2}
    assert (tool.root / "net" / "genesis.json").read_bytes() == genesis
    assert tool.json("up")["changed"] == 0
    tool.run_for(source.uniform(0.05, 0.3), "down")
    assert tool.run("down").returncode == 0
    eventually(lambda: tool.processes() == [])
