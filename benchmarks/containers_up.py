"""Containers: 14 default nodes ready, against 14 bare containers that only run `true`, of the same image on the same engine.

Ours is wall time from exec of `./stratosctl up -i inventories/docker.yml` on a purged testnet to the moment all 14 nodes are ready (blocks
advance, the meta layer orders, every resource node is active), as `up` reports it, and to its end with a verified 1 MiB put and get. The
peer is 14 `docker run --rm IMAGE true` started at once, until the last has ended. The image is there before either starts. Arms are
interleaved A B B A, at least five pairs, median with minimum and maximum; a calibration loop runs before and after each pair, and when
it moved more than 15 % the pair is void (but printed); more than a third of void pairs is no result.

    python benchmarks/containers_up.py [--json] [--pairs 5]
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

sys.path.insert(0, str(Path(__file__).resolve().parent))

from time_to_up import MOVED, NODES, ROOT, calibration, spread

NAME = f"bench{os.getpid()}"


def inventory(folder: Path) -> Path:
    """The committed inventory of containers, under a name of this run's own."""
    path = folder / f"{NAME}.yml"
    path.write_text((ROOT / "inventories" / "docker.yml").read_text())
    return path


def stratosctl(folder: Path, *words: str) -> dict[str, Any]:
    """What a command prints as JSON; SystemExit with its sentence when it fails."""
    done = subprocess.run(
        [str(ROOT / "stratosctl"), *words, "--json"],
        env={**os.environ, "STRATOS_TESTNETS": str(folder / "testnets")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words[:2])} failed: {done.stderr.strip()}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def nodes(folder: Path) -> dict[str, Any]:
    """One `up` and the purge after it: seconds to ready and to the verified end, seconds of the second `up`, phases."""
    source = str(folder / f"{NAME}.yml")
    try:
        began = time.perf_counter()
        report = stratosctl(folder, "up", "-i", source)
        whole = time.perf_counter() - began
        began = time.perf_counter()
        again = stratosctl(folder, "up", "-i", source)
        second = time.perf_counter() - began
    finally:
        stratosctl(folder, "down", "--purge", "-i", source)
    assert report["probe"]["verified"], report
    assert sum(report["nodes"].values()) == NODES, report
    assert again["changed"] == 0, again
    return {"ready": report["phases"]["ready"], "whole": whole, "second": second, "phases": report["phases"]}


def bare(image: str) -> float:
    """Seconds of 14 containers that run `true`, started at once."""
    began = time.perf_counter()
    command = ["docker", "run", "--rm", image, "true"]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(NODES)]
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - began


def pair(folder: Path, image: str, number: int) -> dict[str, Any]:
    """One pair, its order alternating, with calibration around it."""
    before = calibration(folder)
    if number % 2 == 0:
        ours = nodes(folder)
        floor = bare(image)
    else:
        floor = bare(image)
        ours = nodes(folder)
    moved = abs(calibration(folder) - before) / before
    return {
        "ready_seconds": round(ours["ready"], 3),
        "verified_seconds": round(ours["whole"], 3),
        "second_up_seconds": round(ours["second"], 3),
        "bare_seconds": round(floor, 3),
        "phases": ours["phases"],
        "load_1min": round(os.getloadavg()[0], 1),
        "calibration_moved": round(moved, 3),
        "void": moved > MOVED,
    }


def main() -> int:
    """Run the pairs and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--pairs", type=int, default=5, choices=range(1, 51), metavar="N", help="pairs (default 5)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="containers-up-"))
    try:
        image = str(stratosctl(folder, "image", "build")["image"])
        inventory(folder)
        bare(image)  # warms the engine's caches
        pairs = []
        for number in range(options.pairs):
            pairs.append(pair(folder, image, number))
            if not options.json:
                print(json.dumps(pairs[-1]), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    good = [one for one in pairs if not one["void"]]
    result: dict[str, Any] = {
        "benchmark": "containers_up",
        "nodes": NODES,
        "goal_ready_to_bare": 2.0,
        "pairs": pairs,
        "void": len(pairs) - len(good),
    }
    if len(good) * 3 >= len(pairs) * 2 and good:
        for name in ("ready_seconds", "verified_seconds", "second_up_seconds", "bare_seconds"):
            result[name] = spread([one[name] for one in good])
        result["ready_to_bare"] = spread([round(one["ready_seconds"] / one["bare_seconds"], 3) for one in good])
    else:
        result["no_result"] = f"{result['void']} of {len(pairs)} pairs are void: the machine moved too much"
        ratios = [one["ready_seconds"] / one["bare_seconds"] for one in pairs]
        result["void_ready_to_bare"] = round(statistics.median(ratios), 3)
    print(json.dumps(result, indent=2) if options.json else json.dumps({**result, "pairs": len(pairs)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
