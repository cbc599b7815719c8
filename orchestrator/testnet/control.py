"""Single nodes of a testnet that is up: stop, kill and start them by name, as faults and demonstrations do.

The code a running parent was started with stays the code of its nodes, so that starting one node again never turns
into an upgrade of all others; upgrades are `up`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from orchestrator.errors import BadInput
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet


def runtime_of(folder: TestnetFolder) -> Runtime:
    """The runtime of a testnet that was brought up; raises BadInput when there is none."""
    return runtime_for(folder.need_plan(), folder.path)


def kill_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """SIGKILL these nodes and keep them down; names of those that ran."""
    return _control(folder, names, "kill")


def stop_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """Stop these nodes in good order and keep them down; names of those that ran."""
    return _control(folder, names, "stop")


def start_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """Run these nodes again; names of those that did not."""
    return _control(folder, names, "start")


def _control(folder: TestnetFolder, names: Sequence[str], verb: str) -> frozenset[str]:
    known = [node.name for node in folder.need_plan().nodes]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"testnet {folder.name} has no node {unknown[0]!r}; it has {', '.join(known)}")
    with hold_testnet(folder.path.parent, folder.name), closing(runtime_of(folder)) as runtime:
        actions = {"kill": runtime.kill, "stop": runtime.stop, "start": runtime.start}
        changed = actions[verb](list(names))
        Journal(folder.journal_file, verb).step(verb, nodes=sorted(changed))
        return changed
