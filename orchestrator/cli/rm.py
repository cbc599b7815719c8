"""`stratosctl rm`: delete files; holders drop what nobody refers to any more."""

from __future__ import annotations

import argparse

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.storage import opened, print_json, storage_parser

EXAMPLES = """  stratosctl rm sdm://st1.../v.../report.pdf
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    with opened(options) as client:
        for handle in options.handles:
            client.rm(handle)
            if not options.json:
                print(f"removed {handle}")
    if options.json:
        print_json({"removed": options.handles})
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser("rm", "Delete files of your wallet from the network.", examples=EXAMPLES)
    command.add_argument("handles", nargs="+", metavar="handle", help="sdm://<wallet>/<content name>[/<file name>]")
    return command.parse_args(argv)
