"""Exact rationals with the one rounding the protocol fixes (protocol 2, last line).

Money is integers; the few formulas that need fractions are evaluated here as `fractions.Fraction`, so nothing is lost
between the steps that the protocol rounds: each multiplication and division is rounded half to even at the 18th place,
"trunc" drops the fraction. Every function is total on non-negative arguments and knows nothing about the ledger's own
fixed-point type.
"""

from fractions import Fraction

PLACES = 10**18


def round18(value: Fraction) -> Fraction:
    """`value` rounded half to even at the 18th decimal place."""
    return Fraction(round(value * PLACES), PLACES)


def product(left: Fraction | int, right: Fraction | int) -> Fraction:
    """left * right, rounded as the protocol rounds a multiplication."""
    return round18(Fraction(left) * right)


def quotient(dividend: Fraction | int, divisor: Fraction | int) -> Fraction:
    """dividend / divisor, rounded as the protocol rounds a division."""
    return round18(Fraction(dividend) / divisor)


def trunc(value: Fraction) -> int:
    """The integer part of a non-negative value."""
    return value.numerator // value.denominator


def decimal18(value: Fraction) -> str:
    """Text with exactly 18 places, as the chain prints decimals."""
    scaled = round(value * PLACES)
    return f"{scaled // PLACES}.{scaled % PLACES:018d}"
