"""`stratosctl demo`: the whole story in a minute.

Facts go to stdout (a table, or with --json one JSON document), what is going on to stderr. Exit code 0 only when every
condition of the run held; otherwise 1 with each reason.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import orchestrator
from orchestrator.cli.client_sentences import client_sentences
from orchestrator.cli.exit_codes import OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser, whole_number
from orchestrator.cli.termination import sigterm_interrupts
from orchestrator.runtimes.launch import launch_parent

EXAMPLES = """  stratosctl demo
  stratosctl demo --json --seconds 30
  stratosctl demo --keep && stratosctl status -i inventories/demo.yml
"""
_UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    began = time.time()
    checkout = Path(orchestrator.__file__).resolve().parent.parent
    options = _options(argv, checkout)
    from orchestrator.demo.load import LoadPlan  # after parsing: --help must be quick
    from orchestrator.demo.run import DemoOptions, run_demo
    from orchestrator.testnet.locate import locate

    def say(text: str) -> None:
        print(f"[{time.time() - began:5.1f} s] {text}", file=sys.stderr, flush=True)

    wanted = DemoOptions(
        inventory=options.inventory,
        checkout=checkout,
        load=LoadPlan(seconds=options.seconds, size=options.size),
        keep=options.keep,
        began=began,
    )
    with client_sentences(), sigterm_interrupts():
        result = run_demo(wanted, locate(options.inventory), launch=launch_parent, say=say)
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(result.document), indent=2).decode())
    else:
        from orchestrator.cli.rewards import print_rewards

        print_rewards(result.rewards)
        print(f"withdrawn by {result.document.withdrawn.node}: {result.document.withdrawn.amount_wei} wei")
        print(f"report: {result.document.report}")
    for failure in result.document.failures:
        print(f"stratosctl demo: {failure}", file=sys.stderr)
    if not options.json and not result.document.failures:
        print(f"everything checked out in {result.document.seconds:.1f} s")
    return VERDICT_FAILED if result.document.failures else OK


def _options(argv: list[str], checkout: Path) -> argparse.Namespace:
    command = parser(
        "demo",
        "Raise a testnet, send real traffic through it, settle epochs, pay, audit, report, and take it down.",
        examples=EXAMPLES,
    )
    command.add_argument(
        "-i",
        "--inventory",
        type=Path,
        default=checkout / "inventories" / "demo.yml",
        help="inventory, whose testnet is made anew (default: inventories/demo.yml)",
    )
    command.add_argument(
        "--seconds", type=whole_number(5, 3_600), default=20, help="how long Locust sends traffic (default 20)"
    )
    command.add_argument(
        "--size", type=_sizes, default="64KiB-1MiB", help="object sizes, smallest-largest (default 64KiB-1MiB)"
    )
    command.add_argument("--keep", action="store_true", help="leave the testnet running")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)


def _sizes(text: str) -> str:
    """The text itself, once it is known to be what the load generator understands."""
    parts = [re.fullmatch(r"([0-9]{1,12})(|B|KIB|MIB|GIB)", part.upper()) for part in text.split("-")]
    sizes = [int(part[1]) * _UNITS[part[2]] for part in parts if part is not None]
    if len(sizes) != len(parts) or len(parts) > 2 or sizes != sorted(sizes):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is no range of sizes such as 64KiB-1MiB, smallest first")
    return text
