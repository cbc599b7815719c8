"""Which endpoints from a register are worth a connection attempt.

A register holds what its owners wrote. A node that dialled anything written there could be made to knock at its own
loopback services, or at nothing at all; so what is dialled must be an address that a peer elsewhere can have. Names are looked up
when they are dialled; a wrong one costs an attempt, because the other end has to prove the registered key.
"""

import ipaddress

from stratos.wire.config import ConfigError, split_endpoint


def usable_endpoint(endpoint: str, *, own_host: str) -> tuple[str, int] | None:
    """(host, port) of a registered endpoint, or None for one not to be dialled. A loopback address is for nodes that
    advertise one themselves (`own_host`): a testnet on one machine."""
    try:
        host, port = split_endpoint(endpoint)
    except ConfigError:
        return None
    if not port:
        return None
    local = _is_loopback(own_host)
    if _is_loopback(host):
        return (host, port) if local else None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots that are no address would be read by the system as one (127.1, 2130706433).
        return (host, port) if not host.rpartition(".")[2].isdigit() else None
    usable = not (address.is_unspecified or address.is_multicast or address.is_link_local or address.is_reserved)
    return (host, port) if usable else None


def _is_loopback(host: str) -> bool:
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
