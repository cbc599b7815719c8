"""From a plan to provisioned machines: bundles rendered here, and the playbooks that bring them where they belong.

Nothing runs on a machine whose record says what its bundle says and whose engine has the image. Where only nodes differ, they
are placed by the module that `node.yml` calls, without Ansible (`fleet/direct.py`); where the image does, `site.yml` brings both; where the
base differs (a new machine, other roles, other settings of the machine), `site.yml` does everything. The base is a digest of
the playbooks and of what the machine is for, so a changed role is applied by the next `up` and an unchanged one costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.fleet.direct import place_bundles
from orchestrator.fleet.failures import Failure
from orchestrator.fleet.inventory_file import write_inventory
from orchestrator.fleet.playbook import PLAYBOOKS, run_playbook
from orchestrator.image.archive import ImageArchive, image_archive
from orchestrator.monitoring.fleet_facts import facts_digest, write_facts
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.bundles import (
    Manifest,
    NodeEntry,
    NodePorts,
    bundle_name,
    node_entry,
    write_bundle,
)
from orchestrator.runtimes.machine_state import MachineState, probe, read_state
from orchestrator.runtimes.units import unit_text
from orchestrator.topology.inventory import CACHE_FOLDER
from orchestrator.topology.machine import Machine

Say = Callable[[str], None]
_SOURCES = (".py", ".yml", ".j2", ".cfg", ".json", ".rules")


class Rendered(Struct, frozen=True):
    """A machine and what it should hold."""

    machine: Machine
    manifest: Manifest


class Provisioner:
    """One run over the machines of a plan. `failed`: machine -> sentence, after `apply`; `seen`: what machines said after it."""

    def __init__(self, folder: Path, plan: Plan, *, say: Say, bundles: Path | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.failed: dict[str, str] = {}
        self.seen: dict[str, MachineState] = {}
        self._say = say
        self.bundles = (bundles or folder / "bundles").resolve()
        self._archives: dict[str, ImageArchive] = {}

    def render(self, files: Mapping[str, Mapping[str, bytes]], reached: Mapping[str, MachineState]) -> list[Rendered]:
        """Write the bundle of every machine that answered; raises EnvironmentFault when the image cannot be had."""
        self.bundles.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_facts(self.bundles, self.plan)
        playbooks = playbooks_digest()
        rendered = []
        for machine in self.plan.machines:
            if machine.name not in reached:
                continue
            before = reached[machine.name].manifest
            nodes = [node for node in self.plan.operated if node.machine == machine.name]
            units = {node.name: self._unit(node) for node in nodes}
            entries = [self._entry(node, files[node.name], units[node.name]) for node in nodes]
            manifest = Manifest(
                testnet=self.plan.name,
                image=nodes[0].image if nodes else before.image if before is not None else "",
                image_id=self._archive(nodes[0].image).image_id if nodes else "",
                base=base_digest(playbooks, machine, entries, facts=facts_digest(self.plan, machine)),
                nodes=tuple(entries),
            )
            write_bundle(
                self.bundles / bundle_name(machine.name),
                manifest,
                {node.name: files[node.name] for node in nodes},
                {entry.unit: units[entry.name] for entry in entries},
            )
            rendered.append(Rendered(machine, manifest))
        return rendered

    def apply(self, wanted: Sequence[Rendered], states: Mapping[str, MachineState]) -> frozenset[str]:
        """Run the playbooks where something differs; names of nodes that were changed, removed ones too."""
        whole, image, part = [], [], []
        for one in wanted:
            state = states[one.machine.name]
            if state.manifest is None or state.manifest.base != one.manifest.base:
                whole.append(one)
            elif not self._has_images(one.manifest, state):
                image.append(one)
            elif not _holds(one.manifest, state):
                part.append(one)
        for some, tags in ((whole, ()), (image, ("image", "node"))):
            if some:
                self._run("site.yml", [one.machine for one in some], tags=tags, stratos_node_state="placed")
        if part:
            self._place_directly(part)
        changed: set[str] = set()
        for one in (*whole, *image, *part):
            if one.machine.name not in self.failed:
                changed |= _differing(states[one.machine.name].manifest, one.manifest)
        return frozenset(changed)

    def discard(self) -> None:
        """Remove the bundles, which hold keys: they are rendered anew whenever they are needed."""
        for machine in self.plan.machines:
            (self.bundles / bundle_name(machine.name)).unlink(missing_ok=True)

    def carry(self, wanted: Sequence[Rendered], states: Mapping[str, MachineState]) -> None:
        """Load the images of these bundles where they are missing, and nothing else."""
        missing = [one.machine for one in wanted if not self._has_images(one.manifest, states[one.machine.name])]
        if missing:
            self._run("site.yml", missing, tags=("image",))

    def remove(self, machine: Machine, names: Sequence[str]) -> None:
        """Take stopped nodes off a machine: units, homes, their part of its record."""
        self._run("node.yml", [machine], stratos_node_state="absent", stratos_node_names=list(names))

    def leave(self, machines: Sequence[Machine], *, keep_data: bool = False) -> None:
        """Take everything of this testnet off machines, and leave those where no other testnet is as they were found."""
        if machines:
            self._run("destroy.yml", machines, stratos_destroy_testnet=self.plan.name, stratos_keep_data=keep_data)

    # -- inside

    def _place_directly(self, wanted: Sequence[Rendered]) -> None:
        """Place nodes on machines that are set up."""
        self._say(f"placing nodes on {len(wanted)} machines")
        bundles = {
            one.machine.name: (
                one.machine,
                self.bundles / bundle_name(one.machine.name),
                msgspec.to_builtins(one.manifest),
            )
            for one in wanted
        }
        for name, answer in place_bundles(bundles, probe(self.plan.name)).items():
            if isinstance(answer, Failure):
                self.failed[name] = answer.sentence
            elif not isinstance(state := read_state(name, answer.probed), Failure):
                self.seen[name] = state

    def _run(self, playbook: str, machines: Sequence[Machine], *, tags: Sequence[str] = (), **more: Any) -> None:
        """Run a playbook on machines; those of the inventory with it, because it may hold what only Ansible knows."""
        listed = [machine for machine in machines if machine.listed]
        others = [machine for machine in machines if not machine.listed]
        remembered = self.folder / "ansible" / "remembered.yml"
        for some, inventory in ((listed, Path(self.plan.source)), (others, remembered)):
            if not some:
                continue
            if some is others:
                write_inventory(remembered, others, testnet=self.plan.name)
            leaders = {machine.leader: machine.name for machine in some}
            self._say(f"{playbook} on {len(some)} machines")
            done = run_playbook(
                playbook,
                inventory=inventory,
                work=self.folder / "ansible",
                extra={**self.variables(), **more},
                limit=list(leaders),
                tags=tags,
                say=self._say,
            )
            for host, reason in done.failed.items():
                if host in leaders:
                    self.failed.setdefault(leaders[host], f"{host}: {reason}")

    def variables(self) -> dict[str, str]:
        """What the playbooks are told beside the inventory."""
        archive = next(iter(self._archives.values()), None)
        extra = {
            "stratos_testnet": self.plan.name,
            "stratos_bundles": str(self.bundles),
        }
        if archive is not None:
            extra["stratos_image_archive"] = str(archive.path)
        return extra

    def _archive(self, image: str) -> ImageArchive:
        if image not in self._archives:
            self._archives[image] = image_archive(image, cache=self.folder.parent / CACHE_FOLDER, say=self._say)
        return self._archives[image]

    def _unit(self, node: NodePlan) -> str:
        return unit_text(
            testnet=self.plan.name,
            node=node.name,
            role=node.role,
            image=node.image,
            image_id=self._archive(node.image).image_id,
            cpus=node.cpus,
            memory_bytes=node.memory_bytes,
        )

    def _entry(self, node: NodePlan, files: Mapping[str, bytes], unit: str) -> NodeEntry:
        ports = node.config.ports
        return node_entry(
            testnet=self.plan.name,
            name=node.name,
            role=node.role,
            files=files,
            unit=unit,
            image=node.image,
            image_id=self._archive(node.image).image_id,
            ports=NodePorts(p2p=ports.p2p, http=ports.http, bulk=ports.bulk, metrics=ports.metrics or 0),
            cpus=node.cpus,
            memory_bytes=node.memory_bytes,
            bandwidth_mbit=node.bandwidth_mbit,
        )

    def _has_images(self, manifest: Manifest, state: MachineState) -> bool:
        return all(state.images.get(entry.image) == self._archive(entry.image).image_id for entry in manifest.nodes)


def _holds(manifest: Manifest, state: MachineState) -> bool:
    """Whether the machine has all of it: its record, and units as recorded."""
    assert state.manifest is not None
    recorded = {entry.name: entry for entry in state.manifest.nodes}
    return all(recorded.get(entry.name) == entry and entry.unit in state.units for entry in manifest.nodes)


def playbooks_digest() -> str:
    """Stands for every playbook, role and module: a changed one is applied again."""
    digest = hashlib.sha256()
    for path in sorted(PLAYBOOKS.rglob("*")):
        if path.is_file() and path.suffix in _SOURCES:
            digest.update(f"{path.relative_to(PLAYBOOKS)} ".encode() + path.read_bytes())
    return digest.hexdigest()


def base_digest(playbooks: str, machine: Machine, entries: Iterable[NodeEntry], *, facts: str) -> str:
    """Stands for what a machine is set up for, beside the files of its nodes. `facts`: what it must know of the fleet."""
    ports = [(entry.name, entry.role, entry.ports) for entry in entries]
    base = msgspec.json.encode([playbooks, sorted(machine.groups), sorted(ports, key=lambda one: one[0]), facts])
    return hashlib.sha256(base).hexdigest()


def _differing(before: Manifest | None, after: Manifest) -> set[str]:
    old = {entry.name: entry.digest for entry in before.nodes} if before is not None else {}
    return {entry.name for entry in after.nodes if old.get(entry.name) != entry.digest}
