"""`up`: from an inventory to a running, verified testnet, one journalled step after another.

Each step looks at what is there and does only what differs, so a run that was killed is finished by the next one and a
run that has nothing to do changes nothing. Fresh nodes start all at once, because they wait for each other on
conditions; nodes that run and must change are replaced one at a time, each ready before the next, so no layer loses
its quorum. Nodes that left the inventory go last, when those that came can take over (`draining`): what cannot be taken
out in time goes on running and is named.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.diff import NodeDifference
from orchestrator.plan.plan import Plan
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.launch import LaunchedParent
from orchestrator.runtimes.lean_imports import lean_imports
from orchestrator.runtimes.process import source_digest
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder, files_of, testnets_root
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.planning import Planned, settle_plan, topology_at
from orchestrator.testnet.ports_in_use import PortClaims, busy_ports
from orchestrator.testnet.readiness import layer_height, wait_ready
from orchestrator.topology.topology import PROCESS

REPLACE_SECONDS = 60.0
Say = Callable[[str], None]


class UpReport(Struct, frozen=True, kw_only=True):
    """What `up` did. `changed` counts nodes whose files or processes changed (and removed ones), `started` the nodes
    that were started or replaced; `phases` says when each step was done, in seconds from the start."""

    testnet: str
    folder: str
    changed: int
    started: int
    seconds: float
    nodes: dict[str, int]
    height: int
    differences: tuple[NodeDifference, ...]
    endpoints: dict[str, str]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    phases: dict[str, float]
    probe: dict[str, Any] | None
    quarantined: dict[str, str] = {}
    """Nodes that could not be worked on, and why; the rest is up."""
    draining: dict[str, str] = {}
    """Nodes that left the inventory and go on running, and why."""

    @property
    def partial(self) -> bool:
        """Whether something is left for the next run."""
        return bool(self.quarantined or self.draining)


def _load_verifier() -> None:
    """Import the client, a quarter of a second, while nodes start."""
    with lean_imports():
        importlib.import_module("orchestrator.testnet.verification")


class Raising:
    """One run of `up`."""

    def __init__(self, source: Path, *, began: float, say: Say, launched: LaunchedParent | None = None) -> None:
        self.source = source
        self.say = say
        self.launched = launched
        self.began = began
        self.phases: dict[str, float] = {}
        self.notes: list[str] = []

    def run(self, *, probe: bool = True, force: bool = False, wait_cooling_off: bool = False) -> UpReport:
        """Do it; raises BadInput, EnvironmentFault or PartialFailure with what is missing."""
        topology = topology_at(self.source)
        self._phase("inventory")
        folder = TestnetFolder(testnets_root() / topology.name)
        with hold_testnet(folder.path.parent, folder.name), PortClaims() as claims:
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            journal = Journal(folder.journal_file, "up")
            journal.step("begun", inventory=str(self.source))
            planned = settle_plan(topology, folder, journal, claims)
            self._phase("plan")
            runtime = self._runtime(planned)
            try:
                return self._apply(
                    planned, runtime, journal, probe=probe, force=force, wait_cooling_off=wait_cooling_off
                )
            finally:
                runtime.close()

    def _runtime(self, planned: Planned) -> Runtime:
        launched, self.launched = self.launched, None
        plan = planned.outcome.plan
        if plan.runtime != PROCESS:
            if launched is not None:
                launched.dismiss()
            return runtime_for(plan, planned.folder.path, say=self.say)
        return runtime_for(plan, planned.folder.path, launched=launched, code=source_digest(), say=self.say)

    def _apply(
        self,
        planned: Planned,
        runtime: Runtime,
        journal: Journal,
        *,
        probe: bool,
        force: bool,
        wait_cooling_off: bool,
    ) -> UpReport:
        folder, plan, ring = planned.folder, planned.outcome.plan, planned.outcome.ring
        for node in plan.nodes:
            if folder.bring_back(node.name):
                self.notes.append(f"{node.name} is back with its keys and data")
        placed = runtime.place(files_of(plan, ring, planned.outcome.genesis))
        if len(runtime.quarantine) == len(plan.nodes):
            raise EnvironmentFault(
                f"no node of {plan.name} could be placed: {'; '.join(dict.fromkeys(runtime.quarantine.values()))}"
            )
        journal.step("placed", nodes=sorted(placed))
        self._tell_stale_image(plan)
        self._phase("placed")
        started = self._start(plan, runtime, journal)
        self._phase("started")
        patience = planned.topology.ready_seconds
        founders = [node.name for node in plan.nodes if not node.registers and node.name not in runtime.quarantine]
        ready = wait_ready(plan, runtime, deadline_seconds=patience, say=self.say, only=founders)
        journal.step("ready", height=ready.height)
        self._phase("ready")
        joined = self._register(planned, runtime, journal)
        reachable = [node.name for node in plan.nodes if node.name not in runtime.quarantine]
        if len(founders) < len(reachable):
            wait_ready(plan, runtime, deadline_seconds=patience, say=self.say, only=reachable)
        gone, draining = self._drain(planned, runtime, journal, force=force, wait_cooling_off=wait_cooling_off)
        answer: dict[str, Any] | None = None
        if probe and started and plan.outside is None:  # a participant has no ozone to verify with
            from orchestrator.testnet.verification import put_and_get  # loaded by now, see _load_verifier

            answer = put_and_get(folder)
            journal.step("verified", **answer)
            self._phase("verified")
        changed = {*gone, *placed, *started, *joined}
        return UpReport(
            testnet=plan.name,
            folder=str(folder.path),
            changed=len(changed),
            started=len(started),
            seconds=round(time.time() - self.began, 3),
            nodes={role: sum(node.role == role for node in plan.nodes) for role in ("validator", "meta", "resource")},
            height=ready.height,
            differences=planned.difference.nodes,
            endpoints={node.name: node.http for node in plan.nodes},
            notes=tuple(self.notes),
            warnings=plan.warnings,
            phases=self.phases,
            probe=answer,
            quarantined=dict(runtime.quarantine),
            draining=draining,
        )

    def _tell_stale_image(self, plan: Plan) -> None:
        """Nodes run the image that the engine has; who has changed the sources since wants to know."""
        from orchestrator.image.names import default_image  # only its name, for processes too

        image = default_image()
        if plan.runtime == PROCESS or all(node.image != image for node in plan.nodes):
            return
        from orchestrator.image.build import is_stale  # the engine's SDK, where there is an image
        from orchestrator.image.engine import engine

        try:
            stale = is_stale(engine(), image)
        except EnvironmentFault:
            return  # archives serve as well; nothing can be said about them
        if stale:
            self.notes.append(
                f"{image} was built from other sources than these; `stratosctl image build`, then `stratosctl upgrade "
                f"--image {image}` brings them to the nodes"
            )

    def _phase(self, name: str) -> None:
        self.phases[name] = round(time.time() - self.began, 3)

    def _start(self, plan: Plan, runtime: Runtime, journal: Journal) -> frozenset[str]:
        states = runtime.status()
        names = [node.name for node in plan.nodes if node.name not in runtime.quarantine]
        fresh = [name for name in names if name not in states or states[name].pid == 0]
        busy = busy_ports(plan, frozenset(fresh)) if plan.runtime == PROCESS else []
        if busy:
            listed = ", ".join(f"{port} of {name}" for name, port in busy)
            raise EnvironmentFault(
                f"ports are in use by other programs: {listed}; stop them, "
                f"or move the testnet with `stratosctl down --purge -i {plan.source}` and `up`"
            )
        outdated = sorted(runtime.outdated(names), key=names.index)
        started = set(runtime.start([name for name in names if name not in outdated], meanwhile=_load_verifier))
        journal.step("started", nodes=sorted(started))
        for name in outdated:
            self.say(f"replacing {name}, which runs other files, limits or code than it should now")
            height = layer_height(plan, plan.node(name).role)
            started |= runtime.start([name])
            if name in runtime.quarantine:  # its machine was lost meanwhile; the others go on
                continue
            wait_ready(plan, runtime, deadline_seconds=REPLACE_SECONDS, say=self.say, only=[name], above=height)
            journal.step("replaced", node=name)
        return frozenset(started)

    def _drain(
        self, planned: Planned, runtime: Runtime, journal: Journal, *, force: bool, wait_cooling_off: bool
    ) -> tuple[dict[str, str], dict[str, str]]:
        leaving = planned.difference.names("removed")
        if not leaving:
            return {}, {}
        # Needs the chain's client: only when a node leaves.
        from orchestrator.testnet.draining import Draining, DrainSettings, drain

        seconds = planned.topology.drain_seconds
        settings = DrainSettings(seconds=seconds, force=force, wait_cooling_off=wait_cooling_off)
        outcome = planned.outcome
        gone, still = drain(
            leaving, Draining(planned.folder, outcome.plan, outcome.ring, runtime, settings, say=self.say)
        )
        for name, note in gone.items():
            self.notes.append(note)
            journal.step("removed", node=name, note=note)
        for name, reason in still.items():
            journal.step("draining", node=name, reason=reason)
        self._phase("drained")
        return gone, still

    def _register(self, planned: Planned, runtime: Runtime, journal: Journal) -> frozenset[str]:
        plan = planned.outcome.plan
        joining = [node for node in plan.nodes if node.registers and node.name not in runtime.quarantine]
        if not joining:
            return frozenset()
        from orchestrator.testnet.registration import join_register  # needs the chain's client: only when one joins

        joined = join_register(planned.folder, joining, planned.outcome.ring, say=self.say)
        if joined:
            journal.step("registered", nodes=sorted(joined))
            self.notes.extend(f"{name} registered on the chain and active" for name in sorted(joined))
        return joined
