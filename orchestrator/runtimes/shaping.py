"""Bandwidth of containers: a token bucket at both ends of each of their cables, set by short-lived helpers of the node's own image.

What a node sends is limited in its own network namespace, what it receives at the engine's ends of the same cables, so both directions
are the same simple qdisc and nothing of the base or the host is needed. A helper has NET_ADMIN in that namespace, no other
capability, no volume, and is gone at once. The limit holds for each network: a node that sends into two regions may use it twice.
It ends with the namespace: a node that the engine itself restarts, and one whose start was interrupted before it was limited, is
limited by the next `up` or `start`. What has been limited is written down, so that nothing is done for cables that have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from docker.errors import DockerException
from msgspec import Struct

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.holdings import Holdings
from orchestrator.runtimes.placing import replace_file

BANDWIDTH_FILE = "bandwidth.json"
"""In the testnet's folder: node -> the cables that were limited last."""
PROGRAM = ("python3", "-I", "-S", "-B", "/opt/stratos/shape.py")
_AT_ONCE = 8


class Cable(Struct, frozen=True):
    """An interface of a container; `peer` is the index of its other end."""

    name: str
    index: int
    peer: int


def limit_new_cables(
    held: Holdings,
    record: Path,
    *,
    image_id: str,
    mbit: Mapping[str, int],
    containers: Mapping[str, Mapping[str, Any] | None],
) -> frozenset[str]:
    """Limit those of these nodes (`mbit`: by node) whose running container (its details, by node) is not in `record` as
    limited; their names."""
    done = _read(record)
    running = {name: one for name, one in containers.items() if one is not None and one["State"]["Running"]}
    fresh = {name: cables for name, one in running.items() if done.get(name) != (cables := _cables_of(one, mbit[name]))}
    if not fresh:
        return frozenset()
    nodes = {str(running[name]["Id"]): name for name in fresh}
    limits = {container: mbit[name] for container, name in nodes.items()}
    limit_bandwidth(held, image_id=image_id, mbit=limits, nodes=nodes)
    replace_file(record, msgspec.json.encode({**done, **fresh}))
    return frozenset(fresh)


def _cables_of(details: Mapping[str, Any], mbit: int) -> str:
    """What stands for a container's cables and their limit: another start or another network makes others."""
    networks = sorted(details["NetworkSettings"]["Networks"])
    return " ".join([str(details["Id"]), str(details["State"]["StartedAt"]), *networks, str(mbit)])


def _read(record: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}  # then everything is limited once more, which harms nobody


def limit_bandwidth(held: Holdings, *, image_id: str, mbit: Mapping[str, int], nodes: Mapping[str, str]) -> None:
    """Limit running containers (`mbit`: container id -> Mbit/s, 0 for none; `nodes`: id -> node) in both directions."""

    def sending(container: str) -> list[Cable]:
        output = _help(held, image_id, f"container:{container}", [str(mbit[container])], nodes[container])
        return msgspec.json.decode(output, type=list[Cable])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        cables = dict(zip(mbit, pool.map(sending, mbit), strict=True))
    ends = [f"{cable.peer}={mbit[container]}" for container, found in cables.items() for cable in found]
    if ends:
        _help(held, image_id, "host", ends, ", ".join(sorted(nodes[container] for container in mbit)))


def _help(held: Holdings, image_id: str, namespace: str, words: list[str], whom: str) -> bytes:
    try:
        output = held.client.containers.run(
            image_id,
            [*PROGRAM, *words],
            network_mode=namespace,
            user="0:0",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            security_opt=["no-new-privileges"],
            read_only=True,
            remove=True,
            labels=held.helper_labels,
            healthcheck={"test": ["NONE"]},
        )
    except DockerException as error:
        raise EnvironmentFault(
            f"the bandwidth of {whom} cannot be limited ({' '.join(str(error).split())[-300:]}); the engine's kernel needs "
            "sch_tbf, or leave out stratos_bandwidth_mbit"
        ) from error
    return bytes(output)
