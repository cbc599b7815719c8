"""The process runtime: nodes are processes of this machine, started and supervised by the testnet's fork parent.

This side only writes files and wishes, and waits for the parent to have carried them out; so it may be killed at any
instant and run again. Everything it must find again lies in the testnet's folder: homes under `nodes/`, the wish and the
observation under `supervisor/`. When there is no parent, or one with older code, it starts one, and the nodes that run
are adopted.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.errors import EnvironmentFault
from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.identity import ProcessIdentity, identify, is_stopped, lock_holder, send_signal, wait_gone
from orchestrator.runtimes.launch import ENTRY, LaunchedParent, launch_parent
from orchestrator.runtimes.placing import place_homes, replace_file
from orchestrator.runtimes.protocol import NodeFiles, NodeState
from orchestrator.runtimes.records import (
    LAUNCHED_FILE,
    NODE_LOCK,
    NODE_LOG,
    NODE_PROCESS,
    NODE_READY,
    OBSERVED_FILE,
    PARENT_LOCK,
    PARENT_LOG,
    WANTED_FILE,
    Launched,
    Observed,
    ProcessRecord,
    Wanted,
    WantedNode,
    read_record,
    write_record,
)
from orchestrator.runtimes.supervision import GRACE_SECONDS
from orchestrator.runtimes.usage import Usage, usage_of_process

SHORTEST_WAIT_SECONDS = 0.002
LONGEST_WAIT_SECONDS = 0.02
PARENT_SECONDS = 30.0


class ReadyFile(Struct, frozen=True):
    """The part of a node's ready.json that is looked at."""

    pid: int


class _RoleOfConfig(Struct):
    role: str = ""


