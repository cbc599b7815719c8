"""How far another clock is from ours, from round trips, as NTP does it: the quickest one tells most.

A reading t of the other clock, taken somewhere between our readings `sent` and `received`, bounds the offset to
[t - received, t - sent]. All such intervals hold the truth (clocks that drift apart by less than a millisecond during the few samples aside), so their
intersection does; its middle is the estimate and half its width the error. An empty intersection means that a clock was set meanwhile, and then
the quickest sample alone speaks. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.preflight.measurements import Clock


class Sample(NamedTuple):
    """One round trip; all in seconds, `sent` and `received` by our clock, `there` by the other."""

    sent: float
    there: float
    received: float


def estimate(samples: Sequence[Sample]) -> Clock | None:
    """The offset of the other clock with its error, or None without a usable sample."""
    usable = [one for one in samples if one.received >= one.sent]
    if not usable:
        return None
    low = max(one.there - one.received for one in usable)
    high = min(one.there - one.sent for one in usable)
    if low > high:
        best = min(usable, key=lambda one: one.received - one.sent)
        low, high = best.there - best.received, best.there - best.sent
    return Clock(offset_seconds=(low + high) / 2, error_seconds=(high - low) / 2, samples=len(usable))
