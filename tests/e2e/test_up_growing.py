"""One host more or fewer is one host touched: nodes of every role join a running testnet, and leave it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import SMALL, Tool, eventually


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
