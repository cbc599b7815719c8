"""`stratosctl up`: bring a testnet to what its inventory says, verified by a real upload.

The first thing it does, before any other import, is to start the fork parent, whose preloading takes as long as reading
the inventory; both run at once. When the testnet has a parent already, none is started.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from pathlib import Path

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.parsing import parser
from orchestrator.cli.telling import Teller
from orchestrator.runtimes.launch import LaunchedParent, launch_parent, parent_is_running
from orchestrator.runtimes.lean_imports import lean_imports

EXAMPLES = """  stratosctl up
  stratosctl up -i inventories/demo.yml --json
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    began = _process_start()
    options = _options(argv)
    inventory = options.inventory
    launched = _launch_early(inventory)
    say = Teller(wanted=not options.json)
    try:
        with lean_imports():  # from here on the parent preloads meanwhile
            from orchestrator.testnet.locate import default_inventory
            from orchestrator.testnet.raising import Raising

        raising = Raising(inventory or default_inventory(), began=began, say=say, launched=launched)
        launched = None
        report = raising.run(probe=not options.no_probe, force=options.force, wait_cooling_off=options.wait_cooling_off)
    finally:
        say.clear()  # what is printed next, here or about an error, begins on an empty line
        if launched is not None:
            launched.dismiss()
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return PARTIAL if report.partial else OK
    for name, sentence in report.quarantined.items():
        print(f"stratosctl: quarantined {name}: {sentence}", file=sys.stderr)
    for sentence in report.draining.values():
        print(f"stratosctl: {sentence}", file=sys.stderr)
    for text in (*report.notes, *(f"warning: {warning}" for warning in report.warnings)):
        print(text)
    counts = ", ".join(f"{count} {role}" for role, count in report.nodes.items())
    if not report.changed:
        print(f"testnet {report.testnet} is up already ({counts}; height {report.height}); nothing changed")
        return PARTIAL if report.partial else OK
    done = f"{report.changed} nodes changed, {report.started} started, {report.seconds:.2f} s"
    print(f"testnet {report.testnet} is up: {counts}; height {report.height}; {done}")
    if report.probe is not None:
        print(f"verified: {report.probe['bytes']:,} bytes put with {report.probe['copies']} copies and read back")
    first = next(iter(report.endpoints.values()), "")
    print(f"first validator: {first}/status    folder: {report.folder}")
    here = f" -i {shlex.quote(str(inventory))}" if inventory is not None else ""
    following = ("status", "put FILE", "logs -f", "down")
    print("next: " + ", ".join(f"stratosctl {command}{here}" for command in following))
    return PARTIAL if report.partial else OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "up", "Bring a testnet to what its inventory says; doing it twice changes nothing.", examples=EXAMPLES
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document: changed, started, seconds, ...")
    command.add_argument("--no-probe", action="store_true", help="do not verify with a 1 MiB upload")
    command.add_argument(
        "--force",
        action="store_true",
        help="stop removed nodes without waiting for their slices to be copied elsewhere",
    )
    command.add_argument(
        "--wait-cooling-off",
        action="store_true",
        help="keep removed resource nodes running until they forfeit no rewards; up to stratos_drain_seconds per run",
    )
    return command.parse_args(argv)


def _launch_early(inventory: Path | None) -> LaunchedParent | None:
    """Start a fork parent, unless the testnet that the inventory's file name suggests has one or the file names a runtime
    without processes; what it says where this does not look costs a parent that leaves again."""
    try:
        if inventory is not None and re.search(
            rb"^\s*stratos_runtime:\s*(docker|machines)\b", inventory.read_bytes(), re.MULTILINE
        ):
            return None
    except OSError:
        pass  # a folder, or not there: the inventory's reader says what is wrong
    root = os.environ.get("STRATOS_TESTNETS") or str(Path(__file__).resolve().parent.parent.parent / ".testnets")
    guess = Path(root) / (inventory.name.split(".")[0].lower() if inventory is not None else "local")
    return None if parent_is_running(guess) else launch_parent()


def _process_start() -> float:
    """Wall time at which this process was started, so that `seconds` covers the interpreter's own start."""
    try:
        ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        booted = time.time() - float(Path("/proc/uptime").read_bytes().split()[0])
        return min(time.time(), booted + ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()
