"""What a node's container is: pure functions from a plan to the engine's requests, and back from the engine's words to states.

The container has no more than the image needs: the node's volume, a small /tmp, no capability, no new privileges, a read-only root,
and the limits of the inventory. Its digest (files, image, limits, address) is a label: a container with another digest than is
wanted is replaced, one with the same is the node as it should be, whoever started it.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from docker.types import EndpointConfig, HostConfig, IPAMConfig, IPAMPool, LogConfig, Mount, NetworkingConfig
from msgspec import Struct

from orchestrator.plan.networks import DEFAULT_REGION, ContainerNetworks
from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.protocol import NodeState
from orchestrator.runtimes.units import (
    CONTAINER_HOME,
    CONTAINER_UID,
    PIDS_LIMIT,
    STOP_SECONDS,
    TMP_BYTES,
    container_name,
)

TESTNET_LABEL = "network.stratos.testnet"
NODE_LABEL = "network.stratos.node"
ROLE_LABEL = "network.stratos.role"
DIGEST_LABEL = "network.stratos.digest"
GENESIS_LABEL = "network.stratos.genesis"
"""Which testnet of that name: an engine may hold another one, of another folder, and it is not ours to touch."""
REGION_LABEL = "network.stratos.region"
API_VERSION = "1.41"
"""What the engine is asked in, the oldest that is supported."""
COMMAND = ("stratosd", "run", "--home", CONTAINER_HOME, "--log", "stdout")
PLACED_FILES = ("config.json", "genesis.json", "node.key", "wallet.key", "faucet.key")
"""What a home holds before its node writes anything itself."""
EXIT_INPUT = 2
"""A node that ends so is not helped by starting it again."""
GIVEN_UP_RESTARTS = 5
_LOG_BYTES = "16m"
_STATUS = re.compile(r"\((\d+)\)")


class ContainerWish(Struct, frozen=True, kw_only=True):
    """One container as it should be. `files` never leave this record but for the node's own volume."""

    testnet: str
    genesis: str
    node: NodePlan
    image_id: str
    address: str
    network: str
    others: dict[str, str]
    """Network -> address, of the networks of other regions."""
    files: dict[str, bytes]

    def __repr__(self) -> str:
        return f"<ContainerWish {self.name}>"

    @property
    def name(self) -> str:
        """The container's name, and its volume's."""
        return container_name(self.testnet, self.node.name)

    @property
    def owner_labels(self) -> dict[str, str]:
        """What its volume is labelled with."""
        return {TESTNET_LABEL: self.testnet, GENESIS_LABEL: self.genesis, NODE_LABEL: self.node.name}

    @property
    def unwanted(self) -> tuple[str, ...]:
        """Files that may have been placed once and are not wanted any more."""
        return tuple(name for name in PLACED_FILES if name not in self.files)

    @property
    def digest(self) -> str:
        """What it takes to be current: everything it is made of, and its files. Networks of other regions can be joined
        while it runs, so they do not count."""
        inputs = {
            "made": _made(self),
            "bandwidth": self.node.bandwidth_mbit,
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()},
        }
        return hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()


def network_name(testnet: str, region: str) -> str:
    """The network of a region."""
    return f"stratos-{testnet}-{region or DEFAULT_REGION}"


def network_creations(testnet: str, networks: ContainerNetworks, *, genesis: str) -> Iterator[dict[str, Any]]:
    """The arguments of the SDK's `create_network`, one network per region."""
    for region, subnet in networks.subnets.items():
        pool = IPAMPool(subnet=subnet, gateway=networks.gateway(region))
        yield {
            "name": network_name(testnet, region),
            "driver": "bridge",
            "ipam": IPAMConfig(pool_configs=[pool]),
            "check_duplicate": True,
            "labels": {TESTNET_LABEL: testnet, GENESIS_LABEL: genesis, REGION_LABEL: region},
        }


