"""`stratosctl audit`: every epoch's payout worked out again, from three ledgers kept apart.

Says `agree` with the number of epochs, or names node, epoch, expected, found and the ledger that differs. Without
evidence it says why it cannot judge. Exit code 0 agree, 1 disagree, 3 no evidence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orchestrator.cli.client_sentences import client_sentences
from orchestrator.cli.exit_codes import ENVIRONMENT, OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl audit
  stratosctl audit --json --load-ledger /mnt/load/ledger
"""
_SHOWN = 50


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.audit.evidence import AGREE, DISAGREE  # after parsing: --help must be quick
    from orchestrator.cli.tables import aligned
    from orchestrator.report.amounts import data_size
    from orchestrator.rewards.evidence import audit_testnet
    from orchestrator.rewards.node_ledgers import reader_of
    from orchestrator.testnet.locate import locate
    from stratos.client.testnet import load_testnet

    folder = locate(options.inventory)
    with client_sentences():
        testnet = load_testnet(folder.path)
        report = audit_testnet(testnet, read_lines=reader_of(folder), ledger_folder=options.load_ledger)
    code = {AGREE: OK, DISAGREE: VERDICT_FAILED}.get(report.verdict, ENVIRONMENT)
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return code
    if report.reason:
        print(f"stratosctl: the audit cannot judge: {report.reason}", file=sys.stderr)
        return code
    print(
        f"{report.verdict}: {report.epochs} epochs, {report.receipts_checked} receipts, "
        f"{data_size(report.volume_noz)} of paid traffic, {data_size(report.pending_noz)} not settled yet"
    )
    if report.findings:
        rows = [("NODE", "EPOCH", "EXPECTED", "FOUND", "LEDGER", "WHAT")]
        rows += [
            (one.node, str(one.epoch), one.expected, one.found, one.ledger, one.what)
            for one in report.findings[:_SHOWN]
        ]
        print(aligned(rows))
        if len(report.findings) > _SHOWN:
            print(f"and {len(report.findings) - _SHOWN} more; --json lists all")
    return code


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("audit", "Recompute every payout and compare three independent ledgers.", examples=EXAMPLES)
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument(
        "--load-ledger", type=Path, help="folder of the load generator's ledger (default: the testnet's)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
