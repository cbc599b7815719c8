"""A ticket as people pass it on: its text, a file that holds it among other lines, or standard input.

A mail has words around the ticket: the first block that begins with the ticket's prefix is taken, up to the next empty line or
to a line that no ticket could continue with.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orchestrator.errors import BadInput
from stratos.wire.ticket import MAX_TICKET_TEXT, TICKET_PREFIX

MAX_MAIL_CHARACTERS = 1024 * 1024
_CONTINUES = re.compile(r"[A-Za-z0-9_-]+")


def ticket_text(given: str) -> str:
    """The text of the ticket that a command line names; raises BadInput."""
    if given.strip().startswith(TICKET_PREFIX):
        return given
    if given == "-":
        return _found(sys.stdin.read(MAX_MAIL_CHARACTERS), "standard input")
    path = Path(given)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _found(file.read(MAX_MAIL_CHARACTERS), str(path))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{given[:60]!r} is neither a ticket (it would begin with {TICKET_PREFIX}) nor a file that can be read; "
            "paste the ticket, name its file, or give - for standard input"
        ) from error


def _found(text: str, where: str) -> str:
    lines = [line.strip().removeprefix(">").strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        if not line.startswith(TICKET_PREFIX):
            continue
        block = [line]
        for more in lines[number + 1 :]:
            if not _CONTINUES.fullmatch(more) or sum(map(len, block)) > MAX_TICKET_TEXT:
                break
            block.append(more)
        return "".join(block)
    raise BadInput(f"{where} holds no ticket: no line begins with {TICKET_PREFIX}; copy the whole ticket")


def wrapped(text: str, width: int = 76) -> str:
    """The ticket in lines that mail programs leave alone."""
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))
