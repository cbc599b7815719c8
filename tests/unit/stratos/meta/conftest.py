"""Fixtures of the meta room: a rehearsal whose holders have reported, with its books checked at the end of every test."""

from collections.abc import Iterator

import pytest

from stratos.meta.books import check_books
from stratos.meta.rehearsal import Rehearsal


@pytest.fixture
def net() -> Iterator[Rehearsal]:
    """Six active holders, four authorities, two users."""
    rehearsal = Rehearsal()
    rehearsal.heartbeat()
    yield rehearsal
    check_books(rehearsal.state)
