"""What an engine holds of one testnet: containers, networks and volumes, and whose they are.

What belongs to this testnet says so in two labels: its name and its genesis. An engine may hold another testnet of the same name, made from
another folder or left behind by a folder that was deleted by hand: that one is never touched, and `refuse_strangers` says so before
anything is mixed. Everything asked of the engine goes through `told`, which turns its words into one sentence with a node's name.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from orchestrator.errors import EnvironmentFault
from orchestrator.image.engine import engine, reason
from orchestrator.plan.networks import ContainerNetworks
from orchestrator.runtimes import containers

AT_ONCE = 16
T = TypeVar("T")


class Holdings:
    """The engine's things of testnet `name`, whose folder is `folder`."""

    def __init__(self, name: str, folder: Path, *, say: Callable[[str], None]) -> None:
        self.name = name
        self.folder = folder
        self.say = say
        self._connected: Any = None
        self._images: dict[str, str] = {}
        self._genesis_digest: str | None = None

    # -- the engine

    @property
    def client(self) -> Any:
        """The engine's client; connects when first asked for."""
        if self._connected is None:
            self._connected = engine(connections=AT_ONCE)
        return self._connected

    @property
    def api(self) -> Any:
        """Its API, request by request."""
        return self.client.api

    def close(self) -> None:
        """Close the connection to the engine."""
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    @contextlib.contextmanager
    def told(self, whom: str, verb: str) -> Iterator[None]:
        """Turn what the engine says into one sentence with the node's name."""
        try:
            yield
        except (DockerException, OSError) as error:
            said = error.explanation if isinstance(error, APIError) and error.explanation else reason(error)
            raise EnvironmentFault(
                f"the container engine could not {verb} {whom}: {' '.join(str(said).split())[:300]}"
            ) from error

    # -- whose it is

    @property
    def genesis(self) -> str:
        """Which testnet of this name it is."""
        if self._genesis_digest is None:
            try:
                self._genesis_digest = hashlib.sha256((self.folder / "genesis.json").read_bytes()).hexdigest()[:16]
            except FileNotFoundError:  # nothing was ever started
                self._genesis_digest = "none"
        return self._genesis_digest

    def refuse_strangers(self) -> None:
        """Raise EnvironmentFault when the engine holds another testnet of this name."""
        named = {"label": f"{containers.TESTNET_LABEL}={self.name}"}
        with self.told("testnet " + self.name, "look for others of the name of"):
            found = [("container", one) for one in self.api.containers(all=True, filters=named)]
            found += [("volume", one) for one in self.api.volumes(filters=named)["Volumes"] or ()]
            found += [("network", one) for one in self.api.networks(filters=named)]
        for kind, one in found:
            genesis = (one.get("Labels") or {}).get(containers.GENESIS_LABEL, self.genesis)
            if genesis != self.genesis:
                name = one.get("Name") or one["Names"][0].removeprefix("/")
                raise EnvironmentFault(
                    f"the engine has the {kind} {name} of another testnet {self.name} (genesis {genesis}, not "
                    f"{self.genesis}); bring that one down where it was made, remove its containers, networks and volumes "
                    f"(label {containers.GENESIS_LABEL}={genesis}), or set another stratos_testnet"
                )

    def _mine(self) -> dict[str, list[str]]:
        return {"label": [f"{key}={value}" for key, value in self.helper_labels.items()]}

    # -- containers

    def listed(self) -> dict[str, Mapping[str, Any]]:
        """The engine's entry of each node's container."""
        with self.told("testnet " + self.name, "list the containers of"):
            found = self.api.containers(all=True, filters=self._mine())
        return {one["Labels"][containers.NODE_LABEL]: one for one in found if containers.NODE_LABEL in one["Labels"]}

    @property
    def helper_labels(self) -> dict[str, str]:
        """What a helper container is labelled with: of this testnet, and of no node."""
        return {containers.TESTNET_LABEL: self.name, containers.GENESIS_LABEL: self.genesis}

    def remove_helpers(self) -> None:
        """Helpers that a killed run has left behind."""
        with self.told("testnet " + self.name, "remove the helpers of"):
            for one in self.api.containers(all=True, filters=self._mine()):
                if containers.NODE_LABEL not in one["Labels"]:
                    with contextlib.suppress(NotFound):
                        self.api.remove_container(one["Id"], force=True)

    def inspected(self, container: str) -> Mapping[str, Any] | None:
        """All that the engine knows about a container; None when it is gone."""
        try:
            return dict(self.api.inspect_container(container))
        except NotFound:
            return None

    def parallel(self, names: Sequence[str], work: Callable[[str], T]) -> dict[str, T]:
        """The results of `work` for each name; the first error is raised when all are through."""
        if not names:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
            running = {name: pool.submit(work, name) for name in names}
        return {name: one.result() for name, one in running.items()}

    # -- networks and volumes

    def make_networks(self, networks: ContainerNetworks) -> None:
        """One network per region, those that lack."""
        there = {str(one["Name"]) for one in self.api.networks(filters=self._mine())}
        for wanted in containers.network_creations(self.name, networks, genesis=self.genesis):
            if wanted["name"] not in there:
                with self.told(wanted["name"], "make the network"):
                    self.api.create_network(**wanted)

    def remove_networks(self) -> None:
        """All of this testnet; nobody may be in them."""
        for network in self.api.networks(filters=self._mine()):
            with self.told(str(network["Name"]), "remove the network"), contextlib.suppress(NotFound):
                self.api.remove_network(network["Id"])

    def volumes(self) -> frozenset[str]:
        """Names of the volumes of this testnet."""
        with self.told("testnet " + self.name, "list the volumes of"):
            return frozenset(str(one["Name"]) for one in self.api.volumes(filters=self._mine())["Volumes"] or ())

    def remove_volumes(self) -> None:
        """Everything the nodes know."""
        for name in sorted(self.volumes()):
            with self.told("testnet " + self.name, "remove the volumes of"):
                self.api.remove_volume(name)

    # -- images

    def image_id(self, image: str) -> str:
        """The image of a tag, built from these sources when it is the one they make and the engine lacks it."""
        return self.known_image(image) or self._make_image(image)

    def known_image(self, image: str) -> str:
        """The image of a tag as the engine has it, or nothing: who only looks must not build one."""
        if image not in self._images:
            with self.told(image, "look up"):
                try:
                    self._images[image] = str(self.api.inspect_image(image)["Id"])
                except ImageNotFound:
                    return ""
        return self._images[image]

    def _make_image(self, image: str) -> str:
        from orchestrator.image.names import default_image

        if image != default_image():
            raise EnvironmentFault(
                f"the engine has no image {image}; build it with `stratosctl image build --tag {image}` or load it with "
                "`stratosctl image load FILE`"
            )
        from orchestrator.image.build import build_image  # the long way

        self.say(f"the engine has no image {image}: building it")
        self._images[image] = build_image(self.client, image=image, say=self.say).image_id
        return self._images[image]
