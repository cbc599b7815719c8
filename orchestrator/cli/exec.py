"""`stratosctl exec`: run a command where nodes run, on one or on many."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import ENVIRONMENT, OK, PARTIAL, VERDICT_FAILED
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.testnet.remote import Outcome

EXAMPLES = """  stratosctl exec validator-1 -- ls -l
  stratosctl exec resource meta-1 -- df -h .
  stratosctl exec -i inventories/fleet.yml meta --container -- stratosd --version

Processes: in the node's home. Containers: inside. Machines: as root in the node's home, or with --container inside.
The exit code of a command on one node is the command's; on several it is 1 when one failed, 4 when some could not be asked.
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    if not options.command:
        raise BadInput("there is no command to run; write it after --, as in `stratosctl exec meta-1 -- uptime`")
    from orchestrator.runtimes.choose import runtime_for  # after parsing: --help must be quick
    from orchestrator.testnet.choosing import chosen_nodes
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.remote import execute

    folder = locate(options.inventory)
    plan = folder.need_plan()
    nodes = chosen_nodes(plan, options.nodes)
    runtime = runtime_for(plan, folder.path, code="")
    try:
        outcomes = execute(
            folder, plan, runtime, nodes, options.command, timeout=options.timeout, container=options.container
        )
    finally:
        runtime.close()
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(outcomes), indent=2).decode())
    else:
        _show(outcomes)
    return code_of(outcomes)


def code_of(outcomes: tuple[Outcome, ...]) -> int:
    """The exit code that says it all."""
    unasked = [outcome for outcome in outcomes if outcome.problem]
    if unasked:
        return ENVIRONMENT if len(unasked) == len(outcomes) else PARTIAL
    if len(outcomes) == 1:
        return outcomes[0].code
    return VERDICT_FAILED if any(outcome.code for outcome in outcomes) else OK


def _show(outcomes: tuple[Outcome, ...]) -> None:
    several = len(outcomes) > 1
    width = max(len(outcome.node) for outcome in outcomes)
    for outcome in outcomes:
        prefix = f"{outcome.node:<{width}} | " if several else ""
        for line in outcome.output.splitlines():
            print(f"{prefix}{line}")
        for line in outcome.errors.splitlines():
            print(f"{prefix}{line}", file=sys.stderr)
        if outcome.problem:
            print(f"stratosctl: {outcome.problem}", file=sys.stderr)
        elif several and outcome.code:
            print(f"{prefix}exit code {outcome.code}", file=sys.stderr)


def _options(argv: list[str]) -> argparse.Namespace:
    before, command_words = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    command = parser("exec", "Run a command where nodes run.", examples=EXAMPLES)
    command.usage = (
        "stratosctl exec [-h] [-i INVENTORY] [--container] [--timeout SECONDS] [--json] NODE|GROUP... -- COMMAND..."
    )
    command.add_argument(
        "nodes", nargs="+", metavar="NODE", help="nodes, groups (validators, meta, resource), machines, or all"
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--container", action="store_true", help="on machines: inside the node's container")
    command.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="give up after this long (default: 60)"
    )
    command.add_argument("--json", action="store_true", help="print one JSON document")
    options = command.parse_args(before)
    options.command = command_words
    return options
