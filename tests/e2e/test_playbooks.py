"""The playbooks on machines in containers: converge, predict, survive a kill, keep secrets, leave the machines as found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from orchestrator.image.build import build_image
from orchestrator.image.carry import save_image
from orchestrator.lab import inventory, lab
from orchestrator.lab.folder import LabFolder

sys.path.insert(0, str(Path(__file__).parent))
from playbook_lab import Bundles, Played, play

pytestmark = [pytest.mark.molecule, pytest.mark.docker]
WAIT_SECONDS = 120.0
IMAGE = "stratos-node:playbook-test"
SNAPSHOT = r"""
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'
systemctl list-unit-files --no-legend --no-pager | grep -v '\.scope'
cat /etc/passwd /etc/group
find /etc /usr/local /opt /root /home /srv /var/lib /var/tmp -xdev \( -path /var/lib/docker -o -path /var/lib/containerd \
  -o -path /var/lib/apt -o -path /var/lib/systemd -o -path '/var/lib/dpkg/*' -o -name '*-' \) -prune -o -printf '%p %y %m %u %g %l\n' | sort
iptables-save | sed 's/\[.*\]//; /^#/d'
docker images --no-trunc --quiet; docker ps --all --quiet; docker volume ls --quiet
"""


def silent(_text: str) -> None:
    """Progress is not what is tested."""


class Fleet:
    """Two machines with two nodes each: a validator, a meta node and two resource nodes."""

    def __init__(self, name: str, folder: Path, image_id: str, archive: Path) -> None:
        self.folder = LabFolder(name)
        self.machines = self.folder.need_lab().machines
        document = inventory.fleet_inventory(
            self.folder.need_lab(),
            {"validators": 1, "meta": 1, "resource": 2},
            {"stratos_copies": 2, "stratos_testnet": "played"},
            key_file=self.folder.key_file,
            known_hosts=self.folder.known_hosts,
        )
        self.inventory = folder / "fleet.yml"
        self.inventory.write_bytes(inventory.render(document, comment="a test"))
        self.bundles = Bundles(self.inventory, folder / "bundles", image=IMAGE, image_id=image_id)
        self.archive = archive

    def apply(self, *arguments: str, state: str = "started", playbook: str = "site.yml", kill_at: str = "") -> Played:
        """Engine, image and nodes; the bundles that were rendered last."""
        tags = ["--tags", "engine,image,node"] if playbook == "site.yml" else []
        return play(
            playbook, self.inventory, *tags, *arguments, kill_at=kill_at, stratos_bundles=str(self.bundles.folder),
            stratos_image_archive=str(self.archive), stratos_node_state=state,
        )  # fmt: skip

    def destroy(self, **variables: object) -> Played:
        return play("destroy.yml", self.inventory, stratos_destroy_testnet="played", **variables)

    def ssh(self, command: str) -> list[str]:
        """What a command says as root on each machine."""

        def one(address: str) -> str:
            options = inventory.ssh_options(self.folder.known_hosts).split()
            return subprocess.run(
                ["ssh", "-F", "none", *options, "-i", str(self.folder.key_file), f"admin@{address}", "sudo", "sh", "-s"],
                input=command, capture_output=True, text=True, timeout=120, check=True,
            ).stdout  # fmt: skip

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, [machine.address for machine in self.machines]))

    def run_so_many(self, *counts: int) -> bool:
        """Whether so many containers run on each machine, at the latest after a while: an engine takes its time."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if [len(names.split()) for names in self.ssh("docker ps --quiet")] == list(counts):
                return True
        return False

    def secrets(self) -> list[str]:
        """The secret of every key file of the plan, as it stands there."""
        nodes = self.bundles.outcome.ring.nodes.values()
        return [text for node in nodes for text in (node.node_seed, node.owner_secret)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Machines, or a printed reason."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers: {error}")
    folder = tmp_path_factory.mktemp("fleet")
    name = f"play-{os.getpid()}"
    os.environ["STRATOS_TESTNETS"] = str(folder)
    try:
        image_id = build_image(client, image=IMAGE, say=silent).image_id
        save_image(client, IMAGE, folder / "image.tar", say=silent)
        lab.create(name, machines=2, say=silent)
        yield Fleet(name, folder, image_id, folder / "image.tar")
    finally:
        lab.destroy(name)
        del os.environ["STRATOS_TESTNETS"]
        client.close()


