"""The consensus core alone, against its physical limit: every vote of every other validator checked once.

All n replicas of a network run in this one thread, messages are handed over as records, nothing is written or sent and blocks
are empty, so what is measured is the core's own work. The limit per node and block is 2 (n - 1) ed25519 checks, timed in
the same run before and after each arm; an arm during which that moved by more than 15 % is void and reported as such.
CPU time is counted, not wall time, because machines are shared.

    python benchmarks/consensus_core.py [--json] [--sizes 4,31,100] [--pairs 5]
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

from msgspec import structs

from stratos.crypto.keys import NodeKey, verify_node
from stratos.sim.cluster import FAST
from stratos.sim.tabletop import Tabletop

MAX_DRIFT = 0.15
BLOCKS = {4: 200, 31: 6, 100: 2}
PARAMS = structs.replace(FAST, block_seconds=0.001, min_block_seconds=0.0)


def verify_seconds(rounds: int = 1_000) -> float:
    """One ed25519 check, in CPU seconds."""
    key = NodeKey(b"\7" * 32)
    message = b"m" * 120
    signature = key.sign(message)
    began = time.process_time()
    for _ in range(rounds):
        assert verify_node(key.public_key, message, signature)
    return (time.process_time() - began) / rounds


def measure(size: int, blocks: int) -> dict[str, Any]:
    """CPU seconds per node and block of one network, with the calibration around it."""
    table = Tabletop((1,) * size, params=PARAMS, keep_effects=False)
    table.start()
    table.advance(60.0, lambda: min(table.heights()) >= 1)
    first = max(table.heights())
    table.advance(60.0, lambda: min(table.heights()) >= first)
    start = table.commits
    before = verify_seconds()
    began = time.process_time()
    table.advance(600.0, lambda: table.commits >= start + blocks * size)
    spent = time.process_time() - began
    after = verify_seconds()
    done = (table.commits - start) / size
    assert done >= blocks
    assert len({seat.blocks[first + 1].commit.block_hash for seat in table.seats}) == 1
    limit = 2 * (size - 1) * (before + after) / 2
    per_node = spent / done / size
    return {
        "per_node_block_ms": per_node * 1000,
        "limit_ms": limit * 1000,
        "limit_over_core": limit / per_node,
        "blocks_per_second_one_thread_all_nodes": done / spent,
        "blocks_per_second_core_per_node": 1 / per_node,
        "verify_us": before * 1e6,
        "drift": abs(after - before) / before,
        "void": abs(after - before) / before > MAX_DRIFT,
    }


def main() -> int:
    options_of = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options_of.add_argument("--json", action="store_true", help="print one JSON document")
    options_of.add_argument("--sizes", default="4,31,100", help="validators, separated by commas")
    options_of.add_argument("--pairs", type=int, default=5, help="runs per size")
    options = options_of.parse_args()
    sizes = [int(text) for text in options.sizes.split(",")]
    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for turn in range(options.pairs):
        for size in sizes if turn % 2 == 0 else reversed(sizes):
            runs[size].append(measure(size, BLOCKS.get(size, max(1, 400 // size))))
    document: dict[str, Any] = {
        "benchmark": "consensus_core",
        "limited_by": "ed25519 checks and interpreter",
        "sizes": {},
    }
    for size in sizes:
        valid = [run for run in runs[size] if not run["void"]]
        result: dict[str, Any] = {"runs": runs[size], "void": len(runs[size]) - len(valid)}
        if 3 * len(valid) >= 2 * len(runs[size]) and valid:
            for name in ("per_node_block_ms", "limit_over_core", "blocks_per_second_core_per_node"):
                values = [run[name] for run in valid]
                result[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        else:
            result["error"] = "more than a third of the runs are void; the machine is too busy for a result"
        document["sizes"][str(size)] = result
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    for size, result in document["sizes"].items():
        if "error" in result:
            print(f"n = {size}: {result['error']}")
            continue
        ms, share = result["per_node_block_ms"], result["limit_over_core"]
        print(
            f"n = {size}: {ms['median']:.3f} ms per node and block ({ms['min']:.3f} to {ms['max']:.3f}), "
            f"{share['median']:.2f} of it the votes' signatures, {result['void']} void"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
