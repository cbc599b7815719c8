"""The two roots of a value-layer header that speak about what a block did: results and bridge events.

Both are Merkle roots over canonical records, so one result or one event can be proved without the others. Validators
compute them when they execute a block, meta nodes recompute the bridge root from the events they are handed.
"""

from collections.abc import Sequence

from stratos.crypto.merkle import merkle_root
from stratos.wire.block import EntryResult, Event
from stratos.wire.codec import encode


def bridge_root(events: Sequence[Event]) -> bytes:
    """Root over a block's bridge events in their order (`BRIDGE_KINDS`, of entries first, then of the block's end)."""
    return merkle_root([encode(event) for event in events])


def results_root(results: Sequence[EntryResult], end_events: Sequence[Event]) -> bytes:
    """Root over the results of a block's entries in order; the last leaf is the list of the block's end events."""
    leaves = [encode(result) for result in results]
    leaves.append(encode(tuple(end_events)))
    return merkle_root(leaves)
