"""What every runtime offers, whatever a node is there: a process, a container, a service of a machine.

A runtime places files and controls what runs; it decides nothing about the testnet. All methods converge: calling one
again after a crash, or when the state is already as asked, is right and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class NodeFiles(Struct, frozen=True):
    """One node's home: relative path -> content. Every file is placed with mode 0600."""

    name: str
    files: dict[str, bytes]

    def __repr__(self) -> str:
        return f"<NodeFiles {self.name}: {', '.join(self.files)}>"


class NodeState(Struct, frozen=True, kw_only=True):
    """How a node is. `state`: running, stopping, waiting, failed or stopped. `current`: runs what was placed last."""

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

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Make the homes hold exactly these files (beside what nodes write themselves); names of those that differed."""

    def start(self, names: Sequence[str], *, timeout_seconds: float) -> frozenset[str]:
        """Run these nodes with what is placed, replacing outdated ones; names of those that were not running so."""

    def stop(self, names: Sequence[str], *, timeout_seconds: float) -> frozenset[str]:
        """Stop these nodes in order and keep them stopped; names of those that ran."""

    def kill(self, names: Sequence[str], *, timeout_seconds: float) -> frozenset[str]:
        """End these nodes at once, without warning, and keep them down until started; names of those that ran."""

    def finish(self, *, timeout_seconds: float) -> frozenset[str]:
        """Stop everything of this testnet, also what nobody remembers; names of the nodes that ran."""

    def status(self) -> Mapping[str, NodeState]:
        """Every node that is placed or runs."""

    def log(self, name: str) -> Path:
        """Where a node's log can be read."""
