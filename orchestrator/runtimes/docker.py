"""The container runtime: one container per node of one engine, through its API alone, so that the engine may be elsewhere.

Nothing of this machine's disk is mounted: files go into the nodes' volumes through the API, before their containers start. All
of them go at once, through one container that is never started: an engine mounts a container's file system, and starts a process that unpacks, for every
archive that it is given, which for each node by itself cost as much as half its start. The homes in
the testnet's folder are the record of what was placed. Each container is looked at before it is touched, and whatever concerns
several nodes happens in parallel, because an engine takes its time for each. What stops a node says so in its exit code;
a node that ends by itself is started again by the engine.

What belongs to this testnet says so in two labels: its name and its genesis. An engine may hold another testnet of the same name, made from
another folder or left behind by a folder that was deleted by hand: that one is never touched, and `start` refuses to mix with it.

`finish` removes containers and networks and keeps the volumes; the last log of each node is kept in its home in the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import IPAMConfig, IPAMPool

from orchestrator.errors import EnvironmentFault
from orchestrator.image.engine import engine, reason
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes import containers
from orchestrator.runtimes.containers import ContainerWish
from orchestrator.runtimes.placing import place_homes
from orchestrator.runtimes.protocol import NodeFiles, NodeState
from orchestrator.runtimes.shaping import limit_bandwidth
from orchestrator.runtimes.units import CONTAINER_HOME
from orchestrator.runtimes.usage import LOOK, Usage, usage_from_engine, usage_from_inside
from orchestrator.testnet.node_status import node_status

AT_ONCE = 16
KEPT_LOG = "node.log"
KEPT_LOG_BYTES = 16 * 1024 * 1024
SERVING_SECONDS = 1.0
T = TypeVar("T")


class DockerRuntime:
    """The containers of the testnet in `folder`, whose plan is `plan`."""

    status_seconds = 0.5

    def __init__(self, plan: Plan, folder: Path, *, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.folder = folder
        self.say = say
        self.quarantine: dict[str, str] = {}
        self._nodes = {node.name: node for node in plan.operated}
        self._connected: Any = None
        self._images: dict[str, str] = {}
        self._genesis_digest: str | None = None
        self._details: dict[str, Mapping[str, Any]] = {}

    # -- files

    def home(self, name: str) -> Path:
        """The record of a node's home on this machine."""
        return self.folder / "nodes" / name

    def prepare(self) -> None:
        """Find or build every image."""
        for node in self._nodes.values():
            self._image_id(node)

    def place(self, nodes: Iterable[NodeFiles]) -> frozenset[str]:
        """Record the files; they reach a node's volume before it starts."""
        return place_homes(self.folder / "nodes", nodes)

    def mark(self, name: str, flag: str, *, on: bool) -> bool:
        """Make or remove an empty file in the node's volume."""
        listed = self._listed().get(name)
        if listed is None:
            return False
        with self._told(name, "mark"):
            try:
                self._api.get_archive(listed["Id"], f"{CONTAINER_HOME}/{flag}")
                there = True
            except NotFound:
                there = False
            if there == on:
                return False
            if on:
                self._api.put_archive(listed["Id"], CONTAINER_HOME, containers.packed({flag: b""}))
                return True
        code, said = self.execute(name, ["rm", "-f", f"{CONTAINER_HOME}/{flag}"])
        if code != 0:
            raise EnvironmentFault(f"{name}: {flag} could not be removed ({said.decode(errors='replace')[-200:]})")
        return True

    # -- containers

    def start(
        self, names: Sequence[str], *, timeout_seconds: float = 30.0, meanwhile: Callable[[], None] | None = None
    ) -> frozenset[str]:
        """Run these nodes with what is placed, all at once; names of those that were not running so."""
        if not names:
            return frozenset()
        for name in names:
            self._image_id(self._nodes[name])  # built or refused before anything is touched
        self._refuse_strangers()
        self._make_networks()
        listed = self._listed()
        wishes = {name: self._wish(self._nodes[name]) for name in names}
        fresh = [wish for name, wish in wishes.items() if not _made_as(wish, listed.get(name))]
        with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
            filler = self._fill_volumes(fresh) if fresh else ""
            starting = [
                pool.submit(self._start_one, wish, listed.get(name), int(timeout_seconds))
                for name, wish in wishes.items()
            ]
            dropping = pool.submit(self._drop, filler) if filler else None
            if meanwhile is not None:
                meanwhile()
            started = {
                name: container for name, one in zip(names, starting, strict=True) if (container := one.result())
            }
            if dropping is not None:
                dropping.result()
        self._limit(started)
        return frozenset(started)

    def stop(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop these nodes; names of those that ran."""
        return self._end(names, lambda container: self._api.stop(container, timeout=int(timeout_seconds)), "stop")

    def kill(self, names: Sequence[str], *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """SIGKILL these nodes and wait until they are gone; names of those that ran."""

        def end(container: str) -> None:
            self._api.kill(container)
            self._api.wait(container, timeout=timeout_seconds)

        return self._end(names, end, "kill")

    def pause(self, names: Sequence[str]) -> frozenset[str]:
        """Freeze these nodes where they are; names of those that were not frozen."""
        return self._each(names, ("running",), self._api.pause, "pause")

    def unpause(self, names: Sequence[str]) -> frozenset[str]:
        """Let frozen nodes go on; names of those that were frozen."""
        return self._each(names, ("paused",), self._api.unpause, "unpause")

    def execute(self, name: str, command: Sequence[str]) -> tuple[int, bytes]:
        """Run a command in a node's container as the node's user: (exit code, its output and errors)."""
        container = self._running(name)
        with self._told(name, "execute a command in"):
            made = self._api.exec_create(container, list(command))
            stream = self._api.exec_start(made["Id"], stream=True)
            output = b"".join(stream)
            with contextlib.suppress(OSError):
                stream.close()  # the connection is of no further use to the SDK, which would not close it
            return int(self._api.exec_inspect(made["Id"])["ExitCode"]), output

    def usage(self, names: Sequence[str]) -> dict[str, Usage]:
        """What these nodes use, of those that run and about which there are figures."""
        listed = self._listed()
        running = [name for name in names if name in listed and listed[name]["State"] in ("running", "paused")]

        def look(name: str) -> Usage | None:
            with self._told(name, "measure"):
                found = usage_from_engine(self._api.stats(listed[name]["Id"], stream=False))
            if found is None and listed[name]["State"] == "running":
                found = usage_from_inside(self.execute(name, LOOK)[1].decode(errors="replace"))
            return found

        return {name: found for name, found in self._parallel(running, look).items() if found is not None}

    def forget(self, names: Iterable[str]) -> None:
        """Remove the containers of stopped nodes; their volumes stay, and so do their logs."""
        listed = self._listed()
        self._parallel([name for name in names if name in listed], lambda name: self._remove(name, listed[name]["Id"]))

    def finish(self, *, timeout_seconds: float = 30.0) -> frozenset[str]:
        """Stop and remove every container of this testnet and its networks; names of the nodes that ran."""
        listed = self._listed()
        ran = {name for name, one in listed.items() if one["State"] in ("running", "paused", "restarting")}

        def end(name: str) -> None:
            with self._told(name, "stop"):
                if name in ran:
                    self._api.stop(listed[name]["Id"], timeout=int(timeout_seconds))
            self._remove(name, listed[name]["Id"])

        self._parallel(list(listed), end)
        self._drop(containers.filler_name(self.plan.name))
        for network in self._api.networks(filters=self._mine()):
            with self._told(str(network["Name"]), "remove the network"), contextlib.suppress(NotFound):
                self._api.remove_network(network["Id"])
        return frozenset(ran)

    def purge(self) -> None:
        """Remove the volumes: everything the nodes know. Containers and networks are gone already."""
        self.finish()
        with self._told("testnet " + self.plan.name, "remove the volumes of"):
            for volume in self._api.volumes(filters=self._mine())["Volumes"] or ():
                self._api.remove_volume(volume["Name"])

    # -- looking

    def status(self) -> Mapping[str, NodeState]:
        """Every node that is placed or has a container."""
        listed = self._listed()
        unseen = [one["Id"] for one in listed.values() if one["State"] in ("running", "paused", "restarting")]
        fresh = [container for container in unseen if container not in self._details]
        for container, details in self._parallel(fresh, self._inspected).items():
            if details is not None:
                self._details[container] = details
        states = {}
        for name, one in listed.items():
            if one["State"] == "restarting":
                self._details.pop(one["Id"], None)  # counts and times move: look again next time
            states[name] = containers.state_of(
                name, one, self._details.get(one["Id"]), current=name in self._nodes and self._is_current(name, one)
            )
        for name in self._nodes:
            if name not in states and self.home(name).is_dir():
                states[name] = NodeState(name=name, state="stopped", current=False)
        return states

    def outdated(self, names: Iterable[str]) -> frozenset[str]:
        """Nodes that run in another container than is wanted."""
        listed = self._listed()
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
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)).encode()
        kept = b""
        with contextlib.suppress(FileNotFoundError):
            kept = (self.home(name) / KEPT_LOG).read_bytes()
        if since:
            kept = b"".join(line for line in kept.splitlines(keepends=True) if line[9:28] >= moment)
        listed = self._listed().get(name)
        if listed is None:
            return kept
        with self._told(name, "read the log of"):
            return kept + bytes(self._api.logs(listed["Id"], since=since or None))

    def supervised(self) -> bool:
        """The engine starts nodes again that end by themselves."""
        return True

    def close(self) -> None:
        """Close the connection to the engine."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    # -- one container

    def _fill_volumes(self, wishes: Sequence[ContainerWish]) -> str:
        """Make the volumes of these nodes hold their files; the id of the container that was needed for it."""
        arguments = containers.filler(wishes)
        with self._told(f"testnet {self.plan.name}", "fill the volumes of"):
            with contextlib.suppress(NotFound):  # what a run left that was killed here
                self._api.remove_container(arguments["name"], force=True)
            container = str(self._api.create_container(**arguments)["Id"])
            self._api.put_archive(container, "/", containers.packed_homes(wishes))
        return container

    def _drop(self, filler: str) -> None:
        with self._told("testnet " + self.plan.name, "tidy up after"), contextlib.suppress(NotFound):
            self._api.remove_container(filler, force=True)

    def _start_one(self, wish: ContainerWish, listed: Mapping[str, Any] | None, timeout_seconds: int) -> str | None:
        """Make and start one container, unless it runs as wanted; its id when it was started or joined a network."""
        name = wish.node.name
        with self._told(name, "start"):
            if listed is not None and not _made_as(wish, listed):
                if listed["State"] in ("running", "paused", "restarting"):
                    self._api.stop(listed["Id"], timeout=timeout_seconds)
                self._remove(name, listed["Id"])
                listed = None
            if listed is None:
                container = str(self._api.create_container(**containers.creation(wish))["Id"])
                joined: Mapping[str, Any] = {}
            else:
                container = str(listed["Id"])
                joined = listed["NetworkSettings"]["Networks"]
            for network, address in wish.others.items():
                if network not in joined:
                    self._api.connect_container_to_network(container, network, ipv4_address=address)
            if listed is not None and listed["State"] == "running":
                return None
            if listed is not None and listed["State"] == "paused":
                self._api.unpause(container)
            else:
                self._details.pop(container, None)
                self._api.start(container)
        return container

    def _remove(self, name: str, container: str) -> None:
        """Remove a container, after its log is in safety."""
        with self._told(name, "remove"), contextlib.suppress(NotFound):
            self._keep_log(name, bytes(self._api.logs(container)))
            self._api.remove_container(container, force=True)

    def _keep_log(self, name: str, log: bytes) -> None:
        home = self.home(name)
        if not log or not home.is_dir():
            return
        with (home / KEPT_LOG).open("ab") as file:
            file.write(log)
        if (home / KEPT_LOG).stat().st_size > KEPT_LOG_BYTES:
            kept = (home / KEPT_LOG).read_bytes()[-KEPT_LOG_BYTES:]
            (home / KEPT_LOG).write_bytes(kept.partition(b"\n")[2])

    def _end(self, names: Sequence[str], end: Callable[[str], Any], verb: str) -> frozenset[str]:
        return self._each(names, ("running", "paused", "restarting"), end, verb)

    def _each(
        self, names: Sequence[str], states: tuple[str, ...], action: Callable[[str], Any], verb: str
    ) -> frozenset[str]:
        listed = self._listed()
        wanted = [name for name in names if name in listed and listed[name]["State"] in states]

        def one(name: str) -> None:
            with self._told(name, verb):
                action(listed[name]["Id"])

        self._parallel(wanted, one)
        return frozenset(wanted)

    def _running(self, name: str) -> str:
        listed = self._listed().get(name)
        if listed is None or listed["State"] != "running":
            raise EnvironmentFault(f"{name} does not run; start it with `stratosctl up`")
        return str(listed["Id"])

    def _limit(self, started: Mapping[str, str]) -> None:
        """Limit the bandwidth of what was started and has a limit."""
        wanted = {container: self._nodes[name].bandwidth_mbit for name, container in started.items()}
        limited = {container: mbit for container, mbit in wanted.items() if mbit}
        if limited:
            nodes = {container: name for name, container in started.items()}
            image_id = self._image_id(self._nodes[nodes[next(iter(limited))]])
            limit_bandwidth(self._client, testnet=self.plan.name, image_id=image_id, mbit=limited, nodes=nodes)

    # -- what is wanted

    def _wish(self, node: NodePlan) -> ContainerWish:
        files = {}
        for name in containers.PLACED_FILES:
            with contextlib.suppress(FileNotFoundError):
                files[name] = (self.home(node.name) / name).read_bytes()
        return containers.wish_for(
            self.plan.name, node, self.plan.networks, genesis=self._genesis, image_id=self._image_id(node), files=files
        )

    def _is_current(self, name: str, listed: Mapping[str, Any]) -> bool:
        wish = self._wish(self._nodes[name])
        joined = listed["NetworkSettings"]["Networks"]
        return bool(
            listed["Labels"].get(containers.DIGEST_LABEL) == wish.digest and wish.others.keys() <= joined.keys()
        )

    def _image_id(self, node: NodePlan) -> str:
        """The image of a node, built from these sources when it is the one they make and the engine lacks it."""
        if node.image not in self._images:
            self._images[node.image] = self._find_image(node.image)
        return self._images[node.image]

    def _find_image(self, image: str) -> str:
        from orchestrator.image.names import default_image

        with self._told(image, "look up"):
            try:
                return str(self._api.inspect_image(image)["Id"])
            except ImageNotFound:
                pass
        if image != default_image():
            raise EnvironmentFault(
                f"the engine has no image {image}; build it with `stratosctl image build --tag {image}` or load it with "
                "`stratosctl image load FILE`"
            )
        from orchestrator.image.build import build_image  # the long way

        self.say(f"the engine has no image {image}: building it")
        return build_image(self._client, image=image, say=self.say).image_id

    def _make_networks(self) -> None:
        there = {str(one["Name"]): one for one in self._api.networks(filters=self._mine())}
        for region, subnet in self.plan.networks.subnets.items():
            name = containers.network_name(self.plan.name, region)
            if name in there:
                continue
            pool = IPAMPool(subnet=subnet, gateway=self.plan.networks.gateway(region))
            with self._told(f"{name} ({subnet})", "make the network"):
                self._api.create_network(
                    name,
                    driver="bridge",
                    ipam=IPAMConfig(pool_configs=[pool]),
                    check_duplicate=True,
                    labels={
                        containers.TESTNET_LABEL: self.plan.name,
                        containers.GENESIS_LABEL: self._genesis,
                        containers.REGION_LABEL: region,
                    },
                )

    # -- the engine

    @property
    def _client(self) -> Any:
        if self._connected is None:
            self._connected = engine(connections=AT_ONCE)
        return self._connected

    @property
    def _api(self) -> Any:
        return self._client.api

    @property
    def _genesis(self) -> str:
        """Which testnet of this name it is."""
        if self._genesis_digest is None:
            try:
                self._genesis_digest = hashlib.sha256((self.folder / "genesis.json").read_bytes()).hexdigest()[:16]
            except FileNotFoundError:  # nothing was ever started
                self._genesis_digest = "none"
        return self._genesis_digest

    def _mine(self) -> dict[str, list[str]]:
        labels = {containers.TESTNET_LABEL: self.plan.name, containers.GENESIS_LABEL: self._genesis}
        return {"label": [f"{key}={value}" for key, value in labels.items()]}

    def _refuse_strangers(self) -> None:
        """Raise EnvironmentFault when the engine holds another testnet of this name."""
        named = {"label": f"{containers.TESTNET_LABEL}={self.plan.name}"}
        with self._told("testnet " + self.plan.name, "look for others of the name of"):
            found = [("container", one) for one in self._api.containers(all=True, filters=named)]
            found += [("volume", one) for one in self._api.volumes(filters=named)["Volumes"] or ()]
            found += [("network", one) for one in self._api.networks(filters=named)]
        for kind, one in found:
            genesis = (one.get("Labels") or {}).get(containers.GENESIS_LABEL, self._genesis)
            if genesis != self._genesis:
                name = one.get("Name") or one["Names"][0].removeprefix("/")
                raise EnvironmentFault(
                    f"the engine has the {kind} {name} of another testnet {self.plan.name} (genesis {genesis}, not "
                    f"{self._genesis}); bring that one down where it was made, remove its containers, networks and volumes "
                    f"(label {containers.GENESIS_LABEL}={genesis}), or set another stratos_testnet"
                )

    def _listed(self) -> dict[str, Mapping[str, Any]]:
        """The engine's entry of each node's container."""
        with self._told("testnet " + self.plan.name, "list the containers of"):
            found = self._api.containers(all=True, filters=self._mine())
        return {one["Labels"][containers.NODE_LABEL]: one for one in found if containers.NODE_LABEL in one["Labels"]}

    def _inspected(self, container: str) -> Mapping[str, Any] | None:
        try:
            return dict(self._api.inspect_container(container))
        except NotFound:
            return None

    def _parallel(self, names: Sequence[str], work: Callable[[str], T]) -> dict[str, T]:
        """The results of `work` for each name; the first error is raised when all are through."""
        if not names:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
            running = {name: pool.submit(work, name) for name in names}
        return {name: one.result() for name, one in running.items()}

    @contextlib.contextmanager
    def _told(self, whom: str, verb: str) -> Any:
        """Turn what the engine says into one sentence with the node's name."""
        try:
            yield
        except (DockerException, OSError) as error:
            said = error.explanation if isinstance(error, APIError) and error.explanation else reason(error)
            raise EnvironmentFault(
                f"the container engine could not {verb} {whom}: {' '.join(str(said).split())[:300]}"
            ) from error


def _made_as(wish: ContainerWish, listed: Mapping[str, Any] | None) -> bool:
    """Whether the engine's entry is of a container that was made for this wish."""
    return listed is not None and listed["Labels"].get(containers.DIGEST_LABEL) == wish.digest
