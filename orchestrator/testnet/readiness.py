"""When a testnet is up: every condition named, waited for until a deadline, and told apart when it does not come.

A process that exists proves nothing. A node is ready when its own ready.json carries its process id; a layer when its
height advances, which needs a proposer and a quorum; a resource node when the meta layer has taken its status report and
calls it active. Conditions are polled quickly at first and slower later, because nearly all of the wait is the
machine's own work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from orchestrator.errors import EnvironmentFault, PartialFailure
from orchestrator.node_status import all_statuses, node_status, request
from orchestrator.plan.plan import START_ORDER, NodePlan, Plan
from orchestrator.runtimes.protocol import NodeState, Runtime

FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.1
STATUS_SECONDS = 2.0


class Ready(Struct, frozen=True):
    """`height` is the lowest of the validators; `meta_height` of the meta nodes."""

    height: int
    meta_height: int


def wait_ready(
    plan: Plan,
    runtime: Runtime,
    *,
    deadline_seconds: float,
    say: Callable[[str], None],
    only: Sequence[str] | None = None,
    above: int = 0,
) -> Ready:
    """Wait until the plan's nodes (or only some) are ready; PartialFailure with what is missing at the deadline.

    Validators and meta nodes must have a height over `above`: one that was replaced has caught up and takes part.
    """
    wanted = [node for node in plan.nodes if only is None or node.name in only]
    watch = _Watch(wanted, runtime, metas=meta_addresses(plan), above=above)
    deadline = time.monotonic() + deadline_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        missing = watch.look()
        if not missing:
            return watch.heights()
        say(f"waiting for {len(missing)} of {len(watch.nodes)} nodes: {'; '.join(missing.values())[:120]}")
        if time.monotonic() > deadline:
            listed = "; ".join(missing.values())
            raise PartialFailure(
                f"testnet {plan.name} is not ready after {deadline_seconds:g} s: {listed}; "
                f"read `stratosctl logs {next(iter(missing))}`, then run `up` again"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


class _Watch:
    """Nodes not ready yet, and the last status of those that are."""

    def __init__(self, nodes: list[NodePlan], runtime: Runtime, *, metas: list[tuple[str, int]], above: int) -> None:
        self.nodes = nodes
        self._runtime = runtime
        self._waiting = {node.name: node for node in nodes}
        self._seen: dict[str, dict[str, Any]] = {}
        self._metas = metas
        self._above = above
        self._active: frozenset[str] | None = None
        self._states: Mapping[str, NodeState] = {}
        self._asked = time.monotonic() if runtime.status_seconds else 0.0

    def look(self) -> dict[str, str]:
        """What is missing: node -> phrase. Raises EnvironmentFault for a node that was given up.

        A layer is asked only when the one below it is ready: the machine has better things to do than to answer us.
        """
        if time.monotonic() >= self._asked + self._runtime.status_seconds:
            self._states = self._runtime.status()
            self._asked = time.monotonic()
        self._active = None
        missing: dict[str, str] = {}
        for role in START_ORDER:
            asking = not missing
            for name, node in list(self._waiting.items()):
                if node.role != role:
                    continue
                reason = self._not_serving(node, self._states.get(name))
                if reason is None and asking:
                    reason = self._missing(node)
                elif reason is None:
                    reason = "waits for the layer below"
                if reason is None:
                    del self._waiting[name]
                else:
                    missing[name] = f"{name} {reason}"
        return missing

    def heights(self) -> Ready:
        """The lowest heights seen when everything was ready."""

        def lowest(role: str) -> int:
            return min((_height(self._seen[node.name]) for node in self.nodes if node.role == role), default=0)

        return Ready(lowest("validator"), lowest("meta"))

    def _not_serving(self, node: NodePlan, state: NodeState | None) -> str | None:
        """Whether it is there at all; where looking at it has a price, it is asked first."""
        if self._runtime.status_seconds and self._runtime.serving(node, state):
            return None
        if state is not None and state.state == "failed":
            raise EnvironmentFault(
                f"{node.name} does not stay up ({state.last_exit}): {last_words(self._runtime.read_log(node.name))}; "
                "mend that and run `up` again"
            )
        if not self._states:
            return "does not serve yet"
        if state is None or state.pid == 0:
            return "is not running" + (f" ({state.last_exit})" if state is not None and state.last_exit else "")
        served = not self._runtime.status_seconds and self._runtime.serving(node, state)
        return None if served else "does not serve yet"

    def _missing(self, node: NodePlan) -> str | None:
        if node.role == "resource":
            if self._active is None:
                self._active = active_holders(self._metas)
            if node.node in self._active:
                return None
            own = node_status(node, timeout_seconds=STATUS_SECONDS) or {}
            # Who is in maintenance gets no work on purpose.
            return None if own.get("maintenance") and own.get("reporting") else "is not active in the meta layer yet"
        status = node_status(node, timeout_seconds=STATUS_SECONDS)
        if status is None:
            return "does not answer"
        self._seen[node.name] = status
        return not_ready(node.role, status, above=self._above)


def not_ready(role: str, status: dict[str, Any], *, above: int = 0) -> str | None:
    """Why a node with this /status is not ready, or None."""
    if role in ("validator", "meta") and _height(status) <= above:
        return f"has no block above {above} yet" if above else "has no block yet"
    if role == "resource" and not status.get("reporting"):
        refused = status.get("status_refused")
        return f"is refused by the meta layer ({refused})" if refused else "has not reported to the meta layer yet"
    return None


def meta_addresses(plan: Plan) -> list[tuple[str, int]]:
    """(host, port) of the HTTP of every meta node that can be asked, ours first."""
    ours = sorted((node for node in plan.nodes if node.role == "meta"), key=lambda node: node.registers)
    found = [node.http_address for node in (*ours, *plan.leaving) if node.role == "meta"]
    for entry in plan.outside.meta if plan.outside is not None else ():
        parts = urlsplit(entry.http)
        if parts.hostname and parts.port:
            found.append((parts.hostname, parts.port))
    return found


def active_holders(metas: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Addresses of the resource nodes that the meta layer gives work to, as the first meta node says that knows any (a
    newcomer that still catches up knows none)."""
    for meta in metas:
        answer = request(*meta, "/stratos/meta/v1/nodes", timeout_seconds=STATUS_SECONDS)
        if answer is not None and answer.status == 200:
            holders = msgspec.json.decode(answer.body)["holders"]
            active = frozenset(
                holder["node"] for holder in holders if holder["status"] == "active" and holder["last_status_ms"] != "0"
            )
            if active:
                return active
    return frozenset()


def _height(status: dict[str, Any]) -> int:
    try:
        return int(status.get("height", 0))
    except (TypeError, ValueError):
        return 0


def layer_height(plan: Plan, role: str) -> int:
    """The highest height that a node of this role tells; 0 when none answers, or for resource nodes."""
    if role == "resource":
        return 0
    answers = all_statuses([node for node in plan.nodes if node.role == role], timeout_seconds=STATUS_SECONDS)
    return max((_height(answer) for answer in answers.values() if answer is not None), default=0)


def last_words(log: bytes) -> str:
    """The last thing a node's log says, for the sentence about its failure."""
    for line in reversed([line for line in log[-4096:].splitlines() if line.strip()]):
        text = line.decode(errors="replace").strip()
        if not text.startswith("{"):
            return text[-300:]
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            continue
        return f"{fields.get('event', '')} {fields.get('reason', fields.get('error', ''))}".strip()[:300]
    return "its log is empty"
