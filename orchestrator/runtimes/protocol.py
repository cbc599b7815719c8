"""What every runtime offers, whatever a node is there: a process, a container, a service of a machine.

A runtime places files and controls what runs; it decides nothing about the testnet. All methods converge: calling one
again after a crash, or when the state is already as asked, is right and changes nothing. What a runtime cannot reach it
puts into quarantine and goes on with the rest: whoever called it decides what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.usage import Usage


class NodeFiles(Struct, frozen=True):
    """One node's home: relative path -> content. Every file is placed with mode 0600."""

    name: str
    files: dict[str, bytes]

    def __repr__(self) -> str:
        return f"<NodeFiles {self.name}: {', '.join(self.files)}>"


class NodeState(Struct, frozen=True, kw_only=True):
    """How a node is. `state`: running, paused, stopping, waiting, failed, stopped or unknown (out of reach).
    `current`: runs what was placed last. `pid` is not 0 while something runs, whatever the numbers mean there."""

    name: str
    state: str
    current: bool
    pid: int = 0
    start: int = 0
    since_ms: int = 0
    restarts: int = 0
    last_exit: str = ""


class Runtime(Protocol):
    """Errors are EnvironmentFault with the node's name and the fix."""

    quarantine: dict[str, str]
    """Nodes that could not be worked on since this runtime was made, and why: one sentence each, with the fix."""
    status_seconds: float
    """How long whoever waits for nodes should make do with one answer of `status`, because it costs the machines that they
    run on; meanwhile nodes are asked themselves. 0: ask as often as you like."""

    def prepare(self, nodes: Iterable[NodeFiles]) -> None:
        """Bring what a start will need beforehand, so that it is quick: images. Touches nothing that runs."""

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Make the homes hold exactly these files (beside what nodes write themselves); names of those that differed."""

    def start(
        self, names: Sequence[str], *, timeout_seconds: float = 30.0, meanwhile: Callable[[], None] | None = None
    ) -> frozenset[str]:
        """Run these nodes with what is placed, replacing outdated ones; names of those that were not running so.

        `meanwhile` is called once while they start, so that the waiting is of use.
        """

    def stop(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop these nodes in order and keep them stopped; names of those that ran."""

    def kill(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """End these nodes at once, without warning, and keep them down until started; names of those that ran."""

    def pause(self, names: Sequence[str]) -> frozenset[str]:
        """Freeze these nodes where they are, connections open; names of those that were not frozen."""

    def unpause(self, names: Sequence[str]) -> frozenset[str]:
        """Let frozen nodes go on; names of those that were frozen."""

    def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """What these nodes use, of those that run and about which there are figures."""

    def forget(self, names: Iterable[str]) -> str:
        """Take stopped nodes out of what is operated; where their data is now, as a phrase, when it is not in their home."""

    def mark(self, name: str, flag: str, *, on: bool) -> bool:
        """Put an empty file `flag` into the home of a placed node, running or not, or take it away; whether that changed
        anything. Nodes look at theirs at least every second (`maintenance`)."""

    def finish(self, *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop everything of this testnet, also what nobody remembers; names of the nodes that ran."""

    def purge(self) -> None:
        """Remove what a finished testnet left outside its folder: containers, volumes, homes on machines."""

    def status(self) -> Mapping[str, NodeState]:
        """Every node that is placed or runs."""

    def outdated(self, names: Iterable[str]) -> frozenset[str]:
        """Nodes that run with other files, limits or code than they should."""

    def serving(self, node: NodePlan, state: NodeState | None) -> bool:
        """Whether the running node says that it serves; `state` may be None where `status_seconds` is not 0."""

    def read_log(self, name: str, *, since: float = 0.0) -> bytes:
        """A node's log lines written since a Unix time, oldest first; raises EnvironmentFault when out of reach."""

    def supervised(self) -> bool:
        """Whether something starts a node again that ends by itself."""

    def close(self) -> None:
        """Give up what this object holds; the nodes go on."""
