"""What the machine says about ports: the ephemeral range, whether a port can be listened on, and who has claimed one.

A port chosen now is bound by its node a second later. Until then a claim stands for it: an abstract unix socket named
after the port, seen by every orchestrator of the machine whatever its folder, and dropped by the kernel with its holder.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Self

import msgspec

from orchestrator.plan.plan import Plan
from orchestrator.plan.ports import PortMap


class _PlanPorts(msgspec.Struct):
    ports: PortMap


def ephemeral_range() -> tuple[int, int]:
    """Ports the system hands to outgoing connections."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    except OSError:
        return 32_768, 60_999
    return int(low), int(high)


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
    return True


class PortClaims:
    """The ports this process is about to give to nodes; used as a context, they are given back at its end."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in self._held.values():
            claim.close()
        self._held.clear()

    def claim(self, port: int) -> bool:
        """Whether the port is ours from now on: nobody listens on it and no other orchestrator has claimed it."""
        if port in self._held:
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0stratos-port-{port}")
        except OSError:
            claim.close()
            return False
        self._held[port] = claim
        return port_is_free(port)


def blocks_of_others(root: Path, name: str) -> frozenset[int]:
    """First ports of the blocks that other testnets in `root` have recorded."""
    taken: set[int] = set()
    for path in root.glob("*/plan.json"):
        if path.parent.name != name:
            try:
                taken.update(msgspec.json.decode(path.read_bytes(), type=_PlanPorts).ports.blocks)
            except (OSError, msgspec.DecodeError):
                continue  # being purged, or of another version: the ports themselves are probed anyway
    return frozenset(taken)


def busy_ports(plan: Plan, names: frozenset[str]) -> list[tuple[str, int]]:
    """Ports of nodes that are about to start and on which somebody listens already."""
    return [
        (node.name, port)
        for node in plan.nodes
        if node.name in names
        for port in msgspec.structs.astuple(node.config.ports)
        if port and not port_is_free(port, node.config.listen)
    ]
