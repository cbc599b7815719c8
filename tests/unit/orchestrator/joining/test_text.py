"""A ticket is found in what people paste, and what holds none is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from orchestrator.errors import BadInput
from orchestrator.joining.text import ticket_text, wrapped
from stratos.wire.ticket import dump_ticket, read_ticket
from tests.unit.orchestrator.joining.conftest import Issue


def test_a_ticket_is_found_in_a_mail(issue: Issue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrapped, quoted, with words around it; from a file, from standard input, or as it is."""
    text = dump_ticket(issue())
    quoted = wrapped(text).replace("\n", "\n> ")
    mail = f"Hello Alice,\n\nhere is your ticket:\n\n> {quoted}\n\nBest, Bob\n"
    path = tmp_path / "mail.txt"
    path.write_text(mail)
    assert ticket_text(str(path)) == text
    monkeypatch.setattr("sys.stdin", io.StringIO(mail))
    assert ticket_text("-") == text
    assert read_ticket(ticket_text(f" {text}\n")) == issue()


def test_what_holds_no_ticket_is_refused(tmp_path: Path) -> None:
    """A file without one, and a name that is neither ticket nor file."""
    path = tmp_path / "mail.txt"
    path.write_bytes(b"\xff\xfe nothing here")
    with pytest.raises(BadInput, match="holds no ticket"):
        ticket_text(str(path))
    for junk in ("nonsense", "\0", "x" * 5_000):
        with pytest.raises(BadInput, match="neither a ticket"):
            ticket_text(junk)
