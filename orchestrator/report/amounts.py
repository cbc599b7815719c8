"""Amounts as people read them; exact integers stay in the data, these are for eyes only."""

from fractions import Fraction

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STOS_UNITS = ((10**18, "STOS"), (10**15, "mSTOS"), (10**9, "gwei"), (1, "wei"))


def grouped(number: int) -> str:
    """1234567 as 1,234,567."""
    return f"{number:,}"


def data_size(count: int) -> str:
    """Bytes with a binary unit and three significant digits."""
    scaled, unit = Fraction(count), 0
    while scaled >= 1024 and unit < len(_BYTE_UNITS) - 1:
        scaled, unit = scaled / 1024, unit + 1
    return f"{significant(scaled)} {_BYTE_UNITS[unit]}"


def money(wei: int) -> str:
    """wei in the largest unit that leaves at least one whole, five significant digits."""
    size, unit = next((pair for pair in _STOS_UNITS if abs(wei) >= pair[0]), (1, "wei"))
    return f"{significant(Fraction(wei, size), 5)} {unit}"


def percent(share: Fraction) -> str:
    """A share as percent with one place."""
    return f"{float(share) * 100:.1f} %"


def significant(value: Fraction, digits: int = 3) -> str:
    """A number with so many significant digits, grouped, never in exponents."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    places = max(0, digits - whole)
    text = f"{float(round(value, places)):,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
