"""The machines runtime: nodes are containers under systemd on machines that are reached over SSH.

Setting a machine up is Ansible's work (`playbooks/site.yml`): one bundle per machine, rendered here, and only for machines whose
record says something else than the bundle. Everything quick (nodes' files, state, start, stop, logs) goes over one kept SSH
connection per machine, all machines at once. Asking a machine costs it a tenth of a second of processor, so an answer is
good for a second unless something was done meanwhile. A machine that cannot be reached or set up is put into quarantine with its
reason; the others go on. `machines.json` remembers how to reach machines that have left the inventory until nothing of ours is there.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.fleet import connections
from orchestrator.fleet.failures import BROKEN, Failure
from orchestrator.fleet.ssh_route import SshTarget
from orchestrator.fleet.sudo_passwords import use_inventory
from orchestrator.node_status import node_status
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.bundles import sha256
from orchestrator.runtimes.machine_state import MachineState, look, node_state
from orchestrator.runtimes.placing import place_homes
from orchestrator.runtimes.protocol import NodeFiles, NodeState
from orchestrator.runtimes.provisioning import Provisioner
from orchestrator.runtimes.units import CONTAINER_UID, container_name, home_of, unit_name
from orchestrator.runtimes.usage import LOOK, Usage, usage_from_inside
from orchestrator.topology.machine import Machine

GENESIS = "genesis.json"
UNPAUSE = "docker unpause {containers} >/dev/null"
COMMAND_SECONDS = 60.0
LOG_SECONDS = 60.0
SERVING_SECONDS = 2.0
FRESH_SECONDS = 1.0
LONGEST_LOG_BYTES = 64 * 1024 * 1024


class MachinesRuntime:
    """The runtime of the testnet in `folder`."""

    status_seconds = 2.0

    def __init__(self, folder: Path, plan: Plan, *, say: Callable[[str], None]) -> None:
        self.folder = folder.resolve()
        self.plan = plan
        self.quarantine: dict[str, str] = {}
        self._say = say
        use_inventory(plan.source)
        self._lost: dict[str, Failure] = {}  # machines that gave no answer: asked once, not at every step
        self._known: dict[str, tuple[float, MachineState]] = {}
        self.machines = {machine.name: machine for machine in plan.machines}
        self.where = {node.name: node.machine for node in plan.operated}

    # -- files

    def prepare(self, nodes: Iterable[NodeFiles]) -> None:
        """Load the images on all machines at once, from bundles that are placed nowhere."""
        provisioner = Provisioner(self.folder, self.plan, say=self._say, bundles=self.folder / "bundles" / "next")
        reached = {
            name: state
            for name, state in self._look(list(self.machines.values()), images=True).items()
            if isinstance(state, MachineState)
        }
        provisioner.carry(provisioner.render({node.name: node.files for node in nodes}, reached), reached)
        provisioner.discard()
        for name, sentence in provisioner.failed.items():
            self._quarantine(name, sentence)

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Bring every machine to its bundle; nodes whose files, unit or image differed. Failed machines: quarantine."""
        homes = list(nodes)
        # First, so that what may be on a machine is known here. Secrets are in the key ring only.
        place_homes(self.folder / "nodes", (NodeFiles(one.name, _public(one.files)) for one in homes))
        provisioner = self._provisioner()
        looked = self._look(list(self.machines.values()), images=True)
        reached = {name: state for name, state in looked.items() if isinstance(state, MachineState)}
        wanted = provisioner.render({node.name: node.files for node in homes}, reached)
        try:
            changed = provisioner.apply(wanted, reached)
        finally:
            provisioner.discard()
        self._known = {name: (time.monotonic(), state) for name, state in provisioner.seen.items()}
        for name, sentence in provisioner.failed.items():
            self._quarantine(name, sentence)
        return frozenset(name for name in changed if name not in self.quarantine)

    def forget(self, names: Iterable[str]) -> str:
        """Take these stopped nodes off their machines; a machine that the inventory does not name any more and that holds
        nothing of this testnet then is left as it was found."""
        by_machine: dict[str, list[str]] = {}
        for name in names:
            if name in self.where:
                by_machine.setdefault(self.where.pop(name), []).append(name)
        provisioner = self._provisioner()
        for name, gone in by_machine.items():
            machine = self.machines[name]
            if machine.listed or self._nodes_on(name):
                provisioner.remove(machine, gone)
            else:
                provisioner.leave([machine])
        if provisioner.failed:
            raise EnvironmentFault(
                f"what was placed for {', '.join(name for gone in by_machine.values() for name in gone)} could not be removed: "
                f"{'; '.join(provisioner.failed.values())}"
            )
        return "it is gone from its machine"

    def mark(self, name: str, flag: str, *, on: bool) -> bool:
        """Make or remove an empty file in the node's home on its machine."""
        path = f"{home_of(self.plan.name, name)}/{flag}"
        make = f"test -e {path} || {{ install -o {CONTAINER_UID} -g {CONTAINER_UID} -m 0600 /dev/null {path} && echo made; }}"
        remove = f"test ! -e {path} || {{ rm -f {path} && echo removed; }}"
        done = connections.run(self.machine(name), make if on else remove, timeout=COMMAND_SECONDS, sudo=True)
        if done.code != 0:
            raise EnvironmentFault(
                f"{name}: {path} could not be changed ({done.said[-200:]}); check the machine's disk"
            )
        return bool(done.text)

    def _provisioner(self) -> Provisioner:
        return Provisioner(self.folder, self.plan, say=self._say)

    # -- nodes

    def start(
        self,
        names: Sequence[str],
        *,
        timeout_seconds: float = 30.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> frozenset[str]:
        """Start or restart the units of these nodes unless they run what is placed."""
        states = self._look(self._of(names))
        started: set[str] = set()
        commands: dict[str, list[str]] = {}
        off: set[str] = set()
        frozen: dict[str, list[str]] = {}
        for name in names:
            state = states.get(self.where[name])
            found = node_state(self.plan.name, name, state) if isinstance(state, MachineState) else None
            if found is not None and found.state == "paused":
                started.add(name)
                frozen.setdefault(self.where[name], []).append(name)
            if not isinstance(state, MachineState) or found is None or found.current:
                continue
            started.add(name)
            commands.setdefault(self.where[name], []).append(name)
            unit = state.units.get(unit_name(self.plan.name, name))
            if unit is None or not unit.enabled:  # systemd reads all its units again for it
                off.add(name)
        self._systemctl(frozen, UNPAUSE)
        work = threading.Thread(target=meanwhile) if meanwhile is not None and started else None
        if work is not None:
            work.start()
        try:  # a unit has a process when its restart returns
            self._systemctl(
                commands, "systemctl reset-failed {units} 2>/dev/null; {enable}systemctl restart {units}", off=off
            )
        finally:
            if work is not None:
                work.join()
        return frozenset(name for name in started if name not in self.quarantine)

    def stop(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop these nodes and keep them stopped, also after the machine's next boot."""
        return self._end(names, "systemctl disable --quiet --now {units}", timeout_seconds)

    def kill(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """SIGKILL the nodes' processes, then keep the units down."""
        command = "docker kill {containers} >/dev/null 2>&1; systemctl disable --quiet --now {units}"
        return self._end(names, command, timeout_seconds)

    def pause(self, names: Sequence[str]) -> frozenset[str]:
        """Freeze the nodes' containers."""
        return self._freeze(names, "docker pause {containers} >/dev/null", paused=False)

    def unpause(self, names: Sequence[str]) -> frozenset[str]:
        """Let the nodes' containers go on."""
        return self._freeze(names, UNPAUSE, paused=True)

    def _freeze(self, names: Sequence[str], command: str, *, paused: bool) -> frozenset[str]:
        state = "paused" if paused else "running"
        wanted = [name for name, found in self.status(names).items() if found.state == state]
        by_machine: dict[str, list[str]] = {}
        for name in wanted:
            by_machine.setdefault(self.where[name], []).append(name)
        self._systemctl(by_machine, command)
        return frozenset(name for name in wanted if name not in self.quarantine)

    def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """What the nodes' containers use, as their control groups say; the network's figures are the machine's."""
        found: dict[str, Usage] = {}
        for name, state in self.status(names).items():
            if state.pid:
                command = shlex.join(["docker", "exec", container_name(self.plan.name, name), *LOOK])
                done = connections.run(self.machine(name), command, timeout=COMMAND_SECONDS, sudo=True)
                used = usage_from_inside(done.stdout.decode(errors="replace"))
                if used is not None:
                    found[name] = used
        return found

    def _end(self, names: Sequence[str], command: str, timeout_seconds: float) -> frozenset[str]:
        before = self.status(names)
        ran = frozenset(name for name in names if before[name].pid)
        down = [name for name in names if before[name].state not in ("stopped", "unknown")]
        by_machine: dict[str, list[str]] = {}
        for name in down:
            by_machine.setdefault(self.where[name], []).append(name)
        self._systemctl(by_machine, command, timeout_seconds=timeout_seconds + COMMAND_SECONDS)
        return frozenset(name for name in ran if name not in self.quarantine)

    def finish(self, *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop every unit of the testnet on every machine that may have one, users of other layers first."""
        ran: set[str] = set()
        roles = {node.name: node.role for node in self.plan.nodes}
        installed = [name for name, state in self.status().items() if state.state not in ("stopped", "unknown")]
        for wave in (
            [name for name in installed if roles.get(name) == "resource"],
            [name for name in installed if roles.get(name) != "resource"],
        ):
            ran |= self.stop(wave, timeout_seconds=timeout_seconds) if wave else frozenset()
        return frozenset(ran)

    def purge(self, *, keep_data: bool = False) -> None:
        """Take everything of this testnet off the machines: units, homes, records; what serves other testnets stays, and
        with `keep_data` the homes do."""
        provisioner = self._provisioner()
        provisioner.leave(list(self.machines.values()), keep_data=keep_data)
        for name, sentence in provisioner.failed.items():
            self._quarantine(name, sentence)

    # -- looking

    def status(self, names: Iterable[str] | None = None) -> Mapping[str, NodeState]:
        """Every node that is planned or recorded; `unknown` where its machine cannot be asked."""
        wanted = list(names) if names is not None else list(self.where)
        looked = self._look(self._of(wanted))
        found: dict[str, NodeState] = {}
        for name in wanted:
            state = looked[self.where[name]]
            if isinstance(state, Failure):
                found[name] = NodeState(name=name, state="unknown", current=False, last_exit=state.reason)
            else:
                found[name] = node_state(self.plan.name, name, state)
        return found

    def outdated(self, names: Iterable[str]) -> frozenset[str]:
        """Nodes that were started with another digest than is placed now."""
        return frozenset(name for name, state in self.status(names).items() if state.pid and not state.current)

    def serving(self, node: NodePlan, state: NodeState | None) -> bool:
        """Whether its HTTP port answers, from here."""
        return node_status(node, timeout_seconds=SERVING_SECONDS) is not None

    def read_log(self, name: str, *, since: float = 0.0) -> bytes:
        """The node's lines in its machine's journal."""
        command = (
            f"journalctl --no-pager --quiet --output cat --since @{int(since)} "
            f"--unit {unit_name(self.plan.name, name)} | tail -c {LONGEST_LOG_BYTES}"
        )
        return connections.run(self.machine(name), command, timeout=LOG_SECONDS, sudo=True).stdout

    def machine(self, name: str) -> Machine:
        """The machine of a node."""
        return self.machines[self.where[name]]

    def supervised(self) -> bool:
        """systemd watches over every node."""
        return True

    def close(self) -> None:
        """Close the connections."""
        connections.close_all()

    # -- inside

    def _of(self, names: Iterable[str]) -> list[Machine]:
        return [self.machines[machine] for machine in dict.fromkeys(self.where[name] for name in names)]

    def _nodes_on(self, machine: str) -> list[str]:
        return [name for name, where in self.where.items() if where == machine]

    def _look(self, machines: Sequence[Machine], *, images: bool = False) -> dict[str, MachineState | Failure]:
        """What machines say now, or said within the last second; with `images`, which of the nodes' they have."""
        tags = {node.image for node in self.plan.operated if node.image} if images else set()
        oldest = time.monotonic() - FRESH_SECONDS
        known = {name: state for name, (when, state) in self._known.items() if when >= oldest and not images}
        asked = [one for one in machines if one.name not in self._lost and one.name not in known]
        looked: dict[str, MachineState | Failure] = {**known, **look(asked, self.plan.name, tags)}
        for name, answer in looked.items():
            state = self._ours(name, answer)
            looked[name] = state
            if isinstance(state, Failure):
                self._lost[name] = state
                self._quarantine(name, state.sentence)
            elif name not in known and not images:
                self._known[name] = (time.monotonic(), state)
        return {one.name: self._lost[one.name] if one.name in self._lost else looked[one.name] for one in machines}

    def _ours(self, name: str, state: MachineState | Failure) -> MachineState | Failure:
        """The state, unless what is there belongs to another testnet that somebody gave the same name."""
        if isinstance(state, Failure) or state.manifest is None:
            return state
        ours = sha256((self.folder / GENESIS).read_bytes())
        for entry in state.manifest.nodes:
            if entry.files.get(GENESIS) != ours:
                return Failure(
                    machine=name,
                    kind=BROKEN,
                    reason=f"it holds {entry.name} of another testnet that is called {self.plan.name} too",
                    fix="give this one another stratos_testnet, or destroy the other one from where it was made",
                )
        return state

    def _quarantine(self, machine: str, sentence: str) -> None:
        for node in self._nodes_on(machine):
            self.quarantine.setdefault(node, sentence)

    def _systemctl(
        self,
        by_machine: Mapping[str, Sequence[str]],
        command: str,
        *,
        timeout_seconds: float = COMMAND_SECONDS,
        off: Set[str] = frozenset(),
    ) -> frozenset[str]:
        """Run a command for some nodes of each machine; machines where it failed, which are in quarantine then. `off`: nodes
        that `{enable}` in it enables."""

        def one(machine: SshTarget) -> None:
            names = by_machine[machine.name]
            units = " ".join(shlex.quote(unit_name(self.plan.name, name)) for name in names)
            disabled = " ".join(shlex.quote(unit_name(self.plan.name, name)) for name in names if name in off)
            enable = f"systemctl enable --quiet {disabled}; " if disabled else ""
            containers = " ".join(shlex.quote(container_name(self.plan.name, name)) for name in names)
            text = command.format(units=units, containers=containers, enable=enable)
            done = connections.run(machine, text, timeout=timeout_seconds, sudo=True)
            if done.code != 0:
                raise EnvironmentFault(f"`{text[:200]}` ended with {done.code}: {done.said[-300:]}")

        outcome = connections.each(
            [self.machines[name] for name in by_machine], one, timeout=timeout_seconds, what=command
        )
        self._known.clear()
        failed = {name: result for name, result in outcome.items() if isinstance(result, Failure)}
        for name, failure in failed.items():
            self._quarantine(name, failure.sentence)
        return frozenset(failed)


def _public(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What of a home is no secret."""
    return {name: content for name, content in files.items() if not name.endswith(".key")}


def need_machine(runtime: object, name: str) -> Machine:
    """The machine of a node of a machines testnet; raises EnvironmentFault for the other runtimes."""
    if not isinstance(runtime, MachinesRuntime):
        raise EnvironmentFault(f"{name} does not run on a machine of its own; use `stratosctl exec {name}`")
    return runtime.machine(name)
