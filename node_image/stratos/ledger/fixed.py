"""The one fractional number of the ledger: 18 decimal places, half-even (protocol 2).

Money and ozone are ints; only shares, prices and taxes have fractions, and they are `Fixed`: an int counting units of
10^-18. Multiplication and division round half to even at the 18th place, each time, so the order of operations is part
of a rule and must be kept as it is written. `trunc` drops the fraction. No float can be mixed in: operators take Fixed
or int and nothing else.
"""

from functools import total_ordering

PLACES = 18
ONE_RAW: int = 10**PLACES


def divide_half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to numerator / denominator, ties to even; the denominator is positive."""
    quotient, remainder = divmod(numerator, denominator)
    double = 2 * remainder
    if double > denominator or (double == denominator and quotient & 1):
        return quotient + 1
    return quotient


@total_ordering
class Fixed:
    """A decimal with 18 places; `raw` is the value times 10^18."""

    __slots__ = ("raw",)

    def __init__(self, raw: int) -> None:
        self.raw = raw

    @classmethod
    def of(cls, value: int) -> "Fixed":
        """The whole number `value`."""
        return cls(value * ONE_RAW)

    @classmethod
    def parse(cls, text: str) -> "Fixed":
        """The decimal in `text`, at most 18 places; ValueError otherwise."""
        sign = -1 if text.startswith("-") else 1
        whole, _, fraction = text.removeprefix("-").partition(".")
        digits = whole + fraction
        if not (digits.isascii() and digits.isdecimal()) or not whole or len(fraction) > PLACES or text.endswith("."):
            raise ValueError(f"{text[:40]!r} is not a decimal with at most {PLACES} places; write it like 0.02")
        return cls(sign * (int(whole) * ONE_RAW + int(fraction.ljust(PLACES, "0"))))

    def trunc(self) -> int:
        """The whole part, fraction dropped (towards zero)."""
        return self.raw // ONE_RAW if self.raw >= 0 else -(-self.raw // ONE_RAW)

    def __add__(self, other: "Fixed | int") -> "Fixed":
        return Fixed(self.raw + _raw(other))

    def __sub__(self, other: "Fixed | int") -> "Fixed":
        return Fixed(self.raw - _raw(other))

    def __mul__(self, other: "Fixed | int") -> "Fixed":
        if isinstance(other, int):
            return Fixed(self.raw * other)
        return Fixed(divide_half_even(self.raw * _raw(other), ONE_RAW))

    def __truediv__(self, other: "Fixed | int") -> "Fixed":
        divisor = _raw(other)
        if divisor <= 0:
            raise ZeroDivisionError(f"{self} divided by {Fixed(divisor)}; divisors in the ledger are positive")
        return Fixed(divide_half_even(self.raw * ONE_RAW, divisor))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed | int) and self.raw == _raw(other)

    def __lt__(self, other: "Fixed | int") -> bool:
        return self.raw < _raw(other)

    def __hash__(self) -> int:
        return hash((Fixed, self.raw))

    def __str__(self) -> str:
        sign = "-" if self.raw < 0 else ""
        whole, fraction = divmod(abs(self.raw), ONE_RAW)
        return f"{sign}{whole}.{fraction:018d}"

    def __repr__(self) -> str:
        return f"Fixed({self})"


def _raw(value: "Fixed | int") -> int:
    if isinstance(value, Fixed):
        return value.raw
    if type(value) is int:
        return value * ONE_RAW
    raise TypeError(f"the ledger computes with Fixed and int, not {type(value).__name__}")


ZERO = Fixed(0)
ONE = Fixed(ONE_RAW)
