"""`stratosctl upgrade-rules`: have a newer version of the ledger's rules begin at a height, by our validators' votes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser, whole_number

EXAMPLES = """  stratosctl upgrade-rules 2                    in about 20 seconds
  stratosctl upgrade-rules 2 --height 5000
  stratosctl upgrade-rules 2 --in 3600

install images that know the version on all validators first: one without it stops at the height
single votes, also of other operators: stratosctl tx propose-upgrade, stratosctl tx vote-upgrade
"""


def main(argv: list[str]) -> int:
    """Run the command; 0 when the rules hold or are planned, 4 when other operators must vote first."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from orchestrator.testnet.rules_vote import schedule_rules

    folder = locate(options.inventory)
    folder.need_plan()
    done = schedule_rules(
        folder,
        options.version,
        options.height,
        say=lambda line: print(line, file=sys.stderr),
        lead_seconds=options.lead_seconds,
    )
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
    elif done.in_force:
        print(f"rules version {done.version} holds since block {done.height}; nothing to do")
    else:
        print(f"rules version {done.version} begins with block {done.height}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("upgrade-rules", "Vote newer rules of the ledger into force at a height.", examples=EXAMPLES)
    command.add_argument("version", type=whole_number(1, 10**6), help="the rules version")
    when = command.add_mutually_exclusive_group()
    when.add_argument("--height", type=whole_number(1, 2**53), help="first block under the new rules")
    when.add_argument(
        "--in",
        dest="lead_seconds",
        type=whole_number(1, 10**7),
        default=20,
        metavar="SECONDS",
        help="about how far ahead, at the chain's present pace (default: 20)",
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
