"""What an idle node weighs: proportional set size (PSS) of each of the default 14 nodes, forked and exec'd.

PSS counts a page shared by n processes as 1/n, so the forked nodes' figures add up to what the testnet really takes. Each
testnet is raised with its verified put and get, left alone until its nodes have used no more than 2 % of a processor in
five seconds, then read from /proc. Loopback only; nothing is timed.

    python benchmarks/idle_memory.py [--json]
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from storage_net import show
from time_to_up import ROOT, inventory

LIMIT_MIB = 60
WINDOW_SECONDS = 5.0
QUIET_SHARE = 0.02
DEADLINE_SECONDS = 120.0


def main() -> None:
    """Measure both ways of starting nodes and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true")
    as_json = options.parse_args().json
    with tempfile.TemporaryDirectory(prefix="idle-memory-") as scratch:
        arms = {spawn: weigh(Path(scratch), spawn) for spawn in ("fork", "exec")}
    show({"benchmark": "idle_memory", "limit_mib": LIMIT_MIB, **arms}, as_json=as_json)


def weigh(folder: Path, spawn: str) -> dict[str, object]:
    """MiB by role (median is not enough: the largest node counts), and of all nodes with their parent."""
    source = inventory(folder, spawn)
    environment = {**os.environ, "STRATOS_TESTNETS": str(folder / spawn)}

    def run(command: str, *more: str) -> str:
        line = [str(ROOT / "stratosctl"), command, "-i", str(source), *more]
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=180, check=True).stdout

    up = json.loads(run("up", "--json"))
    try:
        nodes = {node["name"]: node for node in json.loads(run("status", "--json"))["nodes"]}
        pids = {name: int(node["pid"]) for name, node in nodes.items()}
        wait_idle(list(pids.values()))
        weights = {name: pss_mib(pid) for name, pid in pids.items()}
    finally:
        run("down", "--purge")
    roles = sorted({node["role"] for node in nodes.values()})
    largest = {role: max(weights[name] for name, node in nodes.items() if node["role"] == role) for role in roles}
    return {
        "nodes": sum(up["nodes"].values()),
        "largest_mib": largest,
        "all_nodes_mib": round(sum(weights.values()), 1),
        "within_limit": max(weights.values()) <= LIMIT_MIB,
    }


def wait_idle(pids: list[int]) -> None:
    """Until the nodes together have hardly worked for a while."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        before = sum(map(cpu_seconds, pids))
        time.sleep(WINDOW_SECONDS)
        if sum(map(cpu_seconds, pids)) - before <= QUIET_SHARE * len(pids) * WINDOW_SECONDS:
            return
    raise SystemExit(f"the nodes were not idle within {DEADLINE_SECONDS:.0f} s; look at `stratosctl status`")


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> float:
    """Proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise SystemExit(f"the kernel does not tell the memory of process {pid}")


if __name__ == "__main__":
    main()
