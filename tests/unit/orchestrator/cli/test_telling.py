"""Progress goes to stderr in one manner, whichever command it is of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import orchestrator.cli
from orchestrator.cli import telling
from orchestrator.cli.telling import Teller


def test_elsewhere_than_at_a_terminal_lines_are_few(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for what differs, and not more than one a second."""
    now = [100.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    with Teller() as say:
        for text, at in (("one", 100.0), ("one", 102.0), ("two", 102.1), ("three", 102.2), ("four", 104.0)):
            now[0] = at
            say(text)
    assert capsys.readouterr().err == "stratosctl: one\nstratosctl: two\nstratosctl: four\n"


def test_at_a_terminal_one_line_is_replaced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gone at the end, so that what follows begins on an empty line."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Teller() as say:
        say("one")
        say("two")
    assert capsys.readouterr().err == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


def test_who_wants_none_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    """As with --json."""
    with Teller(wanted=False) as say:
        say("one")
    assert capsys.readouterr() == ("", "")


def test_what_others_wrote_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A server's sentence may hold escape sequences and line ends; none of them gets out."""
    with Teller() as say:
        say("waiting for the faucet: \x1b]0;owned\x07\r\ncome\x9b2J back")
    assert capsys.readouterr().err == "stratosctl: waiting for the faucet:  ]0;owned   come 2J back\n"


def test_no_command_has_a_manner_of_its_own() -> None:
    """Whatever replaces a line at a terminal, or says where work is, is the one Teller."""
    own = re.compile(r"def _say\(|\\r|\\x1b\[K")
    files = Path(orchestrator.cli.__file__).parent.glob("*.py")
    assert [file.name for file in files if own.search(file.read_text())] == ["telling.py"]
