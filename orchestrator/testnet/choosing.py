"""Which nodes a person means: names of nodes, groups of the inventory, machines, or nothing for all."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import BadInput
from orchestrator.plan.plan import NodePlan, Plan

GROUPS = {"validators": "validator", "meta": "meta", "resource": "resource"}


def chosen_nodes(plan: Plan, names: Sequence[str]) -> tuple[NodePlan, ...]:
    """The operated nodes that `names` mean, in the plan's order; raises BadInput naming what there is."""
    if not names or "all" in names:
        return plan.operated
    wanted: set[str] = set()
    for name in names:
        found = {
            node.name for node in plan.operated if name in (node.name, node.machine) or node.role == GROUPS.get(name)
        }
        if not found:
            known = ", ".join(node.name for node in plan.operated)
            raise BadInput(
                f"testnet {plan.name} has no node {name!r}; it has {known or 'none'}, and groups validators, meta, resource"
            )
        wanted |= found
    return tuple(node for node in plan.operated if node.name in wanted)
