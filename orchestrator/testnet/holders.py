"""What the meta layer says about resource nodes, as the first meta node that answers tells it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from orchestrator.node_status import request

ANSWER_SECONDS = 2.0
ACTIVE, MAINTENANCE, UNBONDING, REMOVED = "active", "maintenance", "unbonding", "removed"


class HolderView(Struct, frozen=True, kw_only=True):
    """One resource node. `slices_left`: how many the index counts on it, of a leaver or of the one asked about;
    `cooling_off_ms` how long a leaver has to stay to forfeit nothing; `left`: its leaving is settled."""

    node: str
    name: str
    status: str
    slices_left: str = "0"
    maintenance: bool = False
    left: bool = False
    cooling_off_ms: str = "0"
    last_status_ms: str = "0"


class _Answer(Struct):
    holders: tuple[HolderView, ...]


def read_holders(metas: Iterable[tuple[str, int]], *, held: str = "") -> dict[str, HolderView] | None:
    """Every resource node by its stsds1... address, with the slices of node `held` counted; None when no meta node at
    these (host, port) answers. One that has not heard of any of them (a newcomer that catches up) is asked last."""
    heard: dict[str, HolderView] | None = None
    for host, port in metas:
        answer = request(host, port, f"/stratos/meta/v1/nodes?held={held}", timeout_seconds=ANSWER_SECONDS)
        if answer is not None and answer.status == 200:
            found = msgspec.json.decode(answer.body, type=_Answer)
            heard = {holder.node: holder for holder in found.holders}
            if any(holder.last_status_ms != "0" for holder in found.holders):
                return heard
    return heard
