"""Whether a node may leave: pure rules about what stays behind.

A layer that loses its quorum cannot even admit a replacement, so these refusals hold with `--force` too. Slices are
another matter: who forces a resource node out accepts that copies are missing until there are holders for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from stratos.bft.quorum import quorum


def meta_must_stay(name: str, *, others: int, others_up: int) -> str | None:
    """Why this active meta node may not leave now, or None. `others` are the other active ones."""
    if others == 0:
        return f"{name} is the last meta node; add another one first, and remove it when that one is active"
    if others_up < quorum(others):
        return (
            f"without {name} there are {others} meta nodes, of which {quorum(others)} must answer and {others_up} do; "
            "bring the others back first"
        )
    return None


def validator_must_stay(name: str, *, stakes: Mapping[str, int], up: frozenset[str]) -> str | None:
    """Why this validator may not leave now, or None. `stakes` of all other active validators by address."""
    total = sum(stakes.values())
    if total == 0:
        return f"{name} is the last validator; add another one first, and remove it when that one votes"
    answering = sum(stake for address, stake in stakes.items() if address in up)
    if 3 * answering <= 2 * total:
        share = 100 * answering // total
        return (
            f"without {name} only {share} % of the stake answers, and a block needs more than two thirds; "
            "bring the other validators back first"
        )
    return None


def slices_must_stay(name: str, *, slices: int, others_active: int, copies: int) -> str | None:
    """Why a resource node that holds slices cannot hand them over now, or None."""
    if slices and others_active < copies:
        return (
            f"{name} holds {slices} slices of which {copies} copies are kept, and {others_active} other resource nodes are active; "
            "add another one first"
        )
    return None
