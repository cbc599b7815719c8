"""`stratosctl upgrade`: another image for every node, batch by batch, health and progress before the next."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser, whole_number

EXAMPLES = """  stratosctl upgrade -i inventories/fleet.yml --image 0.2.0
  stratosctl upgrade -i inventories/fleet.yml --image 0.2.0 --rules 2     and vote for the new rules after
  stratosctl upgrade -i inventories/fleet.yml --rollback
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.cli.storage import print_json
    from orchestrator.cli.telling import Teller
    from orchestrator.image.names import full_name
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.rules_vote import schedule_rules
    from orchestrator.testnet.upgrading import upgrade_testnet

    folder = locate(options.inventory)
    image = full_name(options.image) if options.image else None
    with Teller(wanted=not options.json) as say:
        report = upgrade_testnet(folder, image=image, rollback=options.rollback, allow_halt=options.allow_halt, say=say)
        scheduled = schedule_rules(folder, options.rules, options.at, say=say) if options.rules else None
    if options.json:
        print_json({"upgrade": report, "rules": scheduled})
        return OK
    if not report.changed:
        print(f"every node of {report.testnet} runs {report.image} already; nothing changed")
    else:
        print(
            f"{report.changed} nodes of {report.testnet} run {report.image} now, "
            f"replaced in {len(report.batches)} batches; {report.seconds:.1f} s"
        )
    if scheduled is not None:
        print(f"rules version {options.rules} is voted for and comes into force at height {scheduled.height}")
    if report.changed:
        print(f"back: stratosctl upgrade --rollback (to {report.previous})")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "upgrade",
        "Give every node another image: validators below a third of the voting power at a time, meta nodes one by one, "
        "resource nodes by region, each batch healthy and its layer going on before the next. It stops at the first "
        "host that fails and names it; the same command goes on.",
        examples=EXAMPLES,
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--image", metavar="TAG", help="TAG of stratos-node, or NAME:TAG")
    command.add_argument("--rollback", action="store_true", help="go back to the image before the last upgrade")
    command.add_argument("--allow-halt", action="store_true", help="also where a layer stops until a node is back")
    command.add_argument("--rules", type=whole_number(1, 1_000), help="afterwards vote for this version of the rules")
    command.add_argument("--at", type=whole_number(1, 2**53), metavar="HEIGHT", help="where the rules come into force")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