@pytest.fixture(autouse=True)
def bare(fleet: Fleet) -> Iterator[None]:
    """Every test begins on machines without our testnet, with the same bundles."""
    fleet.bundles.render()
    yield
    assert fleet.destroy().code == 0


def test_a_second_run_changes_nothing_and_a_change_touches_one_node(fleet: Fleet) -> None:
    """Predicted by check mode, restarted alone; a removed node goes alone."""
    first = fleet.apply()
    assert first.code == 0, first.output
    assert fleet.run_so_many(2, 2)
    assert set(fleet.apply().changed.values()) == {0}
    ids = fleet.ssh("docker ps --no-trunc --format '{{.Names}} {{.ID}}' | sort")

    fleet.bundles.render(changed=("meta1",))
    predicted = fleet.apply("--check", "--diff", state="restarted", playbook="node.yml")
    assert "meta1: config.json\nmeta1: digest\nmeta1: restarted\n" in predicted.output
    assert fleet.ssh("docker ps --no-trunc --format '{{.Names}} {{.ID}}' | sort") == ids
    done = fleet.apply(state="restarted", playbook="node.yml")
    assert done.changed == predicted.changed
    assert fleet.run_so_many(2, 2)
    after = fleet.ssh("docker ps --no-trunc --format '{{.Names}} {{.ID}}' | sort")
    lines = zip("".join(ids).splitlines(), "".join(after).splitlines(), strict=True)
    assert [new.split()[0] for old, new in lines if old != new] == ["stratos-played-meta1"]

    fleet.bundles.render(changed=("meta1",), without=("resource2",))
    gone = fleet.apply(state="restarted", playbook="node.yml")
    assert sorted(gone.changed.values()) == [0, 1]
    assert fleet.run_so_many(2, 1)
    assert "resource2" not in "".join(fleet.ssh("ls /var/lib/stratos/played /etc/systemd/system /etc/stratos/played"))


@pytest.mark.parametrize("moment", ["Image of the nodes present", "Nodes as the bundle says"])
def test_a_run_that_was_killed_is_finished_by_the_same_run(fleet: Fleet, moment: str) -> None:
    """Without warning, at the copy of the image and at the placing of nodes."""
    killed = fleet.apply(kill_at=moment)
    assert killed.code == -9
    again = fleet.apply()
    assert again.code == 0, again.output
    assert fleet.run_so_many(2, 2)
    assert set(fleet.apply().changed.values()) == {0}
    assert "stratos-image" not in "".join(fleet.ssh("find /home /root /tmp /var/tmp -name 'stratos-image*' -mmin +1"))


def test_machines_are_as_found_when_the_testnet_is_gone(fleet: Fleet) -> None:
    """Packages, units, users, files, rules, images, containers and volumes."""
    before = fleet.ssh(SNAPSHOT)
    assert fleet.apply().code == 0
    assert fleet.ssh(SNAPSHOT) != before
    kept = fleet.destroy(stratos_keep_data=True)
    assert kept.code == 0, kept.output
    assert all("/node.key" in said for said in fleet.ssh("ls /var/lib/stratos/played/*/node.key"))
    assert fleet.destroy().code == 0
    after = fleet.ssh(SNAPSHOT)
    for one, other in zip(before, after, strict=True):
        assert set(other.splitlines()) ^ set(one.splitlines()) == set()


def test_no_secret_is_printed_or_left_lying_about(fleet: Fleet) -> None:
    """Not with all verbosity, not in the journal, not in a temporary file; homes are closed."""
    loud = fleet.apply("-vvvv", "--diff", state="placed")
    assert loud.code == 0
    secrets = fleet.secrets()
    assert len(secrets) == 8
    assert not [secret for secret in secrets if secret in loud.output]
    said = "".join(fleet.ssh("journalctl --no-pager; find /tmp /var/tmp /home /root -type f | xargs -r cat"))
    assert not [secret for secret in secrets if secret in said]
    modes = "".join(fleet.ssh("find /var/lib/stratos/played -mindepth 1 -printf '%y %m %U %G\n' | sort -u"))
    assert set(modes.splitlines()) == {"d 700 10001 10001", "f 600 10001 10001"}
