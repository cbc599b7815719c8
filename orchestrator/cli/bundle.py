"""`stratosctl bundle`: what `up` would place on each machine, for running the playbooks by hand."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl bundle -i inventories/fleet.yml -o /tmp/bundles
  .venv/bin/ansible-playbook -i inventories/fleet.yml playbooks/site.yml        calls it by itself
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.cli.storage import print_json
    from orchestrator.cli.telling import Teller
    from orchestrator.testnet.bundling import render_bundles

    with Teller(wanted=not options.json) as say:
        report = render_bundles(options.inventory, output=options.output, say=say)
    if options.json:
        print_json(report)
    else:
        for machine, path in report.bundles.items():
            print(f"{machine}  {path}")
        for sentence in report.unreachable.values():
            print(f"not reached: {sentence}")
    return PARTIAL if report.unreachable else OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "bundle",
        "Render what belongs on each machine into one tar per machine (mode 0600: they hold keys).",
        examples=EXAMPLES,
    )
    command.add_argument("-i", "--inventory", type=Path, required=True, help="Ansible inventory with machines")
    command.add_argument("-o", "--output", type=Path, help="folder (default: bundles/ in the testnet's folder)")
    command.add_argument("--json", action="store_true", help="print one JSON document with the playbook's variables")
    return command.parse_args(argv)
