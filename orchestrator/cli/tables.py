"""Plain aligned columns for terminals, without a library: these tables are on the path of the quickest commands."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows with columns of equal width; numbers (and their header) are set right."""
    if not rows:
        return ""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:] if cell) and any(column[1:]) for column in columns]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).removeprefix("-").isdigit()


def duration(seconds: float) -> str:
    """`42 s`, `3 min`, `5 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def stos(amount_wei: int) -> str:
    """Wei as STOS with all decimals that matter and thousands separators."""
    whole, fraction = divmod(abs(amount_wei), 10**18)
    digits = f"{fraction:018d}".rstrip("0")
    sign = "-" if amount_wei < 0 else ""
    return f"{sign}{whole:,}" + (f".{digits}" if digits else "")
