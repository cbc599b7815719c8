"""The whole life of a fleet on seven machines, and an eighth: as a coordinator would live it, with traffic all the while.

One story rather than many tests, because each chapter needs the fleet of the one before and a fleet takes a minute. The
machines are containers with systemd, sshd and an engine of their own; nothing of the fleet's is faked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import yaml
from docker.errors import DockerException

sys.path.insert(0, str(Path(__file__).parent))
from traffic import Traffic
from up_driver import Tool, eventually

from orchestrator import __version__
from orchestrator.demo.observing import count_copies
from orchestrator.plan.keys import USER
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.topology.topology import read_topology
from stratos.client.blocking import Client
from stratos.client.errors import ClientError
from stratos.client.observer import Observer
from stratos.client.testnet import load_testnet

pytestmark = [pytest.mark.molecule, pytest.mark.docker, pytest.mark.ci]

COPIES = 3
LAB_SECONDS = 900
OLD_IMAGE = "fleet-test-old"
FILE_BYTES = 300_000
PACE = {
    "stratos_copies": COPIES,
    "stratos_block_seconds": 1,
    "stratos_meta_block_seconds": 1,
    "stratos_epoch_seconds": 20,
    "stratos_day_seconds": 600,
    "stratos_status_seconds": 3,
    "stratos_suspend_offline_seconds": 600,
    "stratos_hardware_factor": 0.001,
    "stratos_ready_seconds": 300,
    "stratos_image": f"stratos-node:{OLD_IMAGE}",
}


class Fleet(Tool):
    """A testnet on the machines of a lab, both in one folder of the test's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.name = f"fleet{os.getpid()}"

    def call(self, *words: str, code: int = 0) -> str:
        """Run a command that takes no inventory; its output."""
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main", *words]
        done = subprocess.run(
            program, env=self.environment, capture_output=True, text=True, timeout=LAB_SECONDS, check=False
        )
        assert done.returncode == code, f"{words}: {done.stderr[-3000:]}"
        return done.stdout

    def lab(self, verb: str, *words: str) -> str:
        """A command about the machines."""
        return self.call("lab", verb, self.name, *words)

    def deal(self, machines: int) -> None:
        """Make so many machines, and an inventory with four validators, four meta and six resource nodes on them."""
        self.lab("create", "--machines", str(machines), "--prepared")
        settings = [word for name, value in PACE.items() for word in ("--set", f"{name}={value}")]
        counts = ["--validators", "4", "--meta", "4", "--resource", "6"]
        self.lab("inventory", *counts, "--set", f"stratos_testnet={self.name}", *settings, "-o", str(self.inventory))

    def grow(self, machine: int, node: str) -> None:
        """One more machine, and one more resource node that has it to itself."""
        self.lab("create", "--machines", str(machine), "--prepared")
        hosts = json.loads(self.lab("inventory", "--json"))["all"]["hosts"]
        inventory = yaml.safe_load(self.inventory.read_text())
        inventory["all"]["children"]["resource"]["hosts"][node] = hosts[f"machine{machine}"]
        self.write(yaml.safe_dump(inventory))

    def address(self, machine: int) -> str:
        """The address of a machine, which is its name in a topology."""
        found = json.loads(self.lab("show", "--json"))["machines"]
        return str(next(one["address"] for one in found if one["name"] == f"machine{machine}"))

    def on(self, machine: int, command: str) -> str:
        """What a shell command says on a machine."""
        return self.lab("ssh", f"machine{machine}", command)

    @property
    def folder(self) -> Path:
        """The testnet's folder."""
        return self.root / self.name


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet's folder; whatever happens, its machines and images are gone afterwards."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers, so there are no machines: {error}")
    made = Fleet(tmp_path)
    try:
        yield made
    finally:
        made.lab("destroy")
        for image in client.images.list(name=f"stratos-node:{OLD_IMAGE}"):
            client.images.remove(image.id, force=True)
        client.close()


