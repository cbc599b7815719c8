"""The container runtime: one container per node of one engine, through its API alone, so that the engine may be elsewhere.

Nothing of this machine's disk is mounted: files go into the nodes' volumes through the API, all at once, before their containers are
made. The homes in the testnet's folder are the record of what was placed. Each container is looked at before it is touched, and whatever concerns
several nodes happens in parallel, because an engine takes its time for each. What stops a node says so in its exit code;
a node that ends by itself is started again by the engine. What the engine holds and whose it is, `holdings.py` knows.

`finish` removes containers and networks and keeps the volumes; the last log of each node is kept in its home in the folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from docker.errors import NotFound

from orchestrator.errors import EnvironmentFault
from orchestrator.node_status import node_status
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes import containers
from orchestrator.runtimes.containers import ContainerWish
from orchestrator.runtimes.holdings import AT_ONCE, Holdings
from orchestrator.runtimes.kept_log import keep_log, kept_log
from orchestrator.runtimes.placing import place_homes
from orchestrator.runtimes.protocol import NodeFiles, NodeState
from orchestrator.runtimes.shaping import BANDWIDTH_FILE, limit_new_cables
from orchestrator.runtimes.usage import LOOK, Usage, usage_from_engine, usage_from_inside
from orchestrator.runtimes.volumes import filled, flag_command, remove_files, set_flag

LONGEST_OUTPUT_BYTES = 64 * 1024 * 1024
SERVING_SECONDS = 1.0


class DockerRuntime:
    """The containers of the testnet in `folder`, whose plan is `plan`."""

    status_seconds = 0.5

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.say = say
        self.quarantine: dict[str, str] = {}
        self._nodes = {node.name: node for node in plan.operated}
        self._held = Holdings(plan.name, folder, say=say)
        self._details: dict[str, Mapping[str, Any]] = {}

    # -- files

    def home(self, name: str) -> Path:
        """The record of a node's home on this machine."""
        return self.folder / "nodes" / name

    def prepare(self, nodes: Iterable[NodeFiles]) -> None:
        """Find or build every image."""
        for node in self._nodes.values():
            self._held.image_id(node.image)

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Record the files; they reach a node's volume before it starts."""
        return place_homes(self.folder / "nodes", nodes)

    def mark(self, name: str, flag: str, *, on: bool) -> bool:
        """Make or remove an empty file in the node's volume, which is there once the node was started."""
        listed = self._held.listed().get(name)
        if listed is None or listed["State"] != "running":
            wish = self._wish(self._nodes[name])
            return wish.name in self._held.volumes() and set_flag(self._held, wish, flag, on=on)
        code, said = self.execute(name, flag_command(flag, on=on))
        if code != 0:
            raise EnvironmentFault(f"{name}: {flag} could not be changed ({said.decode(errors='replace')[-200:]})")
        return said.strip() == b"1"

    # -- containers

    def start(
        self, names: Sequence[str], *, timeout_seconds: float = 30.0, meanwhile: Callable[[], None] | None = None
    ) -> frozenset[str]:
        """Run these nodes with what is placed, all at once; names of those that were not running so."""
        if not names:
            return frozenset()
        for name in names:
            self._held.image_id(self._nodes[name].image)  # built or refused before anything is touched
        self._held.refuse_strangers()
        self._held.make_networks(self.plan.networks)
        listed, volumes = self._held.listed(), self._held.volumes()
        wishes = [self._wish(self._nodes[name]) for name in names]
        fresh = [wish for wish in wishes if not _was_started(wish, listed.get(wish.node.name))]
        with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool, filled(self._held, fresh):
            starting = [
                pool.submit(self._start_one, wish, listed.get(wish.node.name), volumes, int(timeout_seconds))
                for wish in wishes
            ]
            if meanwhile is not None:
                meanwhile()
            started = frozenset(name for name, one in zip(names, starting, strict=True) if one.result())
        return started | self._limit(names)

    def stop(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop these nodes; names of those that ran."""
        return self._end(names, lambda container: self._held.api.stop(container, timeout=int(timeout_seconds)), "stop")

    def kill(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """SIGKILL these nodes and wait until they are gone; names of those that ran."""

        def end(container: str) -> None:
            self._held.api.kill(container)
            self._held.api.wait(container, timeout=timeout_seconds)

        return self._end(names, end, "kill")

    def pause(self, names: Sequence[str]) -> frozenset[str]:
        """Freeze these nodes where they are; names of those that were not frozen."""
        return self._each(names, ("running",), self._held.api.pause, "pause")

    def unpause(self, names: Sequence[str]) -> frozenset[str]:
        """Let frozen nodes go on; names of those that were frozen."""
        return self._each(names, ("paused",), self._held.api.unpause, "unpause")

    def execute(self, name: str, command: Sequence[str]) -> tuple[int, bytes]:
        """Run a command in a node's container as the node's user: (exit code, its output and errors)."""
        container = self._running(name)
        with self._held.told(name, "execute a command in"):
            made = self._held.api.exec_create(container, list(command))
            stream = self._held.api.exec_start(made["Id"], stream=True)
            output = bytearray()
            for chunk in stream:
                output += chunk
                if len(output) > LONGEST_OUTPUT_BYTES:
                    break
            with contextlib.suppress(OSError):
                stream.close()
            stream._response.close()  # which the SDK leaves to the garbage collector
            if len(output) > LONGEST_OUTPUT_BYTES:
                raise EnvironmentFault(
                    f"{name}: `{' '.join(command)[:100]}` writes more than {LONGEST_OUTPUT_BYTES >> 20} MiB; have it write less"
                )
            return int(self._held.api.exec_inspect(made["Id"])["ExitCode"]), bytes(output)

    def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """What these nodes use, of those that run and about which there are figures."""
        listed = self._held.listed()
        running = [name for name in names if name in listed and listed[name]["State"] in ("running", "paused")]

        def look(name: str) -> Usage | None:
            with self._held.told(name, "measure"):
                found = usage_from_engine(self._held.api.stats(listed[name]["Id"], stream=False))
            if found is None and listed[name]["State"] == "running":
                found = usage_from_inside(self.execute(name, LOOK)[1].decode(errors="replace"))
            return found

        return {name: found for name, found in self._held.parallel(running, look).items() if found is not None}

    def forget(self, names: Iterable[str]) -> str:
        """Remove the containers of stopped nodes; their volumes stay, and so do their logs."""
        listed = self._held.listed()
        self._held.parallel(
            [name for name in names if name in listed], lambda name: self._remove(name, listed[name]["Id"])
        )
        return "its volume is kept"

    def finish(self, *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop and remove every container of this testnet and its networks; names of the nodes that ran."""
        listed = self._held.listed()
        ran = {name for name, one in listed.items() if one["State"] in ("running", "paused", "restarting")}

        def end(name: str) -> None:
            with self._held.told(name, "stop"):
                if name in ran:
                    self._held.api.stop(listed[name]["Id"], timeout=int(timeout_seconds))
            self._remove(name, listed[name]["Id"])

        self._held.parallel(list(listed), end)
        self._held.remove_helpers()
        self._held.remove_networks()
        return frozenset(ran)

    def purge(self) -> None:
        """Remove the volumes: everything the nodes know. Containers and networks are gone already."""
        self.finish()
        self._held.remove_volumes()

    # -- looking

    def status(self) -> Mapping[str, NodeState]:
        """Every node that is placed or has a container."""
        listed = self._held.listed()
        for one in listed.values():
            if one["State"] == "restarting":
                self._details.pop(one["Id"], None)  # counts and times move: look again every time
        unseen = [one["Id"] for one in listed.values() if one["State"] in ("running", "paused", "restarting")]
        fresh = [container for container in unseen if container not in self._details]
        for container, details in self._held.parallel(fresh, self._held.inspected).items():
            if details is not None:
                self._details[container] = details
        states = {}
        for name, one in listed.items():
            states[name] = containers.state_of(
                name, one, self._details.get(one["Id"]), current=name in self._nodes and self._is_current(name, one)
            )
        for name in self._nodes:
            if name not in states and self.home(name).is_dir():
                states[name] = NodeState(name=name, state="stopped", current=False)
        return states

    def outdated(self, names: Iterable[str]) -> frozenset[str]:
        """Nodes that run in another container than is wanted."""
        listed = self._held.listed()
        return frozenset(
            name
            for name in names
            if name in listed
            and listed[name]["State"] in ("running", "paused")
            and not self._is_current(name, listed[name])
        )

    def serving(self, node: NodePlan, state: NodeState | None) -> bool:
        """Whether its HTTP port answers: files of a node are not to be seen from here."""
        return node_status(node, timeout_seconds=SERVING_SECONDS) is not None

    def read_log(self, name: str, *, since: float = 0.0) -> bytes:
        """What earlier containers of the node wrote, as far as it is kept, and what this one did."""
        kept = kept_log(self.home(name), since=since)
        listed = self._held.listed().get(name)
        if listed is None:
            return kept
        with self._held.told(name, "read the log of"):
            return kept + bytes(self._held.api.logs(listed["Id"], since=since or None))

    def supervised(self) -> bool:
        """The engine starts nodes again that end by themselves."""
        return True

    def close(self) -> None:
        """Close the connection to the engine."""
        self._held.close()

    # -- one container

    def _start_one(
        self, wish: ContainerWish, listed: Mapping[str, Any] | None, volumes: frozenset[str], timeout_seconds: int
    ) -> bool:
        """Make and start one container, unless it runs as wanted; whether it was started."""
        name = wish.node.name
        with self._held.told(name, "start"):
            if listed is not None and not _made_for(wish, listed):
                if listed["State"] in ("running", "paused", "restarting"):
                    self._held.api.stop(listed["Id"], timeout=timeout_seconds)
                self._remove(name, listed["Id"])
                listed = None
            joined: Mapping[str, Any] = {}
            if listed is None:
                if wish.unwanted and wish.name in volumes:
                    self._withdraw(wish)
                container = str(self._held.api.create_container(**containers.creation(wish))["Id"])
            else:
                container = str(listed["Id"])
                joined = listed["NetworkSettings"]["Networks"]
            for network, address in wish.others.items():
                if network not in joined:
                    self._held.api.connect_container_to_network(container, network, ipv4_address=address)
            if listed is not None and listed["State"] == "running":
                return False
            if listed is not None and listed["State"] == "paused":
                self._held.api.unpause(container)
            else:
                self._details.pop(container, None)
                self._held.api.start(container)
        return True

    def _withdraw(self, wish: ContainerWish) -> None:
        """Take files out of the volume that were placed before and are not wanted any more: keys above all."""
        gone = remove_files(self._held, wish, wish.unwanted)
        if gone:
            self.say(f"{gone} files withdrawn from {wish.node.name}")

    def _remove(self, name: str, container: str) -> None:
        """Remove a container, after its log is in safety."""
        with self._held.told(name, "remove"), contextlib.suppress(NotFound):
            keep_log(self.home(name), bytes(self._held.api.logs(container)))
            self._held.api.remove_container(container, force=True)

    def _end(self, names: Sequence[str], end: Callable[[str], Any], verb: str) -> frozenset[str]:
        return self._each(names, ("running", "paused", "restarting"), end, verb)

    def _each(
        self, names: Sequence[str], states: tuple[str, ...], action: Callable[[str], Any], verb: str
    ) -> frozenset[str]:
        listed = self._held.listed()
        wanted = [name for name in names if name in listed and listed[name]["State"] in states]

        def one(name: str) -> None:
            with self._held.told(name, verb):
                action(listed[name]["Id"])

        self._held.parallel(wanted, one)
        return frozenset(wanted)

    def _running(self, name: str) -> str:
        listed = self._held.listed().get(name)
        if listed is None or listed["State"] != "running":
            raise EnvironmentFault(f"{name} does not run; start it with `stratosctl up`")
        return str(listed["Id"])

    def _limit(self, names: Sequence[str]) -> frozenset[str]:
        """Limit the bandwidth of those of these nodes that have a limit and whose cables do not have it yet; their names."""
        mbit = {name: self._nodes[name].bandwidth_mbit for name in names if self._nodes[name].bandwidth_mbit}
        if not mbit:
            return frozenset()
        listed, image_id = self._held.listed(), self._held.image_id(self._nodes[next(iter(mbit))].image)
        there = {name: self._held.inspected(listed[name]["Id"]) for name in mbit if name in listed}
        return limit_new_cables(
            self._held, self.folder / BANDWIDTH_FILE, image_id=image_id, mbit=mbit, containers=there
        )

    # -- what is wanted

    def _wish(self, node: NodePlan) -> ContainerWish:
        files = {}
        for name in containers.PLACED_FILES:
            with contextlib.suppress(FileNotFoundError):
                files[name] = (self.home(node.name) / name).read_bytes()
        return containers.wish_for(
            self.plan.name,
            node,
            self.plan.networks,
            genesis=self._held.genesis,
            image_id=self._held.image_id(node.image),
            files=files,
        )

    def _is_current(self, name: str, listed: Mapping[str, Any]) -> bool:
        if not self._held.known_image(self._nodes[name].image):
            return False  # it runs an image that the engine has lost the name of
        wish = self._wish(self._nodes[name])
        joined = listed["NetworkSettings"]["Networks"]
        return bool(
            listed["Labels"].get(containers.DIGEST_LABEL) == wish.digest and wish.others.keys() <= joined.keys()
        )


def _made_for(wish: ContainerWish, listed: Mapping[str, Any]) -> bool:
    return bool(listed["Labels"].get(containers.DIGEST_LABEL) == wish.digest)


def _was_started(wish: ContainerWish, listed: Mapping[str, Any] | None) -> bool:
    """Whether a container of this wish ever ran: then its volume holds its files. An interrupted run may have left a created one."""
    return listed is not None and _made_for(wish, listed) and listed["State"] != "created"
