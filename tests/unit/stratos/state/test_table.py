"""Typed rooms: records and amounts by key."""

import pytest
from msgspec import Struct

from stratos.state import AmountTable, Branch, MemoryStore, Table


class Point(Struct, frozen=True):
    """A record."""

    x: int
    y: int


def test_records_come_back_typed_and_in_order() -> None:
    """set, get, delete and items with suffixes."""
    table = Table(b"room/points/", Point)
    branch = Branch(MemoryStore())
    for suffix in (b"b", b"a", b"c"):
        table.set(branch, suffix, Point(1, 2))
    table.delete(branch, b"c")
    assert list(table.items(branch)) == [(b"a", Point(1, 2)), (b"b", Point(1, 2))]
    assert (table.get(branch, b"a"), table.get(branch, b"c")) == (Point(1, 2), None)


def test_an_amount_of_zero_is_no_key() -> None:
    """Absent and 0 are one state, so one balance has one root."""
    table = AmountTable(b"room/amounts/")
    branch = Branch(MemoryStore())
    assert table.get(branch, b"a") == 0
    assert table.add(branch, b"a", 10**30) == 10**30
    assert branch.get(b"room/amounts/a") == b"1" + b"0" * 30
    table.add(branch, b"a", -(10**30))
    assert branch.get(b"room/amounts/a") is None


def test_amounts_never_go_below_zero() -> None:
    """An overdraft is a defect of the caller and loud."""
    table = AmountTable(b"room/amounts/")
    with pytest.raises(ValueError, match="never negative"):
        table.add(Branch(MemoryStore()), b"a", -1)