def proven_copies(fleet: Fleet) -> int:
    """The fewest copies of any slice of the user's files that holders proved, just now, to have; 0 while nobody can say."""
    testnet = load_testnet(fleet.folder)
    observer = Observer(testnet.genesis, testnet.endpoints)
    try:
        return count_copies(observer, (TestnetFolder(fleet.folder).ring().wallet_key(USER).address,)).least
    except ClientError:
        return 0
    finally:
        observer.close()


@pytest.mark.timeout(1500)
def test_the_life_of_a_fleet(fleet: Fleet) -> None:
    """Up, upload, a dead host repaired around and named, one host added, all upgraded under traffic, down, nothing left."""
    fleet.call("image", "build", "--tag", OLD_IMAGE, "--rules-up-to", "1")
    fleet.call("image", "build")
    fleet.deal(7)

    first = fleet.json("up")
    assert first["quarantined"] == {} and first["changed"] == 14 and first["probe"]["copies"] == COPIES
    again = fleet.json("up")
    assert (again["changed"], again["started"]) == (0, 0)

    data = os.urandom(2_000_000)
    with Client.from_testnet(fleet.folder, wallet=USER, ledger_dir=fleet.folder / "ledger") as client:
        handle = client.put(data, name="kept").handle

    assert fleet.json("node", "pause", "resource2")["changed"] == ["resource2"]
    assert {n["name"]: n["state"] for n in fleet.json("status")["nodes"]}["resource2"] == "paused"
    assert fleet.json("node", "unpause", "resource2")["changed"] == ["resource2"]
    assert len(fleet.json("node", "stats")["nodes"]) == 14

    lost = {node.name for node in read_topology(fleet.inventory).nodes if node.machine == fleet.address(7)}
    fleet.lab("kill", "machine7")
    eventually(lambda: proven_copies(fleet) >= COPIES, seconds=300)
    without = fleet.run("up", "--json")
    assert without.returncode == 4, without.stderr
    told = json.loads(without.stdout)["quarantined"]
    assert set(told) == lost and all(fleet.address(7) in sentence for sentence in told.values())
    fleet.lab("start", "machine7")
    eventually(lambda: all(node["health"] == "ok" for node in fleet.json("status")["nodes"]), seconds=300)

    fleet.grow(8, "resource7")
    planned = fleet.json("plan")
    assert [node["name"] for node in planned["differences"] if node["kind"] != "unchanged"] == ["resource7"]
    touched = [host for host in planned["hosts"] if host["change"] != "unchanged"]
    assert [(host["change"], host["starts"], host["restarts"]) for host in touched] == [("new", ["resource7"], [])]
    added = fleet.json("up")
    assert (added["changed"], added["started"], added["quarantined"]) == (1, 1, {})

    with Traffic(fleet.folder, (FILE_BYTES, FILE_BYTES), pause_seconds=0.3) as traffic:
        upgraded = fleet.json("upgrade", "--image", __version__, "--rules", "2")
    assert upgraded["upgrade"]["changed"] == 15
    assert traffic.failures == []
    assert traffic.puts > 10 and traffic.gets > 10
    assert fleet.json("upgrade", "--image", __version__)["upgrade"]["changed"] == 0
    with Client.from_testnet(fleet.folder, wallet=USER, ledger_dir=fleet.folder / "ledger") as client:
        assert client.read(handle) == data

    fleet.json("down", "--purge")
    for machine in range(1, 9):
        left = fleet.on(
            machine,
            "sudo sh -c 'docker ps -aq; docker images -q; ls -d /var/lib/stratos /etc/stratos 2>/dev/null; "
            "ls /etc/systemd/system | grep stratos; getent passwd stratos; nft list tables | grep stratos; true'",
        )
        assert left.strip() == "", f"machine{machine} still has: {left}"
    assert not fleet.folder.exists()
