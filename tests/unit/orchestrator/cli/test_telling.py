"""Progress on stderr."""

from __future__ import annotations

import pytest

from orchestrator.cli.telling import Teller


def test_what_others_wrote_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A server's sentence may hold escape sequences and line ends; none of them gets out."""
    with Teller() as say:
        say("waiting for the faucet: \x1b]0;owned\x07\r\ncome\x9b2J back")
    assert capsys.readouterr().err == "stratosctl: waiting for the faucet:  ]0;owned   come 2J back\n"


def test_one_line_says_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    """What was said already is not said again, nor anything where a program reads along."""
    with Teller() as say:
        say("building")
        say("building")
    with Teller(wanted=False) as say:
        say("building")
    assert capsys.readouterr().err == "stratosctl: building\n"
