"""What roles need to know of the whole fleet while they work on one machine: one JSON file beside the bundles.

`reach`: per machine the ports to let in; `operators`: addresses of monitor hosts; `targets`: the file_sd documents. The roles
stratos_firewall and stratos_monitoring read it on the controller, so a playbook run by hand knows what `up` knows.
`facts_digest` belongs into the base of a machine that has a packet filter or is a monitor host: when it changes, those
machines and no others have to be visited.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.monitoring.targets import EXPORTER_PORT, Exporter, target_files
from orchestrator.plan.plan import Plan
from orchestrator.plan.reach import operators_of, reach_of
from orchestrator.topology.machine import Machine

FILE = "fleet.json"


def fleet_facts(plan: Plan) -> dict[str, Any]:
    """The document."""
    regions = {node.machine: node.config.region for node in reversed(plan.nodes)}
    exporters = [Exporter(machine.name, machine.address, regions.get(machine.name, "")) for machine in plan.machines]
    return {
        "testnet": plan.name,
        "reach": reach_of(plan, exporter_port=EXPORTER_PORT),
        "operators": operators_of(plan),
        "targets": target_files(plan, exporters),
    }


def write_facts(folder: Path, plan: Plan) -> Path:
    """Write the document into the folder of bundles, whole or not at all; no secrets are in it."""
    path = folder / FILE
    temporary = path.with_name(f".{FILE}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(fleet_facts(plan)), indent=1) + b"\n")
    os.replace(temporary, path)
    return path


def facts_digest(plan: Plan, machine: Machine) -> str:
    """Digest of what of the document concerns this machine."""
    facts = fleet_facts(plan)
    mine: list[Any] = [facts["reach"].get(machine.name), facts["operators"]]
    if "monitor" in machine.groups:
        mine.append(facts["targets"])
    return hashlib.sha256(msgspec.json.encode(mine)).hexdigest()
