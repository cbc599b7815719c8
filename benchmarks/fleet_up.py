"""Machines: the 14 default nodes on N machines by SSH, against an ordinary five-task playbook on the same machines.

The machines are a lab's (systemd, sshd and an engine each), prepared: distribution packages and the nodes' image are there. What is
measured, in wall time of the caller:

- *set up*: `up` where the machines are set up already and nothing of the nodes is there (their homes and units were removed), the
  plain playbook's own preconditions: place everything, start, wait until all nodes are ready, put and get 1 MiB verified. The goal is
  at most 0.4 of the plain playbook, which places a config and a unit that sleeps (`fleet_plain.yml`; with our `ansible.cfg`: pipelining, 20
  forks, no facts). Interleaved A B B A, at least five pairs for a claim, median with minimum and maximum.
- *second run*: `up` again, which must change 0; *first up*: on machines that never saw us, once, with the number of host-tasks; *one host
  added*: a resource node on a machine of its own, registered and active; the plain playbook with Ansible's own defaults, once.

Calibration runs before and after each pair; when it moved more than 15 % the pair is void (but printed), and more than a third of
void pairs is no result. The lab is made for the run and destroyed after it, unless --lab names one that is there.

    python benchmarks/fleet_up.py [--json] [--machines 13] [--pairs 5] [--lab NAME] [--no-growth]
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from time_to_up import MOVED, NODES, ROOT, calibration, spread

NODES_BY_GROUP = ("--validators", "4", "--meta", "4", "--resource", "6")
GOAL = 0.4
PLAIN_TASKS = 5
SETTINGS = {
    "stratos_runtime": "machines",
    "stratos_preflight": "off",  # it measures disks and networks for seconds, on purpose; not what is compared
    "stratos_block_seconds": 1,
    "stratos_meta_block_seconds": 1,
    "stratos_epoch_seconds": 60,
    "stratos_day_seconds": 600,
    "stratos_mature_epoch": 10,
    "stratos_status_seconds": 5,
    "stratos_disk": "1 GiB",
    "stratos_ready_seconds": 180,
}
PLAIN_WIPE = "systemctl stop 'plain-*'; rm -rf /var/lib/plain /etc/systemd/system/plain-* /etc/systemd/system/*/plain-*; systemctl daemon-reload"


class Bench:
    """One lab, its inventory and the commands on it."""

    def __init__(self, folder: Path, lab: str) -> None:
        self.folder = folder
        self.lab = lab
        self.testnet = f"fleet{os.getpid()}"
        self.inventory = folder / f"{self.testnet}.yml"
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        self.ours = {**self.environment, "STRATOS_TESTNETS": str(folder / "testnets")}

    def tool(self, *words: str, ours: bool = True, json_out: bool = True) -> Any:
        """What a command prints as JSON; SystemExit with its sentence when it fails."""
        command = [str(ROOT / "stratosctl"), *words, *(("--json",) if json_out else ())]
        environment = self.ours if ours else self.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words[:2])} failed: {done.stderr.strip()} {done.stdout[-500:]}")
        return json.loads(done.stdout) if json_out else done.stdout

    def make_lab(self, machines: int, image_file: Path) -> None:
        """The lab with as many machines, whose engines hold the image."""
        words = ("--machines", str(machines), "--prepared", "--seed-image", str(image_file))
        self.tool("lab", "create", self.lab, *words, ours=False)

    def write_inventory(self, image: str, machines: int, *, extra: int = 0) -> dict[str, Any]:
        """The default nodes dealt out to the first machines; `extra` more resource nodes on one machine each."""
        text = self.tool("lab", "inventory", self.lab, *NODES_BY_GROUP, ours=False, json_out=False)
        document: dict[str, Any] = yaml.safe_load(text)
        listed = self.tool("lab", "show", self.lab, ours=False)["machines"]
        addresses = [machine["address"] for machine in listed]
        turn = 0
        for group in document["all"]["children"].values():
            for host in group["hosts"].values():
                host["ansible_host"] = addresses[turn % machines]
                turn += 1
        hosts = document["all"]["children"]["resource"]["hosts"]
        for number in range(extra):
            hosts[f"resource{7 + number}"] = {**hosts["resource1"], "ansible_host": addresses[machines + number]}
        document["all"]["vars"] = {**SETTINGS, "stratos_testnet": self.testnet, "stratos_image": image}
        self.inventory.write_text(yaml.safe_dump(document))
        return document

    def leaders(self, machines: int) -> list[str]:
        """One inventory name per machine."""
        document = yaml.safe_load(self.inventory.read_text())
        names = [name for group in document["all"]["children"].values() for name in group["hosts"]]
        return names[:machines]

    def up(self) -> dict[str, Any]:
        """One `up`: wall seconds and its report."""
        began = time.perf_counter()
        report = self.tool("up", "-i", str(self.inventory))
        return {"seconds": time.perf_counter() - began, "report": report}

    def everywhere(self, command: str) -> None:
        """Run a command as root on every machine."""
        words = ["ansible", "all", "-i", str(self.inventory), "-b", "-m", "raw", "-a", command]
        environment = {**self.environment, "ANSIBLE_CONFIG": str(ROOT / "playbooks" / "ansible.cfg")}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command} failed: {done.stdout[-500:]}")

    def wipe_nodes(self) -> None:
        """Stop the nodes and remove their homes and units; the machines stay set up."""
        self.tool("down", "-i", str(self.inventory), json_out=False)
        name = self.testnet
        self.everywhere(
            f"rm -rf /var/lib/stratos/{name}/* /etc/systemd/system/stratos-{name}-* /etc/systemd/system/*/stratos-{name}-* "
            f"/etc/stratos/{name}/*.digest; systemctl daemon-reload; systemctl reset-failed"
        )

    def plain(self, machines: int, *, defaults: bool = False) -> float:
        """Seconds of the plain playbook on hosts where nothing of it is; `defaults`: as Ansible comes, facts gathered."""
        self.everywhere(PLAIN_WIPE)
        extra = {"stamp": str(time.time_ns()), "plain_facts": defaults}
        words = ["ansible-playbook", "-i", str(self.inventory), "--limit", ",".join(self.leaders(machines))]
        words += ["-e", json.dumps(extra), str(ROOT / "benchmarks" / "fleet_plain.yml")]
        environment = dict(self.environment)
        config = self.folder / "empty.cfg"
        config.write_text("[defaults]\n")
        environment["ANSIBLE_CONFIG"] = str(config if defaults else ROOT / "playbooks" / "ansible.cfg")
        began = time.perf_counter()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"the plain playbook failed: {done.stdout[-800:]}")
        return seconds

    def host_tasks(self) -> int:
        """Tasks that hosts ran in the last playbook of ours."""
        texts = [path.read_text() for path in (self.folder / "testnets" / self.testnet / "ansible").rglob("stdout")]
        return sum(int(count) for text in texts for count in re.findall(r"\bok=(\d+)", text))

    def ssh_gone(self) -> None:
        """End Ansible's kept connections, so that no arm inherits the other's."""
        for socket in Path.home().glob(".ansible/cp/*"):
            subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "x"], capture_output=True, check=False)


def pair(bench: Bench, machines: int, number: int) -> dict[str, Any]:
    """One pair, its order alternating, with calibration around it."""
    bench.wipe_nodes()
    bench.ssh_gone()
    before = calibration(bench.folder)
    plain = 0.0
    if number % 2:
        plain = bench.plain(machines)
        bench.ssh_gone()
    ours = bench.up()
    again = bench.up()
    if not number % 2:
        plain = bench.plain(machines)
    moved = abs(calibration(bench.folder) - before) / before
    report = ours["report"]
    assert report["probe"]["verified"], report
    assert report["started"] == NODES and sum(report["nodes"].values()) == NODES, report
    assert again["report"]["changed"] == 0, again
    return {
        "up_seconds": round(ours["seconds"], 3),
        "plain_seconds": round(plain, 3),
        "ratio": round(ours["seconds"] / plain, 3),
        "placed_seconds": round(report["phases"]["placed"] - report["phases"]["plan"], 3),
        "second_up_seconds": round(again["seconds"], 3),
        "second_ratio": round(again["seconds"] / plain, 3),
        "phases": report["phases"],
        "load_1min": round(os.getloadavg()[0], 1),
        "calibration_moved": round(moved, 3),
        "void": moved > MOVED,
    }


def once(what: str, report: dict[str, Any], plain: float) -> dict[str, Any]:
    """A figure that is taken once."""
    seconds = report["seconds"]
    phases = report["report"]["phases"]
    return {"what": what, "seconds": round(seconds, 3), "to_plain": round(seconds / plain, 3), "phases": phases}


def grown(bench: Bench, machines: int, image: str, image_file: Path, plain: float) -> dict[str, Any]:
    """One machine with one resource node more."""
    bench.make_lab(machines + 1, image_file)
    bench.write_inventory(image, machines, extra=1)
    bench.ssh_gone()
    added = bench.up()
    assert added["report"]["changed"] == 1, added
    return once("one host added", added, plain)


def measure(bench: Bench, options: argparse.Namespace, image: str, image_file: Path) -> dict[str, Any]:
    """All of it on a lab that is there."""
    bench.write_inventory(image, options.machines)
    bench.ssh_gone()
    single = []
    plain = bench.plain(options.machines)  # warms caches, and is what single figures are set against
    bench.ssh_gone()
    first = bench.up()
    tasks = bench.host_tasks()
    single.append({**once("first up", first, plain), "host_tasks": tasks})
    pairs = []
    for number in range(options.pairs):
        pairs.append(pair(bench, options.machines, number))
        print(json.dumps(pairs[-1]), file=sys.stderr, flush=True)
    defaults = bench.plain(options.machines, defaults=True)
    if not options.no_growth:
        single.append(grown(bench, options.machines, image, image_file, plain))
    good = [one for one in pairs if not one["void"]]
    result: dict[str, Any] = {
        "benchmark": "fleet_up",
        "machines": options.machines,
        "nodes": NODES,
        "goal_up_to_plain": GOAL,
        "plain_defaults_seconds": round(defaults, 3),
        "once": single,
        "pairs": pairs,
        "void": len(pairs) - len(good),
    }
    if len(good) * 3 >= len(pairs) * 2 and good:
        for name in ("up_seconds", "plain_seconds", "placed_seconds", "second_up_seconds", "second_ratio", "ratio"):
            result[name] = spread([one[name] for one in good])
        host_tasks = options.machines * PLAIN_TASKS
        result["plain_seconds_per_host_task"] = spread([round(one["plain_seconds"] / host_tasks, 4) for one in good])
        result["placed_seconds_per_host"] = spread([round(one["placed_seconds"] / options.machines, 4) for one in good])
    else:
        result["no_result"] = f"{result['void']} of {len(pairs)} pairs are void: the machine moved too much"
        result["void_ratio"] = spread([one["ratio"] for one in pairs]) if pairs else {}
    return result


def main() -> int:
    """Make the machines, measure, print, and leave nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--pairs", type=int, default=5, choices=range(51), metavar="N", help="pairs (default 5)")
    parser.add_argument("--machines", type=int, default=13, choices=range(1, 15), metavar="N", help="default 13")
    parser.add_argument("--lab", default="", help="a lab that is there with the image in its engines; it stays")
    parser.add_argument("--image", default="", help="an image that is there (default: this version's, built)")
    parser.add_argument("--no-growth", action="store_true", help="do not add a machine")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fleet-up-"))
    bench = Bench(folder, options.lab or f"bench{os.getpid()}")
    try:
        image = options.image or str(bench.tool("image", "build")["image"])
        image_file = folder / "image.tar"
        if not options.lab or not options.no_growth:
            bench.tool("image", "save", image, "-o", str(image_file))
        if not options.lab:
            bench.make_lab(options.machines, image_file)
        result = measure(bench, options, image, image_file)
        bench.everywhere(PLAIN_WIPE + "; userdel plain")
        if options.lab:
            bench.tool("down", "--purge", "-i", str(bench.inventory), json_out=False)
    finally:
        if not options.lab:
            bench.tool("lab", "destroy", bench.lab, ours=False)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result if options.json else {**result, "pairs": len(result["pairs"])}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
