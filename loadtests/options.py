"""Command-line options that all workloads share, and their typed form.

Locust has one flat namespace of options and fills it from the command line, the environment (`LOCUST_...`) and its own
config file; `LoadOptions` is what the users read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locust.argument_parser import LocustArgumentParser

from loadtests.data import parse_size


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What one run does: where, with which data, how fast."""

    testnet: Path
    wallets: tuple[str, ...]
    seed: str
    smallest: int
    largest: int
    preload: int
    copies: int | None
    rates: dict[str, float]
    users: dict[str, int]
    deadline_seconds: float
    results: Path | None


def add_options(parser: LocustArgumentParser) -> None:
    """Declare the options; each is explained by `locust -f loadtests/mixed.py --help`."""
    group = parser.add_argument_group("Stratos", "what to send through which testnet")
    group.add_argument("--testnet", default=".testnets/local", help="folder of a running testnet")
    group.add_argument("--wallets", default="user", help="comma-separated wallet files of the testnet, shared in turn")
    group.add_argument("--seed", default="1", help="what the data is made from")
    group.add_argument("--size", default="64KiB-1MiB", help="object sizes, one or smallest-largest (log-uniform)")
    group.add_argument("--preload", type=int, default=4, help="objects stored before readers start")
    group.add_argument("--copies", type=int, default=0, help="copies per slice; 0 is the network's setting")
    group.add_argument("--op-deadline", type=float, default=30.0, help="seconds after which an operation has failed")
    group.add_argument("--results", default="", help="file for the run's results as JSON; samples go beside it")
    for kind in ("upload", "download", "stream"):
        group.add_argument(
            f"--{kind}-rate", type=float, default=0.0, help=f"{kind}s per second and user; 0 is flat out"
        )
        group.add_argument(f"--{kind}-users", type=int, default=0, help=f"exactly this many {kind} users (mixed.py)")


def read_options(parsed: Any) -> LoadOptions:
    """The typed form of Locust's parsed options; raises ValueError naming the option."""
    smallest, dash, largest = str(parsed.size).partition("-")
    try:
        low = parse_size(smallest)
        high = parse_size(largest) if dash else low
    except ValueError as error:
        raise ValueError(f"--size: {error}") from error
    if low > high:
        raise ValueError(f"--size {parsed.size}: the smaller size comes first")
    wallets = tuple(name.strip() for name in str(parsed.wallets).split(",") if name.strip())
    if not wallets:
        raise ValueError("--wallets is empty; name at least one wallet of the testnet")
    kinds = ("upload", "download", "stream")
    return LoadOptions(
        testnet=Path(parsed.testnet),
        wallets=wallets,
        seed=str(parsed.seed),
        smallest=low,
        largest=high,
        preload=max(0, int(parsed.preload)),
        copies=int(parsed.copies) or None,
        rates={kind: float(getattr(parsed, f"{kind}_rate")) for kind in kinds},
        users={kind: int(getattr(parsed, f"{kind}_users")) for kind in kinds},
        deadline_seconds=float(parsed.op_deadline),
        results=Path(parsed.results) if parsed.results else None,
    )