class ProcessRuntime:
    """The runtime of the testnet in `folder`. `launched` is a parent that is preloading already, if there is one."""

    status_seconds = 0.0

    def __init__(
        self,
        folder: Path,
        *,
        spawn: str = "fork",
        code: str = "",
        entry: str = ENTRY,
        launched: LaunchedParent | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.own = self.folder / "supervisor"
        self.spawn = spawn
        self.code = code
        self.entry = entry
        self.quarantine: dict[str, str] = {}
        self._launched = launched
        self._watched: ProcessIdentity | None = None

    # -- files

    def home(self, name: str) -> Path:
        """The home folder of a node."""
        return self.folder / "nodes" / name

    def log(self, name: str) -> Path:
        """A node's log file."""
        return self.home(name) / NODE_LOG

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Write the files that are missing or differ, each by rename; names of the nodes that had any."""
        return place_homes(self.folder / "nodes", nodes)

    def prepare(self, nodes: Iterable[NodeFiles]) -> None:
        """The program is here already."""

    def mark(self, name: str, flag: str, *, on: bool) -> bool:
        """Make or remove an empty file in the home."""
        path = self.home(name) / flag
        if path.exists() == on:
            return False
        if on:
            replace_file(path, b"")
        else:
            path.unlink(missing_ok=True)
        return True

    # -- processes

    def start(
        self,
        names: Sequence[str],
        *,
        timeout_seconds: float = 30.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> frozenset[str]:
        """Wish these nodes to run as placed and wait until the parent has started them; `meanwhile` uses the waiting."""
        resumed = self.unpause(names)
        wanted = self._wanted()
        before = self.status()
        running = {name for name, state in before.items() if state.state == "running"}
        nodes = dict(wanted.nodes)
        digests = {name: self._digest(name) for name in names}
        started = set()
        for name in names:
            known = nodes.get(name)
            retry = known.retry if known is not None else 0
            if name in before and before[name].state in ("failed", "waiting"):
                retry += 1
            nodes[name] = WantedNode(
                home=str(self.home(name)),
                role=self._role(name),
                spawn=self.spawn,
                program=(*_program(self.entry), "run", "--home", str(self.home(name))),
                digest=digests[name],
                retry=retry,
            )
            if name not in running or before[name].pid == 0 or self._running_digest(name) != digests[name]:
                started.add(name)
        self._wish(wanted, nodes)
        self._ensure_parent()
        if meanwhile is not None and started:
            meanwhile()

        def done(observed: Observed) -> bool:
            """Every node has become itself, locked its home and said so; or has ended already."""
            states = [observed.nodes.get(name) for name in names]
            if any(state is not None and state.state == "failed" for state in states):
                return True
            return all(
                state is not None
                and (self._running_digest(name) == digests[name] if state.state == "running" else bool(state.last_exit))
                for name, state in zip(names, states, strict=True)
            )

        self._await(done, f"start {', '.join(names)}", timeout_seconds)
        return frozenset(started) | resumed

    def stop(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """SIGTERM, after the grace SIGKILL; waits until they are gone."""
        return self._end(names, kill=False, timeout_seconds=timeout_seconds)

    def kill(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """SIGKILL at once; waits until they are gone."""
        return self._end(names, kill=True, timeout_seconds=timeout_seconds)

    def pause(self, names: Sequence[str]) -> frozenset[str]:
        """SIGSTOP; the supervisor sees nothing of it, and SIGKILL still ends the process."""
        return self._signal(names, "running", signal.SIGSTOP)

    def unpause(self, names: Sequence[str]) -> frozenset[str]:
        """SIGCONT."""
        return self._signal(names, "paused", signal.SIGCONT)

    def _signal(self, names: Sequence[str], state: str, number: signal.Signals) -> frozenset[str]:
        states = self.status()
        found = [states[name] for name in names if name in states and states[name].state == state]
        return frozenset(one.name for one in found if send_signal(ProcessIdentity(one.pid, one.start), number))

    def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """Proportional memory and processor time of the processes; what goes over the network is not counted per process."""
        states = self.status()
        pids = {name: states[name].pid for name in names if name in states and states[name].pid}
        found = {name: usage_of_process(pid) for name, pid in pids.items()}
        return {name: used for name, used in found.items() if used is not None}

    def forget(self, names: Iterable[str]) -> str:
        """Take stopped nodes out of the wish; their homes are the caller's to move."""
        wanted = self._wanted()
        gone = set(names)
        self._wish(wanted, {name: node for name, node in wanted.nodes.items() if name not in gone})
        self._poke()
        return ""

    def _end(self, names: Sequence[str], *, kill: bool, timeout_seconds: float) -> frozenset[str]:
        wanted = self._wanted()
        ran = frozenset(name for name, state in self.status().items() if name in names and state.pid)
        nodes = {
            name: msgspec.structs.replace(node, run=False, kill=kill) if name in names else node
            for name, node in wanted.nodes.items()
        }
        self._wish(wanted, nodes)
        if self._parent() is None and not self._is_starting():
            self._sweep(list(names), kill=kill)
            return ran
        self._poke()

        def done(observed: Observed) -> bool:
            return all(name not in observed.nodes or observed.nodes[name].pid == 0 for name in names)

        self._await(done, f"stop {', '.join(names)}", timeout_seconds)
        return ran

    def finish(self, *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop all nodes and the parent, then whatever still holds a home's lock."""
        ran = frozenset(name for name, state in self.status().items() if state.pid)
        if not self.folder.is_dir():
            return ran
        self._stop_users_first()
        wanted = self._wanted()
        nodes = {name: msgspec.structs.replace(node, run=False) for name, node in wanted.nodes.items()}
        self._wish(wanted, nodes, finish=True)
        parent = self._parent()
        if parent is not None:
            send_signal(parent, signal.SIGHUP)
            if wait_gone([parent], timeout_seconds):
                send_signal(parent, signal.SIGKILL)
                wait_gone([parent], PARENT_SECONDS)
        launched = read_record(self.own / LAUNCHED_FILE, Launched)
        if launched is not None:
            starting = ProcessIdentity(launched.pid, launched.start)
            send_signal(starting, signal.SIGTERM)
            wait_gone([starting], PARENT_SECONDS)
        names = [home.name for home in self._homes()]
        self._sweep(names, kill=False)
        return ran

    def _stop_users_first(self) -> None:
        """Resource nodes go while the layers they hand their receipts to still answer: quicker, and nothing is lost."""
        wanted = self._wanted()
        users = {name for name, node in wanted.nodes.items() if node.run and node.role == "resource"}
        if not users or self._parent() is None:
            return
        nodes = {
            name: msgspec.structs.replace(node, run=False) if name in users else node
            for name, node in wanted.nodes.items()
        }
        self._wish(wanted, nodes)
        self._poke()
        wait_gone([lock for name in users if (lock := lock_holder(self.home(name) / NODE_LOCK))], GRACE_SECONDS)

    def status(self) -> dict[str, NodeState]:
        """The parent's observation, corrected by what the locks of the homes say."""
        observed = read_record(self.own / OBSERVED_FILE, Observed) or Observed()
        wanted = self._wanted()
        supervised = self._parent() is not None
        found: dict[str, NodeState] = {}
        for home in self._homes():
            name = home.name
            seen = observed.nodes.get(name)
            process = lock_holder(home / NODE_LOCK)
            if process is None and supervised and seen is not None and seen.pid:
                young = ProcessIdentity(seen.pid, seen.start)  # forked this moment, its home not locked yet
                process = young if young.alive else None
            record = read_record(home / NODE_PROCESS, ProcessRecord) if process is not None else None
            mine = record is not None and process is not None and (record.pid, record.start) == tuple(process)
            wish = wanted.nodes.get(name)
            state = "stopped"
            if process is not None:
                state = seen.state if seen is not None and seen.pid == process.pid else "running"
                state = "paused" if state == "running" and is_stopped(process.pid) else state
            elif supervised and seen is not None and wish is not None and wish.run:
                state = seen.state if seen.state == "failed" else "waiting"
            found[name] = NodeState(
                name=name,
                state=state,
                current=mine and record is not None and wish is not None and record.digest == wish.digest,
                pid=process.pid if process is not None else 0,
                start=process.start if process is not None else 0,
                since_ms=record.started_ms if record is not None and mine else 0,
                restarts=seen.restarts if seen is not None else 0,
                last_exit=seen.last_exit if seen is not None else "",
            )
        return found

    def outdated(self, names: Iterable[str]) -> frozenset[str]:
        """Nodes that run with other files or code than they should."""
        states = self.status()
        running = [name for name in names if name in states and states[name].pid]
        return frozenset(name for name in running if self._running_digest(name) != self._digest(name))

    def serving(self, node: NodePlan, state: NodeState | None) -> bool:
        """Whether the running process, not one before it, has written that it serves."""
        if state is None:
            return False
        ready = read_record(self.home(node.name) / NODE_READY, ReadyFile)
        return ready is not None and ready.pid == state.pid

    def read_log(self, name: str, *, since: float = 0.0) -> bytes:
        """The lines of node.log, and of the file before it while that is young enough."""
        current = self.log(name)
        before = current.with_name(current.name + ".1")
        try:
            older = before.read_bytes() if before.exists() and before.stat().st_mtime >= since else b""
            return older + current.read_bytes()
        except FileNotFoundError:
            return b""

    def purge(self) -> None:
        """Processes leave nothing outside the testnet's folder."""

    def supervised(self) -> bool:
        """Whether a parent watches over the nodes."""
        return self._parent() is not None

    def parent_code(self) -> str | None:
        """The digest of the sources that the running parent has loaded, if there is one."""
        parent = self._parent()
        told = self._told_by(parent) if parent is not None else None
        return told.code if told is not None else None

    # -- inside

    def _homes(self) -> list[Path]:
        nodes = self.folder / "nodes"
        return sorted(home for home in nodes.iterdir() if home.is_dir()) if nodes.is_dir() else []

    def _digest(self, name: str) -> str:
        """Stands for everything a node was started with: placed files and code, so a change of either replaces it."""
        digest = hashlib.blake2b(self.code.encode(), digest_size=16)
        home = self.home(name)
        for relative in ("config.json", "genesis.json", "node.key", "wallet.key"):
            path = home / relative
            content = path.read_bytes() if path.exists() else b""
            digest.update(f"{relative} {len(content)} ".encode() + content)
        digest.update(self.spawn.encode())
        return digest.hexdigest()

    def _role(self, name: str) -> str:
        config = read_record(self.home(name) / "config.json", _RoleOfConfig)
        return config.role if config is not None else ""

    def _running_digest(self, name: str) -> str:
        record = read_record(self.home(name) / NODE_PROCESS, ProcessRecord)
        return record.digest if record is not None else ""

    def _wanted(self) -> Wanted:
        return read_record(self.own / WANTED_FILE, Wanted) or Wanted()

    def _wish(
        self, before: Wanted, nodes: Mapping[str, WantedNode], *, finish: bool = False, leave: bool = False
    ) -> None:
        self.own.mkdir(mode=0o700, parents=True, exist_ok=True)
        wish = Wanted(revision=before.revision + 1, nodes=dict(nodes), finish=finish, leave=leave)
        if msgspec.structs.replace(wish, revision=before.revision) != before:
            write_record(self.own / WANTED_FILE, wish)

    def _parent(self) -> ProcessIdentity | None:
        return lock_holder(self.own / PARENT_LOCK)

    def _told_by(self, parent: ProcessIdentity) -> Observed | None:
        observed = read_record(self.own / OBSERVED_FILE, Observed)
        return observed if observed is not None and (observed.pid, observed.start) == tuple(parent) else None

    def _is_starting(self) -> bool:
        launched = read_record(self.own / LAUNCHED_FILE, Launched)
        return launched is not None and ProcessIdentity(launched.pid, launched.start).alive

    def _poke(self) -> None:
        parent = self._parent()
        if parent is not None:
            send_signal(parent, signal.SIGHUP)

    def _ensure_parent(self) -> None:
        """A parent with this program's code runs or is on its way; nodes of one that is older or has failed are adopted."""
        deadline = time.monotonic() + PARENT_SECONDS
        launched = read_record(self.own / LAUNCHED_FILE, Launched)
        parent = self._parent()
        if parent is not None:
            told = self._told_by(parent)
            while told is None and parent.alive and time.monotonic() < deadline:
                time.sleep(SHORTEST_WAIT_SECONDS)  # it holds its lock and is about to publish
                told = self._told_by(parent)
            # One that could not load the node's code leaves as soon as it can; another one has to try again.
            if told is not None and told.code == self.code and not told.error:
                send_signal(parent, signal.SIGHUP)
                self._dismiss()
                return
            self._hand_over(parent)
        elif launched is not None and ProcessIdentity(launched.pid, launched.start).alive:
            starting = ProcessIdentity(launched.pid, launched.start)
            told = self._told_by(starting)  # one that has said something has given its lock back and is leaving
            if launched.code == self.code and told is None:
                self._watched = starting
                self._dismiss()
                return
            send_signal(starting, signal.SIGTERM)
            wait_gone([starting], PARENT_SECONDS)
        child = self._launched or launch_parent(self.entry)
        self._launched = None
        self._watched = identify(child.pid)
        if self._watched is not None:
            record = Launched(pid=child.pid, start=self._watched.start, code=self.code)
            write_record(self.own / LAUNCHED_FILE, record)
        child.assign(self.folder, self.code)

    def _hand_over(self, parent: ProcessIdentity) -> None:
        wanted = self._wanted()
        self._wish(wanted, wanted.nodes, leave=True)
        send_signal(parent, signal.SIGHUP)
        if wait_gone([parent], PARENT_SECONDS):
            send_signal(parent, signal.SIGKILL)
            wait_gone([parent], PARENT_SECONDS)
        left = self._wanted()
        self._wish(left, left.nodes)

    def _dismiss(self) -> None:
        if self._launched is not None:
            self._launched.dismiss()
            self._launched = None

    close = _dismiss

    def _await(self, done: Callable[[Observed], bool], what: str, timeout_seconds: float) -> None:
        """Wait for the parent to have read the wish and for `done`; starts a new parent when it dies meanwhile."""
        deadline = time.monotonic() + timeout_seconds
        pause, replaced = SHORTEST_WAIT_SECONDS, 0
        revision = self._wanted().revision
        while True:
            observed = read_record(self.own / OBSERVED_FILE, Observed)
            writer = ProcessIdentity(observed.pid, observed.start) if observed is not None else None
            current = writer is not None and writer in (self._watched, self._parent())
            if observed is not None and current and observed.revision >= revision:
                if observed.error:
                    raise EnvironmentFault(f"{observed.error}; its log is {self.own / PARENT_LOG}")
                if done(observed):
                    return
            if self._parent() is None and (self._watched is None or not self._watched.alive):
                if replaced == 3:
                    raise EnvironmentFault(
                        f"the fork parent of {self.folder} keeps dying; read {self.own / PARENT_LOG}"
                    )
                replaced += 1
                self._ensure_parent()
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"could not {what} within {timeout_seconds:g} s; read {self.own / PARENT_LOG} and the nodes' logs"
                )
            time.sleep(pause)
            pause = min(pause * 1.3, LONGEST_WAIT_SECONDS)

    def _sweep(self, names: Sequence[str], *, kill: bool) -> None:
        """End whatever holds these homes, parent or no parent."""
        holders = [lock_holder(self.home(name) / NODE_LOCK) for name in names]
        left = [holder for holder in holders if holder is not None]
        for holder in left:
            send_signal(holder, signal.SIGKILL if kill else signal.SIGTERM)
        left = wait_gone(left, GRACE_SECONDS)
        for holder in left:
            send_signal(holder, signal.SIGKILL)
        stuck = wait_gone(left, GRACE_SECONDS)
        if stuck:
            raise EnvironmentFault(
                f"processes {', '.join(str(one.pid) for one in stuck)} cannot be ended; look at them with ps"
            )


def _program(entry: str) -> tuple[str, ...]:
    """The command that runs the entry module's `main`: stratosd where it is installed."""
    beside = Path(sys.executable).with_name("stratosd")
    if entry == ENTRY and beside.exists():
        return (str(beside),)
    return (sys.executable, "-P", "-m", entry)


def source_digest() -> str:
    """A digest of the node's and the runtimes' sources: what a preloaded parent has in memory."""
    import stratos  # only its place

    digest = hashlib.blake2b(digest_size=16)
    (node_package,) = stratos.__path__
    for root in (Path(node_package), Path(__file__).parent):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)} ".encode() + path.read_bytes())
    digest.update(sys.version.encode())
    return digest.hexdigest()
