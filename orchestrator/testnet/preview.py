"""What `up` would do now, host by host: set up, place which files, start or restart which nodes. Looks, and touches nothing.

The difference of configs (`plan/diff.py`) says what is wanted otherwise than before; this says what follows for the hosts, from
what is really there: a machine somebody changed by hand, a node that died, an engine without the image.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.fleet.failures import Failure
from orchestrator.monitoring.fleet_facts import facts_digest
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.bundles import Manifest, NodeEntry, NodePorts, sha256
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.machine_state import MachineState, look, node_state
from orchestrator.runtimes.process import source_digest
from orchestrator.runtimes.provisioning import base_digest, playbooks_digest
from orchestrator.runtimes.units import unit_name
from orchestrator.testnet.folder import files_of
from orchestrator.testnet.planning import Planned
from orchestrator.topology.machine import Machine
from orchestrator.topology.topology import MACHINES

NEW, CHANGED, UNCHANGED, UNREACHABLE = "new", "changed", "unchanged", "unreachable"


class HostPreview(Struct, frozen=True, kw_only=True):
    """One host. `reasons` are phrases; `starts` and `restarts` name nodes."""

    host: str
    change: str
    reasons: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()


def preview(planned: Planned) -> tuple[HostPreview, ...]:
    """What `up` would do on each host of the plan."""
    plan = planned.outcome.plan
    if plan.runtime == MACHINES:
        return _machines(planned)
    running: set[str] = set()
    outdated: frozenset[str] = frozenset()
    if planned.folder.exists:
        runtime = runtime_for(plan, planned.folder.path, code=source_digest())
        try:
            running = {name for name, state in runtime.status().items() if state.pid}
            outdated = runtime.outdated([node.name for node in plan.nodes])
        finally:
            runtime.close()
    changed = {*planned.difference.names("changed")}
    starts = tuple(node.name for node in plan.nodes if node.name not in running)
    restarts = tuple(node.name for node in plan.nodes if node.name in running and node.name in outdated | changed)
    change = NEW if not planned.folder.exists else CHANGED if starts or restarts or changed else UNCHANGED
    return (HostPreview(host="this machine", change=change, starts=starts, restarts=restarts),)


def _machines(planned: Planned) -> tuple[HostPreview, ...]:
    plan, outcome = planned.outcome.plan, planned.outcome
    files = {one.name: one.files for one in files_of(plan, outcome.ring, outcome.genesis)}
    looked = look(plan.machines, plan.name, {node.image for node in plan.operated})
    playbooks = playbooks_digest()
    found = []
    for machine in plan.machines:
        state = looked[machine.name]
        nodes = [node for node in plan.operated if node.machine == machine.name]
        if isinstance(state, Failure):
            found.append(HostPreview(host=machine.name, change=UNREACHABLE, reasons=(state.sentence,)))
        elif state.manifest is None:
            starts = tuple(node.name for node in nodes)
            found.append(HostPreview(host=machine.name, change=NEW, reasons=("is set up",), starts=starts))
        else:
            found.append(_known(plan, machine, nodes, state, state.manifest, files, playbooks))
    return tuple(found)


def _known(
    plan: Plan,
    machine: Machine,
    nodes: list[NodePlan],
    state: MachineState,
    record: Manifest,
    files: Mapping[str, Mapping[str, bytes]],
    playbooks: str,
) -> HostPreview:
    recorded = {entry.name: entry for entry in record.nodes}
    reasons: list[str] = []
    starts: list[str] = []
    restarts: list[str] = []
    facts = facts_digest(plan, machine)
    if record.base != base_digest(playbooks, machine, [_ports_only(node) for node in nodes], facts=facts):
        reasons.append("the machine's roles are applied again")
    for node in nodes:
        entry = recorded.get(node.name)
        if entry is None:
            reasons.append(f"{node.name} is placed")
            starts.append(node.name)
            continue
        differing = sorted(
            name for name, content in files[node.name].items() if entry.files.get(name) != sha256(content)
        )
        if differing:
            reasons.append(f"{node.name}: {', '.join(differing)}")
        if entry.image != node.image:
            reasons.append(f"{node.name}: image {entry.image} -> {node.image}")
        limits = (entry.cpus, entry.memory_bytes) != (node.cpus, node.memory_bytes)
        if limits:
            reasons.append(f"{node.name}: limits")
        there = node_state(plan.name, node.name, state)
        if there.pid == 0:
            starts.append(node.name)
        elif differing or limits or entry.image != node.image or not there.current:
            restarts.append(node.name)
    change = CHANGED if reasons or starts or restarts else UNCHANGED
    return HostPreview(
        host=machine.name, change=change, reasons=tuple(reasons), starts=tuple(starts), restarts=tuple(restarts)
    )


def _ports_only(node: NodePlan) -> NodeEntry:
    """What of an entry the base depends on."""
    ports = node.config.ports
    return NodeEntry(
        name=node.name,
        role=node.role,
        unit=unit_name("", node.name),
        home="",
        digest="",
        files={},
        unit_sha256="",
        ports=NodePorts(p2p=ports.p2p, http=ports.http, bulk=ports.bulk),
    )
