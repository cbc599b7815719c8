"""Time to up: from exec of `./stratosctl up` to its end, with a committed block and a verified 1 MiB put and get.

The default 14 nodes on a purged folder, as a user gets them: a fresh testnets folder per run, fork and exec spawn
interleaved A B B A, at least five pairs, median with minimum and maximum, wall time taken by this caller. Beside each
pair stands a yardstick of the same seconds: 14 interpreters that do nothing but load all the node's code, started at
once. A calibration loop runs before and after; when it moved more than 15 % the pair is void (but printed),
and more than a third of void pairs is no result. Loopback only.

    python benchmarks/time_to_up.py [--json] [--pairs 5]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stratos.crypto.keys import NodeKey, verify_node

ROOT = Path(__file__).resolve().parent.parent
NODES = 14
MOVED = 0.15
_IMPORT = "import stratos.node; stratos.node.preload()"


def calibration(folder: Path) -> float:
    """Seconds of 2,000 ed25519 verifies, a 64 MiB memcpy and an fdatasync."""
    key = NodeKey.from_seed(b"\5" * 32)
    message, data = b"m" * 32, bytearray(64 << 20)
    signature = key.sign(message)
    began = time.perf_counter()
    for _ in range(2_000):
        assert verify_node(key.public_key, message, signature)
    assert len(bytes(data)) == 64 << 20
    with (folder / "sync").open("wb") as file:
        file.write(data[: 1 << 20])
        file.flush()
        os.fdatasync(file.fileno())
    return time.perf_counter() - began


def inventory(folder: Path, spawn: str) -> Path:
    """The default inventory with the spawn asked for."""
    text = (ROOT / "inventories" / "local.yml").read_text()
    assert "stratos_spawn: fork" in text
    path = folder / f"{spawn}.yml"
    path.write_text(text.replace("stratos_spawn: fork", f"stratos_spawn: {spawn}"))
    return path


def up(folder: Path, spawn: str) -> dict[str, Any]:
    """One `up` on a purged folder; its wall seconds and what it reports. The testnet is gone again after."""
    environment = {**os.environ, "STRATOS_TESTNETS": str(folder / "testnets")}
    source = str(folder / f"{spawn}.yml")
    began = time.perf_counter()
    done = subprocess.run(  # noqa: PLW1510 - its exit code is looked at below
        [str(ROOT / "stratosctl"), "up", "--json", "-i", source],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    seconds = time.perf_counter() - began
    down = [str(ROOT / "stratosctl"), "down", "--purge", "-i", source]
    subprocess.run(down, env=environment, capture_output=True, timeout=120, check=True)
    if done.returncode != 0:
        raise SystemExit(f"up failed: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    assert report["probe"]["verified"], report
    assert sum(report["nodes"].values()) == NODES, report
    return {"seconds": seconds, "phases": report["phases"]}


def imports() -> float:
    """Seconds of 14 interpreters that load the code of every role at once, each for itself, as forking spares."""
    began = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-P", "-c", _IMPORT]) for _ in range(NODES)]
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - began


def pair(folder: Path, number: int) -> dict[str, Any]:
    """One pair, its order alternating, with calibration around it."""
    before = calibration(folder)
    order = ("fork", "exec") if number % 2 == 0 else ("exec", "fork")
    arms = {spawn: up(folder, spawn) for spawn in order}
    floor = imports()
    after = calibration(folder)
    moved = abs(after - before) / before
    return {
        "fork_seconds": round(arms["fork"]["seconds"], 3),
        "exec_seconds": round(arms["exec"]["seconds"], 3),
        "imports_seconds": round(floor, 3),
        "phases": arms["fork"]["phases"],
        "calibration_moved": round(moved, 3),
        "void": moved > MOVED,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum, maximum."""
    return {"median": round(statistics.median(values), 3), "min": min(values), "max": max(values)}


def main() -> int:
    """Run the pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--pairs", type=int, default=5, choices=range(1, 51), metavar="N", help="pairs (default 5)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="time-to-up-"))
    try:
        for spawn in ("fork", "exec"):
            inventory(folder, spawn)
            up(folder, spawn)  # warms the byte-code and page caches, and the inventory's
        pairs = []
        for number in range(options.pairs):
            pairs.append(pair(folder, number))
            if not options.json:
                print(json.dumps(pairs[-1]), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    good = [one for one in pairs if not one["void"]]
    result: dict[str, Any] = {
        "benchmark": "time_to_up",
        "nodes": NODES,
        "goal_seconds": 1.0,
        "first_mark_seconds": 3.0,
        "inventory_cached": True,
        "pairs": pairs,
        "void": len(pairs) - len(good),
    }
    if len(good) * 3 >= len(pairs) * 2 and good:
        for name in ("fork_seconds", "exec_seconds", "imports_seconds"):
            result[name] = spread([one[name] for one in good])
        result["fork_to_imports"] = spread([round(one["fork_seconds"] / one["imports_seconds"], 3) for one in good])
    else:
        result["no_result"] = f"{result['void']} of {len(pairs)} pairs are void: the machine moved too much"
    print(json.dumps(result, indent=2) if options.json else json.dumps({**result, "pairs": len(pairs)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
