"""The live view shows what a look finds, marks what is wrong, and survives a look that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from orchestrator.cli import status
from orchestrator.cli.watch_app import WatchApp, cells, shown, summary
from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.testnet.survey import NodeView, Survey


def node(name: str, **changes: object) -> NodeView:
    usual: dict[str, object] = {
        "name": name,
        "role": "validator",
        "whose": "ours",
        "state": "running",
        "health": "ok",
        "node": f"stsds1{name}",
        "pid": 7,
        "up_seconds": 130.0,
        "height": 41,
        "endpoint": "http://127.0.0.1:1317",
    }
    return NodeView(**{**usual, **changes})  # type: ignore[arg-type]


def found(*nodes: NodeView, **changes: object) -> Survey:
    usual: dict[str, object] = {
        "testnet": "net",
        "folder": "/x",
        "running": sum(bool(one.pid) for one in nodes),
        "total": len(nodes),
        "height": 41,
        "meta_height": 12,
        "state_roots_equal": True,
        "meta_state_roots_equal": None,
        "supervised": True,
        "nodes": nodes,
        "notes": ("a note",),
    }
    return Survey(**{**usual, **changes})  # type: ignore[arg-type]


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Let the view work until something is so."""
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.01)


async def test_the_view_follows_what_looks_find() -> None:
    """Each look replaces the table; p leaves only problems, o only ours, r looks at once, q ends."""
    sick = node("v2", pid=0, state="failed", health="not running", last_exit="killed by signal 9", height=0)
    outside = node("guest", whose="outside", health="not active")
    looks = [found(node("v1"), node("v2")), found(node("v1", height=42), sick, outside)]
    app = WatchApp(lambda: looks.pop(0) if len(looks) > 1 else looks[0], seconds=3_600)
    async with app.run_test() as pilot:
        table = app.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 2)
        assert str(table.get_row_at(0)[7]) == "41"
        await pilot.press("r")
        await until(pilot, lambda: table.row_count == 3)
        assert [str(cell) for cell in table.get_row_at(1)][3:5] == ["failed", "not running (killed by signal 9)"]
        await pilot.press("p")
        assert [str(table.get_row_at(row)[0]) for row in range(table.row_count)] == ["v2", "guest"]
        await pilot.press("o")
        assert [str(table.get_row_at(row)[0]) for row in range(table.row_count)] == ["v2"]
        assert "a note" in str(app.query_one("#notes", Static).render())
        await pilot.press("q")
    assert app.return_code == 0


async def test_a_look_that_fails_leaves_the_last_table() -> None:
    """The reason is shown above what was seen last, and the next look repairs it."""
    answers: list[Survey | Exception] = [
        found(node("v1")),
        EnvironmentFault("the disk is gone; look for it"),
        found(node("v1")),
    ]

    def look() -> Survey:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = WatchApp(look, seconds=3_600)
    async with app.run_test() as pilot:
        said = app.query_one("#summary", Static)
        await until(pilot, lambda: "1 of 1 nodes run" in str(said.render()))
        await pilot.press("r")
        await until(pilot, lambda: "the disk is gone" in str(said.render()))
        assert app.query_one(DataTable).row_count == 1
        await pilot.press("r")
        await until(pilot, lambda: "1 of 1 nodes run" in str(said.render()))


def test_what_is_wrong_stands_out() -> None:
    """Different state roots and nodes that are down are said in words, not by colour alone; changes are bold."""
    text = str(summary(found(node("v1"), node("v2", pid=0, health="not running"), state_roots_equal=False)))
    assert "1 of 2 nodes run, 1 not well" in text and "DIFFERENT" in text
    row = cells(node("v1", height=42), node("v1", height=41))
    assert "bold" in str(row[7].style) and "bold" not in str(row[3].style)
    assert shown(found(node("v1")), only_problems=True, only_ours=False) == []


def test_without_a_terminal_watching_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets a sentence, and so does an interval that is none."""
    with pytest.raises(BadInput, match="needs a terminal"):
        status.main(["--watch"])
    with pytest.raises(SystemExit):
        status.main(["--watch", "--interval", "0"])
    assert "0.2 to 3600" in capsys.readouterr().err
