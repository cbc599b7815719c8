"""The 18-place number agrees with exact rationals rounded half to even."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.ledger.fixed import ONE_RAW, Fixed, divide_half_even

raws = st.integers(-(10**45), 10**45)
positive = st.integers(1, 10**45)
_exact = Context(prec=200, rounding=ROUND_HALF_EVEN)


def _rounded(exact: Fraction) -> int:
    quotient = _exact.divide(Decimal(exact.numerator * ONE_RAW), Decimal(exact.denominator))
    return int(quotient.quantize(Decimal(1), context=_exact))


@given(raws, raws)
def test_multiplication_rounds_the_exact_product(left: int, right: int) -> None:
    """The product is the exact one, half-even at the 18th place."""
    assert (Fixed(left) * Fixed(right)).raw == _rounded(Fraction(left, ONE_RAW) * Fraction(right, ONE_RAW))


@given(st.integers(0, 10**30), st.integers(1, 10**30))
def test_division_rounds_the_exact_quotient(left: int, right: int) -> None:
    """The quotient is the exact one, half-even at the 18th place."""
    assert (Fixed(left) / Fixed(right)).raw == _rounded(Fraction(left, right))


@given(raws)
def test_text_and_value_are_one(raw: int) -> None:
    """A number reads back from its text."""
    assert Fixed.parse(str(Fixed(raw))).raw == raw


@given(raws)
def test_truncation_drops_the_fraction_towards_zero(raw: int) -> None:
    """trunc is the whole part."""
    assert Fixed(raw).trunc() == int(Fraction(raw, ONE_RAW))


@given(raws, positive)
def test_half_even_is_never_more_than_half_away(numerator: int, denominator: int) -> None:
    """The rounded integer is nearest, and even on a tie."""
    nearest = divide_half_even(numerator, denominator)
    distance = abs(Fraction(numerator, denominator) - nearest)
    assert distance <= Fraction(1, 2)
    assert distance != Fraction(1, 2) or nearest % 2 == 0


@pytest.mark.parametrize("text", ["", ".", "1.", ".5", "1e3", "0x1", "1.0000000000000000001", "--1", "1 ", "\u0661"])
def test_what_is_not_a_plain_decimal_is_refused(text: str) -> None:
    """Only digits with at most 18 places are a number."""
    with pytest.raises(ValueError, match="decimal"):
        Fixed.parse(text)


def test_floats_are_refused() -> None:
    """No float comes near the ledger."""
    with pytest.raises(TypeError):
        Fixed(1) * 0.5  # type: ignore[operator]
