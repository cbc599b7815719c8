"""Bandwidth of containers: a token bucket at both ends of each of their cables, set by short-lived helpers of the node's own image.

What a node sends is limited in its own network namespace, what it receives at the engine's ends of the same cables, so both directions
are the same simple qdisc and nothing of the base or the host is needed. A helper has NET_ADMIN in that namespace, no other
capability, no volume, and is gone at once. The limit holds for each network: a node that sends into two regions may use it twice.
It ends with the namespace, so a node that the engine itself restarts has none: every `up` and `start` looks, by a program
inside the container that any of its users may run, and sets what lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from docker.errors import DockerException
from msgspec import Struct

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.holdings import Holdings

PROGRAM = ("python3", "-I", "-S", "-B", "/opt/stratos/shape.py")
_AT_ONCE = 8


LOOK = ("python3", "-I", "-S", "-B", "-c", (Path(__file__).parent / "limits_probe.py").read_text())
"""Prints what `is_limited` reads."""


class Cable(Struct, frozen=True):
    """An interface of a container; `peer` is the index of its other end."""

    name: str
    index: int
    peer: int


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


def is_limited(output: bytes, mbit: int) -> bool:
    """Whether what LOOK printed in a container says that each of its cables has the limit."""
    try:
        found = msgspec.json.decode(output, type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return bool(found) and all(rate == mbit * 1_000_000 // 8 for rate in found.values())


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
