"""A testnet in containers gets another image and other rules while clients use it, whatever goes wrong on the way."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from traffic import Traffic
from up_driver import COMMAND_SECONDS, Tool, eventually

from orchestrator.errors import BadInput, PartialFailure, StratosctlError
from orchestrator.image.engine import engine
from orchestrator.node_status import request
from orchestrator.runtimes.containers import NODE_LABEL, TESTNET_LABEL
from orchestrator.testnet.folder import TestnetFolder

pytestmark = pytest.mark.docker

INVENTORY = """
all:
  vars:
    ansible_connection: local
    stratos_testnet: {name}
    stratos_runtime: docker
    stratos_image: stratos-node:{name}-old
    stratos_copies: 3
    stratos_block_seconds: 0.5
    stratos_meta_block_seconds: 0.5
    stratos_status_seconds: 1
    stratos_suspend_offline_seconds: 60
    stratos_upgrade_notice_blocks: 5
    stratos_drain_seconds: 90
    stratos_metrics_ports: true
  children:
    validators: {{hosts: {{"v[1:4]": }}}}
    meta: {{hosts: {{"m[1:4]": }}}}
    resource: {{hosts: {{"r[1:{resource}]": }}}}
"""
BROKEN = b"#!/bin/sh\necho 'this program is broken'\nexit 3\n"


class Fleet:
    """The testnet of this test, its tool and three images: old rules, new rules, and one that cannot start."""

    def __init__(self, folder: Path, client: Any) -> None:
        self.name = f"roll{os.getpid()}"
        self.client = client
        self.tool = Tool(folder)
        self.write(resource=5)

    def write(self, *, resource: int) -> None:
        self.tool.write(INVENTORY.format(name=self.name, resource=resource))

    def build(self, tag: str, *options: str) -> None:
        """`image build` with a tag of ours."""
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "image", "build", "--tag", f"{self.name}-{tag}"]
        done = subprocess.run(
            [*program, *options], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
        assert done.returncode == 0, done.stderr

    def break_image(self) -> None:
        """An image like the new one whose program says that it is broken and ends."""
        container = self.client.containers.create(f"stratos-node:{self.name}-new")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo("stratosd")
            entry.size, entry.mode = len(BROKEN), 0o755
            archive.addfile(entry, io.BytesIO(BROKEN))
        container.put_archive("/usr/local/bin", packed.getvalue())
        container.commit(repository="stratos-node", tag=f"{self.name}-broken")
        container.remove()

    def images(self) -> dict[str, str]:
        """Which of our images each node's container has."""
        tags = {self.client.images.get(f"stratos-node:{self.name}-{tag}").id: tag for tag in ("old", "new", "broken")}
        mine = {"label": [f"{TESTNET_LABEL}={self.name}", NODE_LABEL]}
        found = self.client.containers.list(all=True, filters=mine, ignore_removed=True)
        return {one.labels[NODE_LABEL]: tags[one.attrs["Image"]] for one in found}

    def run_until(self, tag: str, count: int, *arguments: str) -> None:
        """Run a subcommand and SIGKILL it as soon as so many containers have that image, in the middle of their batch."""
        with subprocess.Popen(
            self.tool.command(*arguments),
            env=self.tool.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            eventually(lambda: list(self.images().values()).count(tag) >= count or process.poll() is not None)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL

    def rules(self) -> int:
        """Version of the rules in force."""
        return int(self.validator("v1")["details"]["rules_version"])

    def validator(self, name: str) -> dict[str, Any]:
        return next(node for node in self.tool.json("status")["nodes"] if node["name"] == name)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Images made, nothing up; nothing left at the end."""
    try:
        client = engine()
    except StratosctlError as error:
        pytest.skip(str(error))
    fleet = Fleet(tmp_path, client)
    try:
        fleet.build("old", "--rules-up-to", "1")
        fleet.build("new")
        fleet.break_image()
        yield fleet
    finally:
        fleet.tool.run("down", "--purge")
        for tag in ("broken", "new", "old"):
            client.images.remove(f"stratos-node:{fleet.name}-{tag}", force=True)
        client.close()


def test_images_and_rules_change_under_traffic_and_a_node_leaves(fleet: Fleet) -> None:
    """Killed and finished by the same command, without one failed put or get; nothing to do the second time; no way back behind
    the rules in force; a broken image stops at its first batch and is taken back; and a holder is drained at last."""
    new = ("upgrade", "--image", f"{fleet.name}-new")
    fleet.tool.json("up")
    assert set(fleet.images().values()) == {"old"}
    assert fleet.rules() == 1
    _metrics_are_for_operators(fleet)
    with Traffic(fleet.tool.root / fleet.name, (300, 200_000, 4 << 20)) as traffic:
        eventually(traffic.moved_on())
        fleet.run_until("new", 2, *new)
        eventually(traffic.moved_on())
        upgraded = fleet.tool.json(*new, "--rules", "2")
        assert 10 <= upgraded["upgrade"]["changed"] <= 13
        assert set(fleet.images().values()) == {"new"}
        for batch in upgraded["upgrade"]["batches"]:
            assert len(batch["names"]) == (2 if batch["role"] == "resource" else 1) or batch["names"] == ["r5"]
        back = fleet.tool.run("upgrade", "--rollback")
        assert (back.returncode, "knows rules up to version 1" in back.stderr) == (BadInput.exit_code, True), (
            back.stderr
        )
        eventually(lambda: fleet.rules() == 2)
        again = fleet.tool.json(*new, "--rules", "2")
        assert (again["upgrade"]["changed"], again["rules"]["changed"], again["rules"]["in_force"]) == (0, False, True)
        back = fleet.tool.run("upgrade", "--rollback")
        assert (back.returncode, "the chain follows version 2" in back.stderr) == (BadInput.exit_code, True), (
            back.stderr
        )

        stopped = fleet.tool.run("upgrade", "--image", f"{fleet.name}-broken")
        assert stopped.returncode == PartialFailure.exit_code, stopped.stderr
        broken = [name for name, image in fleet.images().items() if image == "broken"]
        assert len(broken) == 1 and broken[0].startswith("v")
        assert f"stopped at {broken[0]}" in stopped.stderr and "this program is broken" in stopped.stderr
        stubborn = fleet.tool.run("upgrade", "--image", f"{fleet.name}-broken")
        assert (stubborn.returncode, f"{broken[0]} does not stay up" in stubborn.stderr) == (
            PartialFailure.exit_code,
            True,
        )
        assert list(fleet.images().values()).count("broken") == 1
        healed = fleet.tool.json("upgrade", "--rollback")
        assert [batch["names"] for batch in healed["upgrade"]["batches"]] == [broken]
        assert set(fleet.images().values()) == {"new"}
        eventually(traffic.moved_on())
        assert fleet.tool.json("up", "--no-probe")["changed"] == 0
    assert traffic.failures == []
    assert traffic.puts > 10 and traffic.gets > 10

    fleet.write(resource=4)
    report = fleet.tool.json("up")
    assert [(node["name"], node["kind"]) for node in report["differences"] if node["kind"] != "unchanged"] == [
        ("r5", "removed")
    ]
    assert "every slice has its copies elsewhere" in json.dumps(report["notes"])
    assert "r5" not in fleet.images()
    assert {node["health"] for node in fleet.tool.json("status")["nodes"] if node["whose"] == "ours"} == {"ok"}


def _metrics_are_for_operators(fleet: Fleet) -> None:
    """26660 of a validator (protocol 8), 8890 of a meta node; a resource node's HTTP is for operators and has them itself."""
    for name, port in (("v1", 26_660), ("m1", 8_890), ("r1", 18_181)):
        node = TestnetFolder(fleet.tool.root / fleet.name).need_plan().node(name)
        assert node.metrics_address[1] == port
        metrics = request(*node.metrics_address, "/metrics", timeout_seconds=10.0)
        assert metrics is not None and b"stratos_" in metrics.body
        public = request(*node.http_address, "/metrics", timeout_seconds=10.0)
        assert public is not None and (public.status == 404) is (name != "r1")
