"""`stratosctl maintenance`: put resource nodes into maintenance before work on their machines, and back after it."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.cli.telling import Teller

EXAMPLES = """  stratosctl maintenance on resource-3
  stratosctl maintenance off resource-3
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.control import runtime_of  # after parsing: --help must be quick
    from orchestrator.testnet.journal import Journal
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.lock import hold_testnet
    from orchestrator.testnet.maintenance import set_maintenance

    folder = locate(options.inventory)
    folder.need_plan()
    say = Teller(wanted=not options.json)
    try:
        with hold_testnet(folder.path.parent, folder.name):
            runtime = runtime_of(folder)
            on = options.state == "on"
            changed = [name for name in options.node if set_maintenance(folder, runtime, name, on, say=say)]
            Journal(folder.journal_file, "maintenance").step(options.state, nodes=changed)
    finally:
        say.clear()
    if options.json:
        import msgspec

        print(msgspec.json.encode({"testnet": folder.name, "state": options.state, "changed": changed}).decode())
        return OK
    for name in options.node:
        already = "" if name in changed else " already"
        if options.state == "on":
            print(f"{name} is in maintenance{already}: no new tasks, no penalty, and it serves what it has")
        else:
            print(f"{name} is out of maintenance{already}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "maintenance",
        "Resource nodes in maintenance get no tasks and may be silent for a while without losing standing or slices.",
        examples=EXAMPLES,
    )
    command.add_argument("state", choices=("on", "off"), help="begin or end it")
    command.add_argument("node", metavar="NODE", nargs="+", help="names of resource nodes")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document: changed, ...")
    return command.parse_args(argv)
