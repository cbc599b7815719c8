"""`stratosctl status`: every node, ours and outside, with heights, state roots and health."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl status
  stratosctl status -i inventories/demo.yml --json
"""
_WORDS = {None: "not compared", True: "equal", False: "DIFFERENT"}


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from orchestrator.testnet.survey import survey

    found = survey(locate(options.inventory))
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return OK
    from orchestrator.cli.tables import aligned, duration

    print(f"testnet {found.testnet}: {found.running} of {found.total} nodes run; {found.folder}")
    print(
        f"value layer at height {found.height}, state roots {_WORDS[found.state_roots_equal]}; "
        f"meta layer at height {found.meta_height}, state roots {_WORDS[found.meta_state_roots_equal]}"
    )
    rows = [("NODE", "ROLE", "WHOSE", "STATE", "HEALTH", "PID", "UP", "RESTARTS", "HEIGHT", "ENDPOINT")]
    for node in found.nodes:
        up = duration(node.up_seconds) if node.pid else ""
        health = node.health + (f" ({node.last_exit})" if node.last_exit and not node.pid else "")
        restarts = str(node.restarts) if node.restarts else ""
        pid, height = str(node.pid or ""), str(node.height or "")
        rows.append((node.name, node.role, node.whose, node.state, health, pid, up, restarts, height, node.endpoint))
    print(aligned(rows))
    for note in found.notes:
        print(note)
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "status", "Nodes of a testnet, ours and outside: processes, heights, state roots.", examples=EXAMPLES
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
