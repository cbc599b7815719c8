"""`stratosctl preflight`: measure every machine of an inventory against what its nodes need, changing nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser
from orchestrator.cli.telling import Teller
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.preflight.run import PreflightReport

EXAMPLES = """  stratosctl preflight -i inventories/fleet.yml
  stratosctl preflight -i inventories/fleet.yml --limit meta-1 resource-3 --quick
  stratosctl preflight -i inventories/fleet.yml --json

The verdict of a line is pass, warn or fail; the exit code is 1 when one fails. stratos_hardware_factor scales what
hardware is asked for.
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.preflight.run import preflight  # after parsing: --help must be quick
    from orchestrator.testnet.folder import TestnetFolder, testnets_root
    from orchestrator.testnet.locate import default_inventory
    from orchestrator.topology.inventory import CACHE_FOLDER
    from orchestrator.topology.topology import read_topology

    root = testnets_root()
    topology = read_topology(options.inventory or default_inventory(), cache=root / CACHE_FOLDER)
    names = {name for machine in topology.machines for name in (machine.name, *machine.hosts)}
    unknown = [name for name in options.limit if name not in names]
    if unknown:
        raise BadInput(f"{topology.source} has no host {unknown[0]!r}; it has {', '.join(sorted(names))}")
    folder = TestnetFolder(root / topology.name)
    plan = folder.plan()
    with Teller(wanted=not options.json) as say:
        report = preflight(
            topology,
            say=say,
            quick=options.quick,
            limit=options.limit,
            known=plan.ports if plan is not None else None,
            folder=str(folder.path) if topology.runtime == "process" else "/var/lib/stratos",
        )
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _show(report)
    return VERDICT_FAILED if report.failed() else OK


def _show(report: PreflightReport) -> None:
    from orchestrator.cli.tables import aligned

    rows = [("HOST", "CHECK", "MEASURED", "WANTED", "VERDICT", "FIX")]
    for machine in report.machines:
        rows += [
            (line.machine, line.check, line.measured, line.wanted, line.verdict, line.fix) for line in machine.lines
        ]
    print(aligned(rows))
    failed = [machine.host for machine in report.failed()]
    scaled = f", {report.factor:g} of the recommended hardware" if report.factor != 1 else ""
    verdict = f"fails on {', '.join(failed)}" if failed else report.verdict
    count = len(report.machines)
    print(f"preflight of {count} machine{'s' if count != 1 else ''}{scaled}: {verdict}; {report.seconds:.1f} s")


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "preflight",
        "Measure every machine of an inventory against what its nodes need, changing nothing.",
        examples=EXAMPLES,
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--limit", nargs="+", default=[], metavar="HOST", help="only the machines of these hosts")
    command.add_argument("--quick", action="store_true", help="shorter transfers and less disk writing")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
