"""Which ports a testnet listens on.

Containers and machines have the public network's ports, plus ten for each further node of the role on the machine
(protocol 8); what is for operators only (metrics) has one of its own wherever HTTP is for everybody. Processes of one machine share it with everything else: blocks of 32 slots, ten ports a slot, one a node.

Blocks lie below the ephemeral range, so that no outgoing connection of another program can sit on a planned port, and
are chosen from a place that depends on the testnet's folder, so that testnets side by side rarely compare notes. What
is free is asked through `is_free`; what was chosen is recorded in the plan and kept for the life of the testnet.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping

from msgspec import UNSET, Struct

from orchestrator.errors import EnvironmentFault
from stratos.wire.config import Ports

PORTS_PER_NODE = 10
SLOTS_PER_BLOCK = 32
BLOCK_PORTS = PORTS_PER_NODE * SLOTS_PER_BLOCK
LOWEST_PORT = 10_000
HIGHEST_PORT = 65_535
PUBLIC_PORTS = {
    "validator": Ports(p2p=26_656, http=1_317, metrics=26_660),
    "meta": Ports(p2p=8_888, http=8_889, metrics=8_890),
    "resource": Ports(http=18_181, bulk=18_081),
}


class PortMap(Struct, frozen=True):
    """First ports of the blocks, and each node's first port."""

    blocks: tuple[int, ...] = ()
    nodes: dict[str, int] = {}
    slots: dict[str, int] = {}
    """Of nodes that have the public ports: how many times ten is added to them."""

    def ports_of(self, node: str, role: str) -> Ports:
        if node in self.slots:
            public, more = PUBLIC_PORTS[role], PORTS_PER_NODE * self.slots[node]
            return Ports(
                p2p=public.p2p and public.p2p + more,
                http=public.http + more,
                bulk=public.bulk and public.bulk + more,
                metrics=public.metrics + more if public.metrics else UNSET,
            )
        first = self.nodes[node]
        if role == "resource":
            return Ports(http=first + 1, bulk=first + 2)
        return Ports(p2p=first, http=first + 1)


class PortSearch(Struct, frozen=True, kw_only=True):
    """Where to look. `ephemeral` is the system's own range (low, high); `taken` are blocks of other testnets here."""

    hint: str
    ephemeral: tuple[int, int]
    taken: frozenset[int] = frozenset()
    base: int = 0
    """A base the inventory asks for; 0 looks for a free block."""


class SlotRequest(Struct, frozen=True):
    """A node that wants the public ports: nodes of one role in one `place` (a machine) need different slots."""

    name: str
    role: str
    place: str
    wanted: int = -1


def assign_slots(known: PortMap, requests: Iterable[SlotRequest]) -> PortMap:
    """Public ports for all: wanted slots as wanted, known ones stay, the others get the lowest that is free."""
    requests = list(requests)
    slots: dict[str, int] = {}
    used: set[tuple[str, str, int]] = set()

    def take(request: SlotRequest, slot: int) -> None:
        slots[request.name] = slot
        used.add((request.place, request.role, slot))

    for request in requests:
        if request.wanted >= 0:
            take(request, request.wanted)
    for request in requests:
        slot = known.slots.get(request.name, -1)
        if request.name not in slots and slot >= 0 and (request.place, request.role, slot) not in used:
            take(request, slot)
    for request in requests:
        if request.name not in slots:
            take(request, next(n for n in itertools.count() if (request.place, request.role, n) not in used))
    return PortMap(slots={request.name: slots[request.name] for request in requests})


def assign_ports(
    known: PortMap, nodes: Iterable[str], search: PortSearch, *, is_free: Callable[[int], bool]
) -> PortMap:
    """Ports for `nodes`: known ones stay, new ones get the lowest free slot; raises EnvironmentFault when there is none."""
    wanted = list(nodes)
    assigned = {name: known.nodes[name] for name in wanted if name in known.nodes}
    blocks = list(known.blocks)
    missing = [name for name in wanted if name not in assigned]
    while True:
        free = _free_slots(blocks, assigned)
        if len(free) >= len(missing):
            break
        needed = min(len(missing) - len(free), SLOTS_PER_BLOCK)
        blocks.append(_next_block(blocks, search, needed=needed, is_free=is_free))
    assigned.update(zip(missing, free, strict=False))
    return PortMap(tuple(blocks), {name: assigned[name] for name in wanted})


def _free_slots(blocks: list[int], assigned: Mapping[str, int]) -> list[int]:
    used = set(assigned.values())
    slots = (base + slot * PORTS_PER_NODE for base in blocks for slot in range(SLOTS_PER_BLOCK))
    return [port for port in slots if port not in used]


def _next_block(blocks: list[int], search: PortSearch, *, needed: int, is_free: Callable[[int], bool]) -> int:
    def usable(base: int) -> bool:
        ports = (base + slot * PORTS_PER_NODE + offset for slot in range(needed) for offset in range(3))
        return all(is_free(port) for port in ports)

    if search.base:
        base = max([search.base, *(block + BLOCK_PORTS for block in blocks)])
        if base + BLOCK_PORTS > HIGHEST_PORT or not usable(base):
            raise EnvironmentFault(
                f"ports {base} to {base + needed * PORTS_PER_NODE - 1} are not all free, and stratos_port_base asks for them; "
                "name another base, or 0 to let a free block be found"
            )
        return base
    candidates = _candidates(search)
    start = int.from_bytes(hashlib.blake2b(search.hint.encode(), digest_size=8).digest(), "big") % len(candidates)
    for base in candidates[start:] + candidates[:start]:
        clash = any(abs(base - other) < BLOCK_PORTS for other in (*search.taken, *blocks))
        if not clash and usable(base):
            return base
    raise EnvironmentFault(
        f"no block of {BLOCK_PORTS} ports outside the ephemeral range {search.ephemeral[0]}-{search.ephemeral[1]} is free; "
        "stop another testnet (`stratosctl down`) or set stratos_port_base"
    )


def _candidates(search: PortSearch) -> list[int]:
    low, high = search.ephemeral
    below = range(LOWEST_PORT, max(LOWEST_PORT, low - BLOCK_PORTS + 1), BLOCK_PORTS)
    above = range(high + 1, max(high + 1, HIGHEST_PORT - BLOCK_PORTS + 2), BLOCK_PORTS)
    return list(below) or list(above) or list(range(LOWEST_PORT, HIGHEST_PORT - BLOCK_PORTS, BLOCK_PORTS))
