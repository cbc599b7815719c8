"""`stratosctl load`: traffic from every load host of the inventory at once, and one verified result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import ENVIRONMENT, OK, PARTIAL, VERDICT_FAILED
from orchestrator.cli.parsing import parser

if TYPE_CHECKING:
    from orchestrator.load.merge import LoadResult

EXAMPLES = """  stratosctl load -i inventories/fleet.yml --seconds 300 --upload-users 4 --download-users 8
  stratosctl load --seconds 20 --upload-users 2 --upload-rate 1.5 --size 1MiB --json
"""
KINDS = ("upload", "download", "stream")


def main(argv: list[str]) -> int:
    """Run the command; the exit code: 1 when an operation went wrong, 3 without any, 4 when a host is missing."""
    options = _options(argv)
    from orchestrator.cli.storage import print_json
    from orchestrator.cli.telling import Teller
    from orchestrator.load.options import LoadOptions
    from orchestrator.load.run import run_load
    from orchestrator.testnet.locate import locate

    wanted = LoadOptions(
        seconds=options.seconds,
        users={kind: getattr(options, f"{kind}_users") for kind in KINDS},
        rates={kind: getattr(options, f"{kind}_rate") for kind in KINDS},
        size=options.size,
        seed=options.seed,
        wallet=options.wallet,
        preload=options.preload,
    )
    with Teller(wanted=not options.json) as say:
        result = run_load(locate(options.inventory), wanted, say=say)
    if options.json:
        print_json(result)
    else:
        _show(result)
    if result.failed:
        return VERDICT_FAILED
    if not result.operations:
        return ENVIRONMENT
    return PARTIAL if result.missing else OK


def _show(result: LoadResult) -> None:
    for name, kind in result.kinds.items():
        if kind.ok or kind.failed:
            latency = (
                f"p50 {kind.p50_ms:.0f} ms, p95 {kind.p95_ms:.0f}, p99 {kind.p99_ms:.0f}"
                if kind.p50_ms is not None
                else "-"
            )
            print(f"{name:10} {kind.ok:>8} ok  {kind.failed:>6} failed  {kind.bytes / 1e6:>10.1f} MB  {latency}")
    print(
        f"{len(result.hosts)} load hosts, {result.seconds:.0f} s, {result.bytes_per_second / 1e6:.1f} MB/s verified, "
        f"{result.hash_mismatches} hash mismatches"
    )
    for text, count in result.errors.items():
        print(f"{count} x {text}")
    for host, reason in result.missing.items():
        print(f"missing: {host}: {reason}")


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser(
        "load",
        "Send verified traffic from every load host of a testnet (from this machine where nodes are processes or containers). "
        "Users and rates are those of each host.",
        examples=EXAMPLES,
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    for kind in KINDS:
        command.add_argument(f"--{kind}-users", type=int, default=0, metavar="N", help=f"{kind} users on each host")
        command.add_argument(
            f"--{kind}-rate", type=float, default=0.0, metavar="R", help=f"{kind}s per second and user; 0 is flat out"
        )
    command.add_argument("--size", default="64KiB-1MiB", help="object sizes, one or smallest-largest")
    command.add_argument("--seed", default="load", help="what the data is made from")
    command.add_argument("--wallet", default="user", help="wallet of the testnet that pays")
    command.add_argument("--preload", type=int, default=4, metavar="N", help="objects stored before readers start")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
