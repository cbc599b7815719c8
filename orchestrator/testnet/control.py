"""Single nodes of a testnet that is up: stop, kill and start them by name, as faults and demonstrations do.

The code a running parent was started with stays the code of its nodes, so that starting one node again never turns
into an upgrade of all others; upgrades are `up`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from orchestrator.errors import BadInput, PartialFailure
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.protocol import Runtime
from orchestrator.runtimes.usage import Usage
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet


def runtime_of(folder: TestnetFolder) -> Runtime:
    """The runtime of a testnet that was brought up; raises BadInput when there is none."""
    return runtime_for(folder.need_plan(), folder.path)


def kill_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """SIGKILL these nodes and keep them down; names of those that ran."""
    return control_nodes(folder, names, "kill")


def stop_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """Stop these nodes in good order and keep them down; names of those that ran."""
    return control_nodes(folder, names, "stop")


def start_nodes(folder: TestnetFolder, names: Sequence[str]) -> frozenset[str]:
    """Run these nodes again; names of those that did not."""
    return control_nodes(folder, names, "start")


def usage_of(folder: TestnetFolder, names: Sequence[str]) -> dict[str, Usage]:
    """What these nodes use, of those that run and about which there are figures."""
    with closing(runtime_of(folder)) as runtime:
        return runtime.usage(names)


def control_nodes(folder: TestnetFolder, names: Sequence[str], verb: str) -> frozenset[str]:
    """start, stop, kill, pause or unpause these nodes; names of those for which that changed anything."""
    known = [node.name for node in folder.need_plan().nodes]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"testnet {folder.name} has no node {unknown[0]!r}; it has {', '.join(known)}")
    with hold_testnet(folder.path.parent, folder.name), closing(runtime_of(folder)) as runtime:
        actions: dict[str, Callable[[Sequence[str]], frozenset[str]]] = {
            "kill": runtime.kill,
            "stop": runtime.stop,
            "start": runtime.start,
            "pause": runtime.pause,
            "unpause": runtime.unpause,
        }
        changed = actions[verb](list(names))
        Journal(folder.journal_file, verb).step(verb, nodes=sorted(changed))
        if runtime.quarantine:
            raise PartialFailure(
                f"not every node could be reached to {verb} it: {'; '.join(dict.fromkeys(runtime.quarantine.values()))}"
            )
        return changed
