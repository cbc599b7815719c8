"""Which subnets are in use where containers will run: the engine's networks, and this machine's routes.

Asked only when a testnet needs a new network. The machine's routes matter when the engine is on it, and otherwise because this machine
must reach the nodes: a subnet that leads elsewhere from here would be no use.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

from docker.errors import DockerException

from orchestrator.errors import EnvironmentFault
from orchestrator.image.engine import engine
from orchestrator.plan.networks import overlaps

ROUTES = Path("/proc/net/route")


def subnet_is_free(*, needed: bool) -> Callable[[str], bool]:
    """A judge of subnets, which asks the engine once and late. Where no engine answers it is asked nothing unless `needed`."""
    known: list[str] = []
    asked = False

    def judge(subnet: str) -> bool:
        nonlocal asked
        if not asked:
            known.extend(routes(_read_routes()))
            known.extend(_engine_subnets(needed=needed))
            asked = True
        return not overlaps(subnet, known)

    return judge


def routes(table: str) -> list[str]:
    """Destinations in the text of /proc/net/route, without the default route."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        try:
            address, mask = (int.from_bytes(bytes.fromhex(words[column]), "little") for column in (1, 7))
            prefix = ipaddress.ip_network(f"0.0.0.0/{ipaddress.ip_address(mask)}").prefixlen
            if prefix:
                found.append(f"{ipaddress.ip_address(address)}/{prefix}")
        except (ValueError, IndexError):
            continue
    return found


def _read_routes() -> str:
    try:
        return ROUTES.read_text(encoding="ascii")
    except OSError:
        return ""


def _engine_subnets(*, needed: bool) -> list[str]:
    try:
        client = engine()
    except EnvironmentFault:
        if needed:
            raise
        return []
    try:
        networks = client.api.networks()
    except DockerException as error:
        raise EnvironmentFault(f"the container engine cannot list its networks ({error})") from error
    finally:
        client.close()
    return [str(entry.get("Subnet", "")) for one in networks for entry in (one.get("IPAM") or {}).get("Config") or ()]
