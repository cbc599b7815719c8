"""The state of a whole testnet at one look: processes, heights, state roots, and who takes part that is not ours.

The inventory says what we operate, the chain's register who takes part; a survey covers both and marks each node
`ours` or `outside`. It only reads: everything here may be asked of a testnet that is half down.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from msgspec import Struct, structs

from orchestrator.chain_api import ChainApi, ChainUnreachable
from orchestrator.node_status import all_statuses, base_status
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.choose import runtime_for
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.readiness import not_ready
from orchestrator.testnet.rules_notes import rules_notes

OURS, OUTSIDE = "ours", "outside"
LOOKS = 8
"""How often a layer is asked for all its roots at one height."""


class NodeView(Struct, frozen=True, kw_only=True):
    """One node. `health` is `ok` or a phrase; `whose` is ours or outside; `details` is its own /status."""

    name: str
    role: str
    whose: str
    state: str
    health: str
    node: str
    pid: int = 0
    up_seconds: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    height: int = 0
    state_root: str = ""
    endpoint: str = ""
    details: dict[str, Any] = {}


class Survey(Struct, frozen=True, kw_only=True):
    """`state_roots_equal` is None when fewer than two nodes of a layer could be compared at one height."""

    testnet: str
    folder: str
    running: int
    total: int
    height: int
    meta_height: int
    state_roots_equal: bool | None
    meta_state_roots_equal: bool | None
    supervised: bool
    nodes: tuple[NodeView, ...]
    notes: tuple[str, ...] = ()


def survey(folder: TestnetFolder) -> Survey:
    """Look at the testnet in `folder`; raises BadInput when there is none."""
    plan = folder.need_plan()
    with closing(runtime_for(plan, folder.path, code="")) as runtime:
        states, supervised = runtime.status(), runtime.supervised()
    alive = [node for node in plan.nodes if node.name in states and states[node.name].pid]
    answers = all_statuses(alive)
    now_ms = time.time_ns() // 1_000_000
    nodes: list[NodeView] = []
    for node in plan.nodes:
        state = states.get(node.name)
        answer = answers.get(node.name)
        nodes.append(
            NodeView(
                name=node.name,
                role=node.role,
                whose=OURS,
                state=state.state if state is not None else "stopped",
                health=_health(node, running=node.name in answers, answer=answer),
                node=node.node,
                pid=state.pid if state is not None else 0,
                up_seconds=(now_ms - state.since_ms) / 1000 if state is not None and state.since_ms else 0.0,
                restarts=state.restarts if state is not None else 0,
                last_exit=state.last_exit if state is not None else "",
                height=_number(answer, "height"),
                state_root=str((answer or {}).get("state_root", "")),
                endpoint=node.http,
                details=answer or {},
            )
        )
    notes: list[str] = []
    asked = plan.outside is not None or any(node.role == "validator" for node in alive)
    nodes += _outside(folder, plan, notes) if asked else []
    heights = _heights_outside(plan)
    leaving = [name for name, state in states.items() if state.pid and name not in {node.name for node in plan.nodes}]
    notes += [f"{name} left the inventory and runs until it is taken out; run `up` again" for name in sorted(leaving)]
    notes += rules_notes({node.name: answers.get(node.name) for node in alive if node.role == "validator"})
    if alive and not supervised:
        notes.append("no supervisor watches over the nodes; run `up` to start one")
    return Survey(
        testnet=plan.name,
        folder=str(folder.path),
        running=len(alive),
        total=len(plan.nodes),
        height=max((node.height for node in nodes if node.role == "validator"), default=heights[0]) or heights[0],
        meta_height=max((node.height for node in nodes if node.role == "meta"), default=heights[1]) or heights[1],
        state_roots_equal=_agreement(nodes, alive, "validator"),
        meta_state_roots_equal=_agreement(nodes, alive, "meta"),
        supervised=supervised,
        nodes=tuple(nodes),
        notes=tuple(notes),
    )


def _heights_outside(plan: Plan) -> tuple[int, int]:
    """Heights of both layers as the first validator and meta node of others tell that answer; 0 in a testnet of our own."""
    if plan.outside is None:
        return 0, 0

    def first(urls: Iterable[str]) -> int:
        answers = (base_status(url) for url in urls)
        return next((_number(answer, "height") for answer in answers if answer is not None), 0)

    return first(entry.http for entry in plan.outside.validators), first(entry.http for entry in plan.outside.meta)


def roots_equal(nodes: list[NodeView]) -> bool | None:
    """Whether nodes at one height have one state root; None when no two are at one height."""
    by_height: dict[int, list[str]] = {}
    for node in nodes:
        if node.state_root and node.height:
            by_height.setdefault(node.height, []).append(node.state_root)
    compared = [roots for roots in by_height.values() if len(roots) > 1]
    if not compared:
        return None
    return all(len(set(roots)) == 1 for roots in compared)


def _agreement(views: list[NodeView], alive: list[NodePlan], role: str) -> bool | None:
    """Compare a layer's roots; nodes that were between two blocks when asked are asked again."""
    ours = [view for view in views if view.role == role and view.whose == OURS]
    layer = [node for node in alive if node.role == role]
    for _ in range(LOOKS):
        equal = roots_equal(ours)
        at_common = max(Counter(view.height for view in ours if view.state_root).values(), default=0)
        if equal is False or at_common == len(layer) or len(layer) < 2:
            return equal
        answers = all_statuses(layer)
        ours = [
            structs.replace(
                view,
                height=_number(answers.get(view.name), "height"),
                state_root=str((answers.get(view.name) or {}).get("state_root", "")),
            )
            for view in ours
        ]
    return roots_equal(ours)


def _health(node: NodePlan, *, running: bool, answer: dict[str, Any] | None) -> str:
    if not running:
        return "not running"
    if answer is None:
        return "does not answer"
    return not_ready(node.role, answer) or "ok"


def _number(answer: dict[str, Any] | None, key: str) -> int:
    try:
        return int((answer or {}).get(key, 0))
    except (TypeError, ValueError):
        return 0


def _outside(folder: TestnetFolder, plan: Plan, notes: list[str]) -> list[NodeView]:
    """Nodes of the register that this folder does not operate."""
    ours = {node.node for node in plan.nodes}
    try:
        registered = ChainApi(folder.endpoints()).registered()
    except ChainUnreachable as error:
        notes.append(f"the chain's register could not be read: {error}")
        return []
    return [
        NodeView(
            name=entry.name or entry.node,
            role=entry.role,
            whose=OUTSIDE,
            state=entry.state,
            health="ok" if entry.active else "not active",
            node=entry.node,
            endpoint=entry.network_address,
        )
        for entry in registered
        if entry.node not in ours and (entry.active or entry.name not in plan.left)  # a leaver of ours is no outsider
    ]
