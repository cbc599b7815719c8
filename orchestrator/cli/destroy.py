"""`stratosctl destroy`: take a testnet away and leave every host as it was found. Asks first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

EXAMPLES = """  stratosctl destroy -i inventories/fleet.yml
  stratosctl destroy -i inventories/fleet.yml --keep-data      hosts as found, but for the nodes' data; keys stay too
  stratosctl destroy -i inventories/docker.yml --yes

Nodes are stopped; units, containers, images, users and packages that came with the testnet go; then its folder with all keys.
When a host cannot be reached the rest is done, the exit code is 4, and the same command goes on later; --abandon gives up
hosts that will never answer again.
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.destroying import destroy_testnet, holding  # after parsing: --help must be quick
    from orchestrator.testnet.locate import locate

    folder = locate(options.inventory)
    what = holding(folder)
    if what.there and not options.yes:
        _ask(what.testnet, what.sentence, keep_data=options.keep_data)
    from orchestrator.cli.telling import Teller

    with Teller(wanted=not options.json) as say:
        report = destroy_testnet(folder, keep_data=options.keep_data, abandon=options.abandon, say=say)
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return OK
    if not what.there:
        print(f"there is no testnet {report.testnet}; nothing was done")
        return OK
    for sentence in dict.fromkeys(report.abandoned.values()):
        print(f"given up, with what is left there: {sentence}")
    kept = f"; its data and {report.kept} stay for the next `up`" if report.kept else ""
    print(f"testnet {report.testnet} is gone, {len(report.stopped)} nodes ran{kept}; {report.seconds:.2f} s")
    return OK


def _ask(name: str, sentence: str, *, keep_data: bool) -> None:
    """Go on only when the testnet's name is typed; raises BadInput otherwise."""
    if not sys.stdin.isatty():
        raise BadInput(f"this removes {sentence}; nobody can be asked here, so say --yes")
    print(f"This removes {sentence}." + (" The nodes' data and the folder stay." if keep_data else ""), file=sys.stderr)
    print(f"Type {name} to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise BadInput("that is not its name; nothing was done")


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("destroy", "Take a testnet away and leave every host as it was found.", examples=EXAMPLES)
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--keep-data", action="store_true", help="leave the nodes' data, and the folder with its keys")
    command.add_argument("--abandon", action="store_true", help="do not keep the folder for hosts that do not answer")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
