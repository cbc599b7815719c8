"""`stratosctl down`: stop every node of a testnet; `--purge` removes its folder too."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.cli.telling import Teller

EXAMPLES = """  stratosctl down
  stratosctl down -i inventories/demo.yml --purge
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from orchestrator.testnet.lowering import lower_testnet

    with Teller(wanted=not options.json) as say:
        report = lower_testnet(locate(options.inventory), purge=options.purge, say=say)
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return OK
    what = f"stopped {len(report.stopped)} nodes of" if report.stopped else "nothing ran of"
    print(
        f"{what} testnet {report.testnet}"
        + (" and removed its folder" if report.purged else "")
        + f"; {report.seconds:.2f} s"
    )
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("down", "Stop every node of a testnet; its data stays for the next `up`.", examples=EXAMPLES)
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--purge", action="store_true", help="remove the testnet's folder: keys, chain, files, runs")
    command.add_argument("--json", action="store_true", help="print one JSON document: changed, stopped, seconds, ...")
    return command.parse_args(argv)
