"""Seeded data: the same for everybody, seekable, in range."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from loadtests.data import SeededObject, parse_size, seeded_object


@given(offset=st.integers(0, 5000), length=st.integers(0, 5000))
def test_any_range_is_the_range_of_the_whole(offset: int, length: int) -> None:
    """Reading a range gives what slicing the whole gives."""
    item = SeededObject("s", 3, 4097)
    assert item.read(offset, length) == item.read()[offset : offset + length]


def test_an_object_is_a_function_of_seed_number_and_size() -> None:
    """Two makers agree, other numbers and seeds differ, and the digest is of the bytes."""
    item = seeded_object("s", 1, 1000, 2000)
    assert item == seeded_object("s", 1, 1000, 2000)
    assert item.digest() == blake3(item.read()).digest() and len(item.read()) == item.size
    assert len({SeededObject(seed, number, 64).read() for seed in ("a", "b") for number in (1, 2)}) == 4


@given(number=st.integers(0, 10**6), smallest=st.integers(0, 10**6), spread=st.integers(0, 10**6))
def test_sizes_stay_in_their_range(number: int, smallest: int, spread: int) -> None:
    """Log-uniform sizes never leave [smallest, largest], also where a bound is 0."""
    item = seeded_object("s", number, smallest, smallest + spread)
    assert smallest <= item.size <= smallest + spread


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("64KiB", 65536), ("1 MiB", 1 << 20), ("2gib", 2 << 30)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    """Binary units, any case, an optional space."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5MiB", "-1", "1KB2", "ten"])
def test_other_sizes_are_refused(text: str) -> None:
    """What is not a whole number with a known unit is an error that quotes it."""
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
