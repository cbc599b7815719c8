"""Whether the machine is what the ticket asks for: the coordinator's factor on role and tier, measured and never trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from orchestrator.errors import EnvironmentFault, VerdictFailed
from orchestrator.preflight.run import preflight
from orchestrator.topology.topology import PROCESS, Topology
from stratos.wire.ticket import Ticket

MACHINE_FOLDER = "/var/lib/stratos"


def measure_machine(topology: Topology, ticket: Ticket, root: Path, say: Callable[[str], None]) -> tuple[str, ...]:
    """Warnings about the machine; raises VerdictFailed with every line that fails and its fix, EnvironmentFault when it is out of reach. `root` is where the
    data of a process goes."""
    body = ticket.body
    asked = structs.replace(topology, hardware_factor=body.hardware_permille / 1000)
    report = preflight(asked, say=say, folder=str(root) if topology.runtime == PROCESS else MACHINE_FOLDER)
    lines = [line for machine in report.machines for line in machine.lines]
    unreachable = [line.sentence for line in lines if line.check == "connection" and line.verdict == "fail"]
    if unreachable:
        raise EnvironmentFault(f"the machine could not be measured: {'. '.join(unreachable)}")
    failed = [line.sentence for line in lines if line.verdict == "fail"]
    if failed:
        what = f"tier {body.tier} of role {body.role}" if body.tier else f"role {body.role}"
        raise VerdictFailed(f"the machine is not what {what} asks for: {'. '.join(failed)}")
    return tuple(f"warning: {line.sentence}" for line in lines if line.verdict == "warn")
