"""Addresses of containers: one network per region, every node in all of them, advertised where its own region is.

A node dials another at the address in the other's region, so traffic between regions crosses that region's network and nothing needs
to be routed. Subnets are chosen free and recorded, because addresses stand in the genesis file; a node has the same place in every
subnet, which is recorded too. Subnets are of one size, with room for as many nodes as a testnet may have.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable

from msgspec import Struct

from orchestrator.errors import EnvironmentFault

POOL = ipaddress.ip_network("10.192.0.0/10")
SUBNET_BITS = 22
FIRST_PLACE = 10
"""The gateway and what an engine may want for itself come before."""
DEFAULT_REGION = "default"
"""Name of the network of nodes without a region."""


class ContainerNetworks(Struct, frozen=True, kw_only=True):
    """`subnets`: region -> subnet, in order of name; `places`: node -> its place in every subnet."""

    subnets: dict[str, str] = {}
    places: dict[str, int] = {}

    def address(self, node: str, region: str) -> str:
        """The node's address in the network of a region."""
        return str(ipaddress.ip_network(self.subnets[region or DEFAULT_REGION])[self.places[node]])

    def gateway(self, region: str) -> str:
        """The engine's own address in a network."""
        return str(ipaddress.ip_network(self.subnets[region])[1])


def assign_networks(
    known: ContainerNetworks, nodes: Iterable[tuple[str, str]], *, hint: str, is_free: Callable[[str], bool]
) -> ContainerNetworks:
    """Subnets and places for `nodes` (name, region): known ones stay, new ones get the first that is free.

    Subnets and places of nodes that left stay theirs: a node that comes back is found where it was.
    """
    wanted = list(nodes)
    subnets = dict(known.subnets)
    for region in sorted({region or DEFAULT_REGION for _name, region in wanted} - set(subnets)):
        subnets[region] = _free_subnet(frozenset(subnets.values()), hint=f"{hint}/{region}", is_free=is_free)
    places = dict(known.places)
    following = max(places.values(), default=FIRST_PLACE - 1) + 1
    for name, _region in wanted:
        if name not in places:
            places[name] = following
            following += 1
    if following > 2 ** (32 - SUBNET_BITS) - 1:
        raise EnvironmentFault(
            f"the networks of this testnet have no address left for {wanted[-1][0]}; start afresh with `stratosctl down --purge`"
        )
    return ContainerNetworks(subnets=dict(sorted(subnets.items())), places=places)


def overlaps(subnet: str, others: Iterable[str]) -> bool:
    """Whether a subnet shares addresses with one of the others; what is no IPv4 subnet is passed over."""
    own = ipaddress.ip_network(subnet)
    for other in others:
        try:
            network = ipaddress.ip_network(other, strict=False)
        except ValueError:
            continue
        if network.version == own.version and network.prefixlen > 0 and network.overlaps(own):
            return True
    return False


def _free_subnet(taken: frozenset[str], *, hint: str, is_free: Callable[[str], bool]) -> str:
    """The first free one from a place that depends on the hint, so that testnets side by side rarely compare notes."""
    count = 2 ** (SUBNET_BITS - POOL.prefixlen)
    start = int.from_bytes(hashlib.blake2b(hint.encode(), digest_size=8).digest(), "big") % count
    size = 2 ** (32 - SUBNET_BITS)
    for step in range(count):
        subnet = f"{POOL[(start + step) % count * size]}/{SUBNET_BITS}"
        if subnet not in taken and is_free(subnet):
            return subnet
    raise EnvironmentFault(f"no subnet of {POOL} is free for a network of containers; remove networks of the engine")
