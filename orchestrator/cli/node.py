"""`stratosctl node`: single nodes of a testnet that is up: start, stop, kill, pause, unpause, stats."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser

if TYPE_CHECKING:
    from orchestrator.runtimes.usage import Usage

EXAMPLES = """  stratosctl node kill resource-3        without warning; it stays down until `node start` or `up`
  stratosctl node pause meta-2 meta-3    frozen where they are, their connections open
  stratosctl node stats resource         what every resource node uses
"""
_DONE = {"start": "started", "stop": "stopped", "kill": "killed", "pause": "paused", "unpause": "going on"}


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.choosing import chosen_nodes  # after parsing: --help must be quick
    from orchestrator.testnet.control import control_nodes, usage_of
    from orchestrator.testnet.locate import locate

    folder = locate(options.inventory)
    names = [node.name for node in chosen_nodes(folder.need_plan(), options.node)]
    if options.verb == "stats":
        return _stats(usage_of(folder, names), as_json=options.json)
    changed = sorted(control_nodes(folder, names, options.verb))
    if options.json:
        from orchestrator.cli.storage import print_json

        print_json({"testnet": folder.name, "verb": options.verb, "changed": changed})
        return OK
    for name in names:
        print(f"{name} is {_DONE[options.verb]}" + ("" if name in changed else " already"))
    return OK


def _stats(used: Mapping[str, Usage], *, as_json: bool) -> int:
    from orchestrator.cli.storage import human_bytes, print_json
    from orchestrator.cli.tables import aligned

    if as_json:
        print_json({"nodes": used})
        return OK
    rows = [("NODE", "MEMORY", "LIMIT", "CPU SECONDS", "RECEIVED", "SENT")]
    for name, one in used.items():
        limit = human_bytes(one.memory_limit_bytes) if one.memory_limit_bytes else ""
        network = (human_bytes(one.received_bytes), human_bytes(one.sent_bytes))
        rows.append((name, human_bytes(one.memory_bytes), limit, f"{one.cpu_seconds:.1f}", *network))
    print(aligned(rows))
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "node",
        "Start, stop, kill, pause or unpause single nodes, or say what they use. A node may be named by itself, by its "
        "group or by its machine. What is stopped here stays down until `node start` or the next `up`.",
        examples=EXAMPLES,
    )
    command.add_argument("verb", choices=[*_DONE, "stats"], help="what to do")
    command.add_argument("node", nargs="*", metavar="NODE", help="nodes, groups or machines; only stats may go without")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    options = command.parse_args(argv)
    if options.verb != "stats" and not options.node:
        command.error(f"node {options.verb} needs the names of nodes, so that it never means all by accident")
    return options
