"""Bundles for a playbook that is run by hand: what `up` would place, rendered into a folder, and nothing else done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.fleet.failures import Failure
from orchestrator.runtimes.bundles import bundle_name
from orchestrator.runtimes.machine_state import MachineState, look
from orchestrator.runtimes.provisioning import Provisioner
from orchestrator.testnet.folder import TestnetFolder, files_of, testnets_root
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.planning import settle_plan, topology_at
from orchestrator.testnet.ports_in_use import PortClaims
from orchestrator.topology.topology import MACHINES

VARIABLES_FILE = "variables.json"
"""What the playbook includes when it rendered the bundles itself."""


class BundleReport(Struct, frozen=True, kw_only=True):
    """`bundles`: machine -> file. `variables`: what the playbook needs to know beside them (stratos_*)."""

    testnet: str
    folder: str
    bundles: dict[str, str]
    variables: dict[str, str]
    unreachable: dict[str, str]


def render_bundles(source: Path, *, output: Path | None, say: Callable[[str], None]) -> BundleReport:
    """Write the bundle of every machine that answers; raises BadInput for an inventory without machines."""
    topology = topology_at(source)
    if topology.runtime != MACHINES:
        raise BadInput(f"{source} describes a testnet of runtime {topology.runtime}; only machines get bundles")
    folder = TestnetFolder(testnets_root() / topology.name)
    with hold_testnet(folder.path.parent, folder.name), PortClaims() as claims:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        planned = settle_plan(topology, folder, Journal(folder.journal_file, "bundle"), claims)
        plan, outcome = planned.outcome.plan, planned.outcome
        files = {node.name: node.files for node in files_of(plan, outcome.ring, outcome.genesis)}
        looked = look(plan.machines, plan.name, {node.image for node in plan.nodes})
        reached = {name: state for name, state in looked.items() if isinstance(state, MachineState)}
        provisioner = Provisioner(folder.path, plan, say=say, bundles=output)
        rendered = provisioner.render(files, reached)
        variables = provisioner.variables()
        (provisioner.bundles / VARIABLES_FILE).write_text(json.dumps(variables), encoding="utf-8")
    if not rendered:
        reasons = "; ".join(state.sentence for state in looked.values() if isinstance(state, Failure))
        raise EnvironmentFault(f"no machine of {source} can be reached: {reasons}")
    return BundleReport(
        testnet=plan.name,
        folder=str(provisioner.bundles),
        bundles={one.machine.name: str(provisioner.bundles / bundle_name(one.machine.name)) for one in rendered},
        variables=variables,
        unreachable={name: state.sentence for name, state in looked.items() if isinstance(state, Failure)},
    )
