"""`stratosctl logs`: the nodes' logs, merged by time; `-f` follows them."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.testnet.log_lines import LogLine

EXAMPLES = """  stratosctl logs                      everything so far
  stratosctl logs meta-1 meta-2 -f     two nodes, as it happens
  stratosctl logs --since 5m --json
"""
LOOK_SECONDS = 0.1
_SKIPPED = frozenset({"timestamp", "time", "ts", "time_ms", "level", "event", "logger"})


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from orchestrator.testnet.log_lines import Follower, merged

    folder = locate(options.inventory)
    folder.need_plan()
    known = sorted(home.name for home in folder.nodes.iterdir()) if folder.nodes.is_dir() else []
    unknown = [name for name in options.nodes if name not in known]
    if unknown:
        raise BadInput(f"testnet {folder.name} has no node {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    files = {name: folder.nodes / name / "node.log" for name in options.nodes or known}
    follower = Follower(files) if options.follow else None
    width = max((len(name) for name in files), default=0)
    since = 0.0 if options.since is None else time.time() - options.since
    for line in merged(files, since=since):
        _show(line, width, as_json=options.json)
    try:
        while follower is not None:
            for line in follower.new_lines():
                _show(line, width, as_json=options.json)
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        pass  # the way to end following
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("logs", "Read or follow the nodes' logs, merged by time.", examples=EXAMPLES)
    command.add_argument("nodes", nargs="*", metavar="NODE", help="only these nodes")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("-f", "--follow", action="store_true", help="go on printing new lines")
    command.add_argument("--since", type=_ago, metavar="TIME", help="only the last 30s, 5m, 2h, 1d")
    command.add_argument("--json", action="store_true", help="one JSON object per line, with its node")
    return command.parse_args(argv)


def _ago(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9})(s|m|h|d|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a span of time such as 30s, 5m, 2h or 1d")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]]


def _show(line: LogLine, width: int, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"node": line.node, **(line.fields if line.fields is not None else {"event": line.text})}))
        return
    moment = time.strftime("%H:%M:%S", time.localtime(line.time)) + f".{int(line.time * 1000) % 1000:03d}"
    text = line.text
    if line.fields is not None:
        more = " ".join(f"{key}={value}" for key, value in line.fields.items() if key not in _SKIPPED)
        text = f"{line.fields.get('level', '')!s:<7} {line.fields.get('event', '')} {more}".rstrip()
    print(f"{moment} {line.node:<{width}} {text}")
