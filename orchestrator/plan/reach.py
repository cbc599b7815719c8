"""Who may reach which port of a machine: the one place where that is decided; a role turns it into packet filter rules.

Pure. What the protocol offers to everybody is public: p2p ports of validators and meta nodes, bulk ports of resource nodes,
the REST of validators and meta nodes (the latter answers the faucet too), the public files. Metrics, a resource node's HTTP and the
machine's node exporter are numbers for whoever operates the testnet: monitor hosts and the controller.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from msgspec import Struct

from orchestrator.plan.plan import NodePlan, Plan

PUBLIC = "public"
OPERATORS = "operators"


class OpenPort(Struct, frozen=True):
    """One TCP port of a machine. `reach` is PUBLIC or OPERATORS; `what` says whose it is."""

    port: int
    reach: str
    what: str


def ports_of(node: NodePlan) -> tuple[OpenPort, ...]:
    """The ports of one node, by its role."""
    ports = node.config.ports
    wanted: tuple[tuple[int, str, str], ...]
    if node.role == "resource":
        wanted = ((ports.bulk, PUBLIC, "bulk"), (ports.http, OPERATORS, "http"))
    else:
        wanted = ((ports.p2p, PUBLIC, "p2p"), (ports.http, PUBLIC, "http"), (ports.metrics or 0, OPERATORS, "metrics"))
    return tuple(OpenPort(port, reach, f"{node.name} {what}") for port, reach, what in wanted if port)


def reach_of(plan: Plan, *, exporter_port: int) -> dict[str, list[dict[str, Any]]]:
    """For every machine of the plan what its packet filter should let in: the value of `stratos_firewall_ports`."""
    exporter = OpenPort(exporter_port, OPERATORS, "node exporter")
    found: dict[str, list[OpenPort]] = {machine.name: [exporter] for machine in plan.machines}
    for node in plan.operated:
        if node.machine in found:
            found[node.machine].extend(ports_of(node))
    if plan.public_machine in found:
        found[plan.public_machine].append(OpenPort(plan.public_port, PUBLIC, "public files"))
    return {
        name: [{"port": one.port, "reach": one.reach, "what": one.what} for one in sorted(ports, key=lambda o: o.port)]
        for name, ports in found.items()
    }


def operators_of(plan: Plan) -> list[str]:
    """Addresses of the monitor hosts, as far as the inventory has addresses rather than names."""
    return [
        machine.address for machine in plan.machines if "monitor" in machine.groups and _is_address(machine.address)
    ]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
