"""`stratosctl status`: every node, ours and outside, with heights, state roots and health; `--watch` shows it live."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

EXAMPLES = """  stratosctl status
  stratosctl status --watch                    a live view; q ends it, p shows only problems
  stratosctl status -i inventories/demo.yml --json
"""
_WORDS = {None: "not compared", True: "equal", False: "DIFFERENT"}


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from orchestrator.testnet.survey import survey

    if options.watch:
        return _watch(options)
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


def _watch(options: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("--watch needs a terminal; use --json, again and again, where there is none")
    if options.json:
        raise BadInput("--watch and --json do not go together; leave one out")
    from orchestrator.cli.watch_app import WatchApp  # half a second of imports, for this view only
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.survey import survey

    folder = locate(options.inventory)
    folder.need_plan()
    WatchApp(lambda: survey(folder), seconds=options.interval).run()
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "status", "Nodes of a testnet, ours and outside: processes, heights, state roots.", examples=EXAMPLES
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--watch", action="store_true", help="look again and again, on the whole terminal")
    command.add_argument("--interval", type=_seconds, default=2.0, metavar="SECONDS", help="between looks (2)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3_600:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number of seconds from 0.2 to 3600")
    return seconds
