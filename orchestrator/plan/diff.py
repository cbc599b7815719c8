"""What differs between a plan and what is placed: added, removed, changed and unchanged nodes, with the reasons.

The comparison is with the configs found in the homes, not with a memory of them, so that it is true after a crash and
after somebody edited a file by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.plan.plan import Plan
from stratos.wire.config import NodeConfig


class NodeDifference(Struct, frozen=True):
    """`kind` is added, removed, changed or unchanged; `reasons` are phrases for people."""

    name: str
    role: str
    kind: str
    reasons: tuple[str, ...] = ()


class Difference(Struct, frozen=True):
    """One entry per node, in start order, removed ones last."""

    nodes: tuple[NodeDifference, ...]

    def names(self, kind: str) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if node.kind == kind)

    @property
    def empty(self) -> bool:
        return all(node.kind == "unchanged" for node in self.nodes)


def difference(plan: Plan, placed: Mapping[str, NodeConfig | None]) -> Difference:
    """`placed`: what the homes hold, None for a home whose config cannot be read."""
    found: list[NodeDifference] = []
    for node in plan.nodes:
        if node.name not in placed:
            reason = "joins after genesis: registers on the chain" if node.registers else "in the genesis file"
            found.append(NodeDifference(node.name, node.role, "added", (reason,)))
            continue
        before = placed[node.name]
        if before is None:
            found.append(NodeDifference(node.name, node.role, "changed", ("its config.json is missing or damaged",)))
        elif before != node.config:
            found.append(NodeDifference(node.name, node.role, "changed", tuple(_reasons(before, node.config))))
        else:
            found.append(NodeDifference(node.name, node.role, "unchanged"))
    wanted = {node.name for node in plan.nodes}
    for name in sorted(set(placed) - wanted):
        before = placed[name]
        role = before.role if before is not None else "unknown"
        found.append(NodeDifference(name, role, "removed", ("no longer in the inventory",)))
    return Difference(tuple(found))


def _reasons(before: NodeConfig, after: NodeConfig) -> list[str]:
    reasons: list[str] = []
    for field in NodeConfig.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if old == new:
            continue
        if field in ("peers", "validators", "meta"):
            reasons.append(f"{field}: {_membership(old, new)}")
        else:
            reasons.append(f"{field}: {_short(old)} -> {_short(new)}")
    return reasons


def _membership(old: tuple[Any, ...], new: tuple[Any, ...]) -> str:
    before, after = {entry.name: entry for entry in old}, {entry.name: entry for entry in new}
    parts = [f"+{name}" for name in after if name not in before]
    parts += [f"-{name}" for name in before if name not in after]
    parts += [f"~{name}" for name in after if name in before and before[name] != after[name]]
    return " ".join(parts) or "order"


def _short(value: Any) -> str:
    return msgspec.json.encode(value).decode()