def wish_for(
    testnet: str,
    node: NodePlan,
    networks: ContainerNetworks,
    *,
    genesis: str,
    image_id: str,
    files: Mapping[str, bytes],
) -> ContainerWish:
    """The container of a node: advertised in its own region's network, present in all."""
    own = node.config.region or DEFAULT_REGION
    return ContainerWish(
        testnet=testnet,
        genesis=genesis,
        node=node,
        image_id=image_id,
        address=networks.address(node.name, own),
        network=network_name(testnet, own),
        others={
            network_name(testnet, region): networks.address(node.name, region)
            for region in networks.subnets
            if region != own
        },
        files=dict(sorted(files.items())),
    )


def creation(wish: ContainerWish) -> dict[str, Any]:
    """The arguments of the SDK's `create_container`."""
    made = _made(wish)
    return {**made, "labels": {**made["labels"], DIGEST_LABEL: wish.digest}}


def _made(wish: ContainerWish) -> dict[str, Any]:
    node = wish.node
    labels = wish.owner_labels
    limits: dict[str, Any] = {}
    if node.cpus:
        limits["nano_cpus"] = round(node.cpus * 1e9)
    if node.memory_bytes:
        limits |= {"mem_limit": node.memory_bytes, "memswap_limit": node.memory_bytes}
    host = HostConfig(
        version=API_VERSION,
        network_mode=wish.network,
        mounts=[home_mount(wish, CONTAINER_HOME)],
        tmpfs={"/tmp": f"rw,nosuid,nodev,noexec,size={TMP_BYTES}"},  # noqa: S108 - of the container
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=PIDS_LIMIT,
        restart_policy={"Name": "unless-stopped"},
        log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": _LOG_BYTES, "max-file": "2"}),
        **limits,
    )
    return {
        "image": wish.image_id,
        "command": list(COMMAND),
        "name": wish.name,
        "hostname": node.name[:63],
        "user": f"{CONTAINER_UID}:{CONTAINER_UID}",
        "labels": {**labels, ROLE_LABEL: node.role},
        "stop_timeout": STOP_SECONDS,
        "host_config": host,
        "networking_config": NetworkingConfig(  # its stub names one endpoint, it takes them by network
            {wish.network: EndpointConfig(API_VERSION, ipv4_address=wish.address)}  # type: ignore[arg-type]
        ),
    }


def home_mount(wish: ContainerWish, target: str) -> Mount:
    """The node's volume. It is filled by us: the engine need not look whether the image has something to put in."""
    return Mount(target=target, source=wish.name, type="volume", labels=wish.owner_labels, no_copy=True)


def packed(files: Mapping[str, bytes | None]) -> bytes:
    """Files as a tar: of the node's user, mode 0600; None is a folder, mode 0700."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.gid = 0o600, CONTAINER_UID, CONTAINER_UID
            if data is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def state_of(name: str, listed: Mapping[str, Any], details: Mapping[str, Any] | None, *, current: bool) -> NodeState:
    """How a node is, from the engine's list entry of its container and, for what the list does not say, its details."""
    word, text = str(listed["State"]), str(listed["Status"])
    found = _STATUS.search(text)
    code = int(found[1]) if found and word in ("exited", "restarting", "dead") else None
    restarts = int((details or {}).get("RestartCount", 0))
    states = {"running": "running", "paused": "paused", "removing": "stopping", "dead": "failed"}
    state = states.get(word, "stopped")
    if word == "restarting":
        state = "failed" if code == EXIT_INPUT or restarts >= GIVEN_UP_RESTARTS else "waiting"
    alive = word in ("running", "paused")
    process = (details or {}).get("State", {})
    return NodeState(
        name=name,
        state=state,
        current=current,
        pid=int(process.get("Pid", 0)) or 1 if alive else 0,
        since_ms=_milliseconds(str(process.get("StartedAt", ""))) if alive else 0,
        restarts=restarts,
        last_exit="" if alive or code is None else f"exit code {code}",
    )


def _milliseconds(stamp: str) -> int:
    """Unix milliseconds of the engine's RFC 3339 time in UTC; 0 for what is none."""
    from datetime import datetime  # only where a time is shown

    try:
        return int(datetime.fromisoformat(stamp[:19] + "+00:00").timestamp() * 1000)
    except ValueError:
        return 0
