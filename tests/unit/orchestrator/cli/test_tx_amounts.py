"""Amounts as people write them."""

from __future__ import annotations

import argparse

import pytest

from orchestrator.cli.tables import aligned, duration, stos
from orchestrator.cli.tx import amount_wei


@pytest.mark.parametrize(
    ("text", "wei"),
    [("1", 10**18), ("2.5", 25 * 10**17), ("1,000", 10**21), ("0.000000000000000001", 1), ("7wei", 7)],
)
def test_amounts_are_exact(text: str, wei: int) -> None:
    """STOS with up to 18 decimals, or wei, without any rounding."""
    assert amount_wei(text) == str(wei)


@pytest.mark.parametrize("text", ["0", "-1", "1e3", "1.0000000000000000001", "", "0wei", "1.5wei", "x", "1 000", "٣"])
def test_other_amounts_are_refused(text: str) -> None:
    """Anything that is not exactly an amount is refused, never guessed."""
    with pytest.raises(argparse.ArgumentTypeError):
        amount_wei(text)


def test_amounts_are_shown_whole() -> None:
    """Every wei is shown."""
    assert stos(10**21 + 1) == "1,000.000000000000000001"
    assert stos(5 * 10**17) == "0.5"


def test_tables_are_aligned() -> None:
    """Columns have one width; numbers stand right."""
    assert aligned([("NAME", "N"), ("a", "10"), ("bb", "9")]) == "NAME   N\na     10\nbb     9"
    assert [duration(seconds) for seconds in (1, 119, 120, 7_200, 172_800)] == ["1 s", "119 s", "2 min", "2 h", "2 d"]
