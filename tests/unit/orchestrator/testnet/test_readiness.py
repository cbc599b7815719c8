"""Who is asked while nodes are waited for: where states cost the machines, the nodes themselves."""

from typing import Any

import pytest

from orchestrator.runtimes.protocol import NodeState
from orchestrator.testnet import readiness
from tests.unit.orchestrator.runtimes.test_containers import wish


class Asked:
    """A runtime with one node; notes what it is asked."""

    def __init__(self, *, status_seconds: float, serves: bool) -> None:
        self.status_seconds, self.serves = status_seconds, serves
        self.calls: list[str] = []

    def status(self) -> dict[str, NodeState]:
        self.calls.append("status")
        return {wish().node.name: NodeState(name=wish().node.name, state="running", current=True, pid=7)}

    def serving(self, _node: Any, _state: NodeState | None) -> bool:
        self.calls.append("serving")
        return self.serves


def missing(runtime: Any) -> dict[str, str]:
    """What one look misses."""
    return readiness._Watch([wish().node], runtime, metas=[], above=0).look()


@pytest.mark.parametrize(
    ("status_seconds", "serves", "asked"),
    [
        (0.0, True, ["status", "serving"]),
        (0.0, False, ["status", "serving"]),
        (60.0, True, ["serving"]),
        (60.0, False, ["serving"]),
    ],
)
def test_states_that_cost_are_not_asked_in_every_round(
    monkeypatch: pytest.MonkeyPatch, status_seconds: float, serves: bool, asked: list[str]
) -> None:
    """A node that answers runs; nobody need look for its process."""
    monkeypatch.setattr(readiness, "active_holders", lambda _metas: frozenset({wish().node.node}))
    monkeypatch.setattr(readiness, "node_status", lambda _node, **_: {"height": 5, "reporting": True})
    runtime = Asked(status_seconds=status_seconds, serves=serves)
    assert bool(missing(runtime)) is not serves
    assert runtime.calls == asked


def test_a_node_that_was_given_up_is_told_at_the_next_asking() -> None:
    """States are still looked at: what does not come up is not waited for until the deadline."""
    runtime: Any = Asked(status_seconds=0.001, serves=False)
    runtime.status = lambda: {wish().node.name: NodeState(name=wish().node.name, state="failed", current=True)}
    runtime.read_log = lambda _name: b"no store\n"
    watch = readiness._Watch([wish().node], runtime, metas=[], above=0)
    watch._asked -= 1
    with pytest.raises(readiness.EnvironmentFault, match="no store"):
        watch.look()
