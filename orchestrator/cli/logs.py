"""`stratosctl logs`: the nodes' logs of all hosts, merged by time and filtered; `-f` follows them."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.parsing import parser

if TYPE_CHECKING:
    from orchestrator.testnet.log_lines import LogLine

EXAMPLES = """  stratosctl logs                          everything so far
  stratosctl logs meta-1 meta-2 -f         two nodes, as it happens
  stratosctl logs validators --level warning --since 5m
  stratosctl logs --grep 'slice|receipt' --json

Processes, containers and machines are read alike. The exit code is 4 when some nodes could not be asked.
"""
LEVELS = ("debug", "info", "warning", "error", "critical")
LOOK_SECONDS = 0.1
ASK_SECONDS = 1.0
"""Between two looks at files here, and between two questions to engines and machines."""
_SKIPPED = frozenset({"timestamp", "time", "ts", "time_ms", "level", "event", "logger"})


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.runtimes.choose import runtime_for  # after parsing: --help must be quick
    from orchestrator.testnet.choosing import chosen_nodes
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.log_reading import LineFilter, LogReader

    folder = locate(options.inventory)
    plan = folder.need_plan()
    names = [node.name for node in chosen_nodes(plan, options.nodes)]
    runtime = runtime_for(plan, folder.path, code="")
    reader = LogReader(runtime, names)
    width = max((len(name) for name in names), default=0)
    since = 0.0 if options.since is None else time.time() - options.since
    wanted = LineFilter(since=since, level=options.level, pattern=options.grep)
    told: set[str] = set()

    def tell_problems() -> None:
        for name in reader.problems.keys() - told:
            told.add(name)
            print(f"stratosctl: no log of {name}: {reader.problems[name]}", file=sys.stderr)

    try:
        for line in reader.so_far(since=since):
            if wanted.wants(line):
                _show(line, width, as_json=options.json)
        tell_problems()
        while options.follow:
            sys.stdout.flush()
            time.sleep(LOOK_SECONDS if plan.runtime == "process" else ASK_SECONDS)
            for line in reader.new():
                if wanted.wants(line):
                    _show(line, width, as_json=options.json)
            tell_problems()
    except KeyboardInterrupt:
        pass  # the way to end following
    finally:
        runtime.close()
    return PARTIAL if reader.problems else OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("logs", "Read or follow the nodes' logs, merged by time.", examples=EXAMPLES)
    command.add_argument("nodes", nargs="*", metavar="NODE", help="only these nodes, groups or machines")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("-f", "--follow", action="store_true", help="go on printing new lines")
    command.add_argument("--since", type=ago, metavar="TIME", help="only the last 30s, 5m, 2h, 1d")
    command.add_argument("--level", choices=LEVELS, default="debug", help="only lines of this level and above")
    command.add_argument("--grep", type=_pattern, metavar="REGEX", help="only lines that match")
    command.add_argument("--json", action="store_true", help="one JSON object per line, with its node")
    return command.parse_args(argv)


def ago(text: str) -> float:
    """An argparse type: seconds of a span of time."""
    match = re.fullmatch(r"([0-9]{1,9})(s|m|h|d|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a span of time such as 30s, 5m, 2h or 1d")
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a regular expression ({error})") from error


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
