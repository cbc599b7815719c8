"""Maintenance of resource nodes: no new tasks, no penalty for being silent, no repair of what they hold.

The wish is a file in the node's home, so it outlives the restarts that it is for; the node tells the meta layer within a
second, and what is waited for here is that the meta layer has heard it. While a node is in maintenance it goes on
serving what it has; when it is then stopped, it finishes the transfers under way first. So for clients a planned
restart is: on, restart, off.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.errors import BadInput, PartialFailure
from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.holders import ACTIVE, MAINTENANCE, read_holders
from orchestrator.testnet.readiness import meta_addresses

FLAG = "maintenance"
HEARD_SECONDS = 20.0
LOOK_SECONDS = 0.05


def _silent(_text: str) -> None:
    """Nobody wants to hear."""


def set_maintenance(
    folder: TestnetFolder,
    runtime: Runtime,
    name: str,
    on: bool,
    *,
    say: Callable[[str], None] = _silent,
    patience_seconds: float = HEARD_SECONDS,
) -> bool:
    """Put a resource node into maintenance, or take it out, and wait until the meta layer knows; whether that changed
    anything. A node that does not run says it when it starts. Raises BadInput, PartialFailure at the deadline."""
    node = _resource_node(folder, name)
    changed = runtime.mark(name, FLAG, on=on)
    state = runtime.status().get(name)
    if state is None or state.pid == 0:
        return changed
    before, after = (ACTIVE, MAINTENANCE) if on else (MAINTENANCE, ACTIVE)
    metas = meta_addresses(folder.need_plan())
    deadline = time.monotonic() + patience_seconds
    while True:
        known = read_holders(metas)
        holder = known.get(node.node) if known is not None else None
        # Others (suspended, unbonding) have no tasks either way.
        if known is not None and (holder is None or holder.status not in (before, "unavailable")):
            return changed
        if time.monotonic() > deadline:
            raise PartialFailure(
                f"{name} is told to {'enter' if on else 'leave'} maintenance, but the meta layer does not call it {after} after "
                f"{patience_seconds:g} s; look at `stratosctl status` and run this again"
            )
        say(f"waiting for the meta layer to call {name} {after}")
        time.sleep(LOOK_SECONDS)


def _resource_node(folder: TestnetFolder, name: str) -> NodePlan:
    nodes = {node.name: node for node in folder.need_plan().nodes if node.role == "resource"}
    if name not in nodes:
        raise BadInput(
            f"{name!r} is no resource node of testnet {folder.name}; maintenance is for {', '.join(nodes) or 'none'}"
        )
    return nodes[name]
