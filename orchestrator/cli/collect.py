"""`stratosctl collect`: one archive of logs, configs without secrets, metrics and versions."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.logs import ago
from orchestrator.cli.parsing import parser

EXAMPLES = """  stratosctl collect
  stratosctl collect -i inventories/fleet.yml --since 1h -o incident.tar.gz
  stratosctl collect meta-1 meta-2

No key material leaves: only named files are taken, and each is searched for every secret of the testnet.
The exit code is 4 when something of a node or machine is missing; collection.json says what and why.
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.cli.telling import Teller  # after parsing: --help must be quick
    from orchestrator.testnet.choosing import chosen_nodes
    from orchestrator.testnet.collecting import collect
    from orchestrator.testnet.locate import locate

    folder = locate(options.inventory)
    nodes = chosen_nodes(folder.need_plan(), options.nodes)
    target = options.output or Path(f"{folder.name}-{time.strftime('%Y%m%dT%H%M%S')}.tar.gz")
    since = 0.0 if options.since is None else time.time() - options.since
    with Teller(wanted=not options.json) as say:
        found = collect(folder, target, nodes=nodes, since=since, say=say)
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(f"{found.file}: {found.files} files of {len(nodes)} nodes, {found.bytes:,} bytes")
        if found.redacted:
            print(f"{found.redacted} secrets were taken out of logs or metrics; a node should not write any: report it")
        for name, problem in found.problems.items():
            print(f"missing of {name}: {problem}")
    return PARTIAL if found.problems else OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "collect", "One archive of logs, configs without secrets, metrics and versions.", examples=EXAMPLES
    )
    command.add_argument("nodes", nargs="*", metavar="NODE", help="only these nodes, groups or machines")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="the archive (default: NAME-TIME.tar.gz)")
    command.add_argument("--since", type=ago, metavar="TIME", help="logs of the last 30s, 5m, 2h, 1d only")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
