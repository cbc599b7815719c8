"""Our PUT and GET of 64 MiB beside OpenStack Swift's, interleaved in one run.

Both systems are up at the same time, on the same disk, with fresh random data every time and the bytes compared. Arms go
ours, Swift, Swift, ours (A B B A), at least five pairs; each result is the ratio of medians, with least and most. Space of both
is brought into use before anything is timed. Swift keeps three copies; ours 3, as the peer, or 4, our default. With TLS both
are reached over TLS 1.3; ours then encrypts between holders too, Swift's servers never do. Void runs (calibration moved by more than 15 %) are counted;
with more than a third of them there is no result.

    python benchmarks/swift_compare.py [--json] [--pairs 5] [--copies 4] [--transport tls|plain]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from put_get import touch
from storage_net import MIB, VOID_ABOVE, calibration, drift, running_testnet, show, spread
from swift_peer import SwiftClient, SwiftMissing, install, swift

from stratos.client import Client

OURS, PEER = "ours", "swift"


def main() -> None:
    """Measure and print."""
    options = _options()
    cache = options.cache or Path(tempfile.gettempdir()) / "stratos-bench-cache"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        programs = install(cache)
        with (
            tempfile.TemporaryDirectory(prefix="swift-", dir=options.folder) as scratch,
            running_testnet(copies=options.copies, transport=options.transport, folder=options.folder) as folder,
            swift(programs, Path(scratch), tls=options.transport == "tls") as peer,
            Client.from_testnet(folder) as client,
        ):
            touch(client, folder, options)
            document = compare(client, peer, Path(scratch), options)
    except SwiftMissing as error:
        raise SystemExit(f"swift_compare: {error}") from error
    show(document, as_json=options.json)


def compare(client: Client, peer: SwiftClient, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The interleaved pairs."""
    figures: dict[tuple[str, str], list[float]] = {(arm, what): [] for arm in (OURS, PEER) for what in ("put", "get")}
    size = options.mib * MIB
    source, target = scratch / "in.bin", scratch / "out.bin"
    for number in range(2):
        source.write_bytes(os.urandom(size))
        peer.put(f"touch{number}", source)
    void = rounds = 0
    order = [OURS, PEER, PEER, OURS]
    for number in range(2 * options.pairs):
        arm = order[number % 4]
        before = calibration(scratch)
        data = os.urandom(size)
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        put_seconds, get_seconds = one(arm, client, peer, source, target, number)
        assert target.read_bytes() == data, f"{arm} gave back other bytes"
        rounds += 1
        void += drift(before, calibration(scratch)) > VOID_ABOVE
        figures[arm, "put"].append(size / 1e6 / put_seconds)
        figures[arm, "get"].append(size / 1e6 / get_seconds)
    return {
        "mib": options.mib,
        "copies": options.copies,
        "swift_copies": 3,
        "transport": options.transport,
        **{f"{arm}_{what}_mb_per_second": spread(values) for (arm, what), values in figures.items()},
        "put_ratio": round(statistics.median(figures[OURS, "put"]) / statistics.median(figures[PEER, "put"]), 3),
        "get_ratio": round(statistics.median(figures[OURS, "get"]) / statistics.median(figures[PEER, "get"]), 3),
        "void_runs": void,
        "counts": void * 3 <= rounds,
    }


def one(arm: str, client: Client, peer: SwiftClient, source: Path, target: Path, number: int) -> tuple[float, float]:
    """Seconds of one PUT and one GET."""
    began = time.perf_counter()
    if arm == OURS:
        handle = client.put(source, name=f"o{number}").handle
    else:
        peer.put(f"o{number}", source)
    stored = time.perf_counter()
    if arm == OURS:
        client.get(handle, target)
    else:
        peer.get(f"o{number}", target)
    return stored - began, time.perf_counter() - stored


def _options() -> argparse.Namespace:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--json", action="store_true")
    command.add_argument("--pairs", type=int, default=5)
    command.add_argument("--mib", type=int, default=64)
    command.add_argument("--copies", type=int, default=4)
    command.add_argument("--transport", choices=("tls", "plain"), default="tls")
    command.add_argument(
        "--folder", type=Path, help="where both systems keep their data (default: the temporary folder)"
    )
    command.add_argument("--cache", type=Path, help="where Swift's virtual environment is kept")
    return command.parse_args()


if __name__ == "__main__":
    main()
