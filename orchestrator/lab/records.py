"""What a lab is, as data: its machines and their addresses. Pure; the file `lab.json` is this record.

The record is written before anything is created, so that whatever an interrupted `lab create` left has a name and the same command
finishes it. Addresses are fixed here rather than handed out by the engine, because an engine hands out new ones after a restart
and a killed machine must come back where the others look for it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault

USER = "admin"
"""Who logs in: an ordinary user with sudo and no password, as on a cloud provider's machine."""
SSH_PORT = 22
MOST_MACHINES = 200

LAB_LABEL = "network.stratos.lab"
FOLDER_LABEL = "network.stratos.lab-folder"
MACHINE_LABEL = "network.stratos.lab-machine"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_POOL = ipaddress.IPv4Network("10.213.0.0/16")
_FIRST_HOST = 11


class LabMachine(Struct, frozen=True):
    """One machine: its host name, which is its name in the inventory too, and its address on the lab's network."""

    name: str
    address: str


class Lab(Struct, frozen=True, kw_only=True):
    """One lab. A limit of 0 is no limit."""

    name: str
    subnet: str
    machines: tuple[LabMachine, ...]
    memory_bytes: int = 0
    cpus: float = 0.0

    def machine(self, name: str) -> LabMachine:
        """The machine `name`; raises BadInput naming those there are."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise BadInput(
            f"lab {self.name} has no machine {name!r}; it has {', '.join(machine.name for machine in self.machines)}"
        )


def check_name(name: str) -> str:
    """`name` itself when it can name a lab; raises BadInput."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name[:50]!r} cannot name a lab; use up to 31 small letters, digits and hyphens, beginning with a letter"
        )
    return name


def object_name(lab: str, machine: str = "") -> str:
    """Name of the lab's network, or of a machine's container and volume."""
    return f"stratos-lab-{lab}" + (f"-{machine}" if machine else "")


def new_lab(name: str, *, machines: int, memory_bytes: int, cpus: float, taken: Iterable[str]) -> Lab:
    """A lab of `machines` machines on the first subnet that overlaps none of `taken`."""
    subnet = free_subnet(taken)
    return Lab(name=name, subnet=subnet, machines=_machines(subnet, machines), memory_bytes=memory_bytes, cpus=cpus)


def grown(lab: Lab, machines: int) -> Lab:
    """The lab with `machines` machines; raises BadInput when that is fewer than it has."""
    if machines < len(lab.machines):
        raise BadInput(
            f"lab {lab.name} has {len(lab.machines)} machines, more than {machines}; a lab only grows, so destroy it first "
            f"(stratosctl lab destroy {lab.name})"
        )
    return Lab(
        name=lab.name,
        subnet=lab.subnet,
        machines=_machines(lab.subnet, machines),
        memory_bytes=lab.memory_bytes,
        cpus=lab.cpus,
    )


def free_subnet(taken: Iterable[str]) -> str:
    """The first /24 of the labs' range that no network of `taken` overlaps; raises EnvironmentFault when none is left."""
    used = [ipaddress.IPv4Network(network, strict=False) for network in taken]
    for subnet in _POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(network) for network in used):
            return str(subnet)
    raise EnvironmentFault(f"no /24 of {_POOL} is free for a lab's network; destroy labs that are not needed")


def host_routes(table: str) -> list[str]:
    """Networks that this host routes to, from the text of /proc/net/route, default routes left out."""
    networks = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[7] == "00000000":
            continue
        address, mask = (ipaddress.IPv4Address(int(fields[index], 16).to_bytes(4, "little")) for index in (1, 7))
        networks.append(f"{address}/{mask}")
    return networks


def _machines(subnet: str, count: int) -> tuple[LabMachine, ...]:
    network = ipaddress.IPv4Network(subnet)
    return tuple(
        LabMachine(name=f"machine{number}", address=str(network[_FIRST_HOST + number - 1]))
        for number in range(1, count + 1)
    )
