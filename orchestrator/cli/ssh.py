"""`stratosctl ssh`: a shell where a node runs: on its machine, in its container, in its home."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import EnvironmentFault

EXAMPLES = """  stratosctl ssh -i inventories/fleet.yml meta-1
  stratosctl ssh -i inventories/fleet.yml meta-1 --show     the command instead, to copy
"""


def main(argv: list[str]) -> int:
    """Become the shell; the exit code is the shell's."""
    options = _options(argv)
    from orchestrator.runtimes.choose import runtime_for  # after parsing: --help must be quick
    from orchestrator.testnet.choosing import chosen_nodes
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.remote import way_to

    folder = locate(options.inventory)
    plan = folder.need_plan()
    node = chosen_nodes(plan, [options.node])[0]
    words = way_to(folder, plan, runtime_for(plan, folder.path, code=""), node)
    if options.show:
        print(shlex.join(words))
    elif shutil.which(words[0]) is None:
        raise EnvironmentFault(f"there is no program {words[0]} here, and it is the way to {node.name}; install it")
    else:
        os.execvp(words[0], words)
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "ssh", "A shell where a node runs: on its machine, in its container, in its home.", examples=EXAMPLES
    )
    command.add_argument("node", metavar="NODE", help="the node (or machine)")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--show", action="store_true", help="print the command instead of running it")
    return command.parse_args(argv)
