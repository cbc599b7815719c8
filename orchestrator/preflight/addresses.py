"""What kind of address a machine is reached by, and whether something translates it on the way. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

CGNAT = ipaddress.ip_network("100.64.0.0/10")
LOOPBACK, LINK_LOCAL, CARRIER, PRIVATE, PUBLIC, NAMED = (
    "loopback",
    "link-local",
    "carrier NAT",
    "private",
    "public",
    "not an address",
)


def kind_of(address: str) -> str:
    """One of the kinds above."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return NAMED
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return LOOPBACK
    if ip.is_link_local:
        return LINK_LOCAL
    if ip.version == 4 and ip in CGNAT:
        return CARRIER
    return PRIVATE if ip.is_private else PUBLIC


def translated(dialled: str, own: Sequence[str]) -> bool:
    """Whether the machine has no interface with the address it was reached at."""
    return kind_of(dialled) != NAMED and _plain(dialled) not in {_plain(one) for one in own}


def _plain(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(getattr(ip, "ipv4_mapped", None) or ip)
