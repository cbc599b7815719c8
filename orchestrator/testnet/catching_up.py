"""Waiting for a newcomer of a consensus layer: first until it has the layer's blocks, then until it votes.

A long chain takes its time, so what is waited for is progress: the deadline moves with every block that arrives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from orchestrator.errors import PartialFailure
from orchestrator.node_status import node_status, request
from orchestrator.plan.plan import NodePlan
from stratos.client.records import Endpoints

LOOK_SECONDS = 0.05


def wait_following(
    node: NodePlan, endpoints: Endpoints, *, patience_seconds: float, say: Callable[[str], None]
) -> None:
    """Wait until a validator or meta node has the blocks that its layer has now; PartialFailure without progress."""
    goal = max(1, _layer_height(endpoints, node.role))
    seen, deadline = -1, time.monotonic() + patience_seconds
    while True:
        status = node_status(node)
        height = int(status.get("height", 0)) if status is not None else -1
        if height >= goal:
            return
        if height > seen:
            seen, deadline = height, time.monotonic() + patience_seconds
        if time.monotonic() > deadline:
            raise PartialFailure(
                f"{node.name} has block {max(0, seen)} of {goal} and gets no more for {patience_seconds:g} s; "
                f"read `stratosctl logs {node.name}` and run `up` again"
            )
        say(f"{node.name} catches up: block {max(0, height)} of {goal}")
        time.sleep(LOOK_SECONDS)


def wait_voting(node: NodePlan, *, patience_seconds: float) -> None:
    """Wait until a validator or meta node says that it is in its set; PartialFailure at the deadline."""
    deadline = time.monotonic() + patience_seconds
    while not (node_status(node) or {}).get("voting"):
        if time.monotonic() > deadline:
            raise PartialFailure(
                f"{node.name} is registered but not among the voters after {patience_seconds:g} s; "
                "look at `stratosctl status` and run `up` again"
            )
        time.sleep(LOOK_SECONDS)


def _layer_height(endpoints: Endpoints, role: str) -> int:
    """The highest height that any known node of the layer tells, ours or not."""
    highest = 0
    for entry in endpoints.validators if role == "validator" else endpoints.meta:
        parts = urlsplit(entry.http)
        answer = request(parts.hostname or "", parts.port or 80, "/status", timeout_seconds=2.0)
        if answer is None or answer.status != 200:
            continue
        try:
            highest = max(highest, int(msgspec.json.decode(answer.body)["height"]))
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
    return highest
