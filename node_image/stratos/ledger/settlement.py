"""Which providers enter a report: the rule the meta layer applies before it signs one (protocol 5).

The chain pays what a report lists; the choice is made where volumes are kept. Pure, so that an audit can repeat it.
"""

from collections.abc import Iterable


def select_settlement(volumes: Iterable[tuple[bytes, int]], mode: str = "top80") -> list[tuple[bytes, int]]:
    """The (address, unsettled noz) pairs to settle now, largest first, ties by address.

    `top80`: while the accumulated volume is at most total * 8 // 10, take the next one and add it (test before
    adding). `all`: everybody. Addresses without volume are never listed. ValueError for another mode.
    """
    ranked = sorted(((address, noz) for address, noz in volumes if noz > 0), key=lambda pair: (-pair[1], pair[0]))
    if mode == "all":
        return ranked
    if mode != "top80":
        raise ValueError(f"settlement is {mode!r}; use top80 or all")
    threshold = sum(noz for _, noz in ranked) * 8 // 10
    settled: list[tuple[bytes, int]] = []
    accumulated = 0
    for address, noz in ranked:
        if accumulated > threshold:
            break
        settled.append((address, noz))
        accumulated += noz
    return settled
