"""A testnet in containers of one engine: up, changed, killed, down, purged, and nothing left."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from up_driver import Tool

from orchestrator.errors import EnvironmentFault, StratosctlError
from orchestrator.image.engine import engine
from orchestrator.runtimes.containers import TESTNET_LABEL
from orchestrator.runtimes.docker import DockerRuntime
from orchestrator.testnet.control import kill_nodes, runtime_of, start_nodes
from orchestrator.testnet.folder import TestnetFolder

pytestmark = [
    pytest.mark.docker,
    pytest.mark.ci,
    # The SDK leaves the connections of streams to the garbage collector, which says so whenever it finds one.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """What the SDK leaves behind is collected here, where the warning is expected, and not in somebody else's test."""
    yield
    gc.collect()


INVENTORY = """
all:
  vars:
    ansible_connection: local
    stratos_testnet: {name}
    stratos_runtime: docker
    stratos_copies: 1
    stratos_block_seconds: 0.5
    stratos_meta_block_seconds: 0.5
    stratos_status_seconds: 2
    stratos_memory: {memory}
  children:
    validators: {{hosts: {{v1: }}}}
    meta: {{hosts: {{m1: {{stratos_faucet: {faucet}}}}}}}
    resource:
      hosts:
        r1: {{stratos_region: eu, stratos_cpus: 0.75}}
        r2: {{stratos_region: us, stratos_bandwidth_mbit: 40}}
"""


class Fleet:
    """One testnet of this test, its tool, and the engine's view of it."""

    def __init__(self, folder: Path, client: Any) -> None:
        self.name = f"test{os.getpid()}"
        self.client = client
        self.tool = Tool(folder)
        self.write(memory="256 MiB")

    def write(self, *, memory: str, faucet: str = "true") -> None:
        self.tool.write(INVENTORY.format(name=self.name, memory=memory, faucet=faucet))

    @property
    def folder(self) -> TestnetFolder:
        return TestnetFolder(self.tool.root / self.name)

    def runtime(self) -> DockerRuntime:
        found = runtime_of(self.folder)
        assert isinstance(found, DockerRuntime)
        return found

    def container(self, node: str) -> Any:
        return self.client.containers.get(f"stratos-{self.name}-{node}")

    def left(self) -> dict[str, list[str]]:
        """Names of what the engine holds of this testnet."""
        mine = {"label": f"{TESTNET_LABEL}={self.name}"}
        return {
            "containers": [one.name for one in self.client.containers.list(all=True, filters=mine)],
            "networks": [one.name for one in self.client.networks.list(filters=mine)],
            "volumes": [one.name for one in self.client.volumes.list(filters=mine)],
        }


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The engine; without one these tests are skipped, saying so."""
    try:
        found = engine()
    except StratosctlError as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture(scope="module")
def testnet(tmp_path_factory: pytest.TempPathFactory, client: Any) -> Iterator[Fleet]:
    """A small testnet for all tests of this module, whatever their order."""
    fleet = Fleet(tmp_path_factory.mktemp("containers"), client)
    try:
        yield fleet
    finally:
        fleet.tool.run("down", "--purge")


@pytest.fixture
def fleet(testnet: Fleet) -> Fleet:
    """The testnet, up and as its inventory says."""
    testnet.tool.json("up")
    return testnet


def test_a_second_up_changes_nothing(fleet: Fleet) -> None:
    """Not one container is touched."""
    before = {node: fleet.container(node).id for node in ("v1", "m1", "r1", "r2")}
    report = fleet.tool.json("up")
    assert (report["changed"], report["started"]) == (0, 0)
    assert {node: fleet.container(node).id for node in before} == before


def test_each_node_is_confined_limited_and_in_every_regions_network(fleet: Fleet) -> None:
    """What the inventory says is what the engine enforces."""
    host = fleet.container("r1").attrs["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["ReadonlyRootfs"]) == (256 << 20, 750_000_000, True)
    assert host["CapDrop"] == ["ALL"]
    networks = fleet.container("r1").attrs["NetworkSettings"]["Networks"]
    assert set(networks) == {f"stratos-{fleet.name}-{region}" for region in ("default", "eu", "us")}
    config = fleet.folder.need_plan().node("r1").config
    assert config.network_address.startswith(networks[f"stratos-{fleet.name}-eu"]["IPAddress"] + ":")


def test_status_logs_and_transfers_work_as_with_processes(fleet: Fleet, tmp_path: Path) -> None:
    """The same commands, whatever a node is."""
    status = fleet.tool.json("status")
    assert (status["running"], status["state_roots_equal"]) == (4, None)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(200_000))
    handle = fleet.tool.json("put", str(source))["handle"]
    assert fleet.tool.run("get", handle, "-o", str(copy)).returncode == 0
    assert copy.read_bytes() == source.read_bytes()
    with closing(fleet.runtime()) as runtime:
        lines = [json.loads(line) for line in runtime.read_log("m1").splitlines()]
    assert {line["node"] for line in lines} == {"m1"}


def test_bandwidth_is_limited_in_both_directions(fleet: Fleet) -> None:
    """40 Mbit/s are 5 MB/s: 6 MB take more than 0.6 s each way, and a node without limit is far quicker."""
    plan = fleet.folder.need_plan()
    address = plan.networks.address("r2", "us")
    free = _seconds(fleet, "r1", plan.networks.address("r1", "eu"), send=True)
    sent, received = (_seconds(fleet, "r2", address, send=send) for send in (True, False))
    assert sent > 0.6
    assert received > 0.6
    assert free < sent / 2


PEER = """
import socket, sys, time
with socket.create_server(("0.0.0.0", 5000)) as listener:
    print("ready", flush=True)
    connection, _ = listener.accept()
    if sys.argv[1] == "send":
        connection.sendall(bytes(6_000_000))
        connection.close()
    else:
        while connection.recv(65536):
            pass
"""


def _seconds(fleet: Fleet, node: str, address: str, *, send: bool) -> float:
    """How long 6 MB take from (or to) a program beside the node in its container."""
    api = fleet.client.api
    made = api.exec_create(fleet.container(node).id, ["python3", "-c", PEER, "send" if send else "receive"])
    output = api.exec_start(made["Id"], stream=True)
    assert b"ready" in next(output)
    began = time.monotonic()
    with socket.create_connection((address, 5000), timeout=60) as connection:
        if send:
            total = 0
            while data := connection.recv(65_536):
                total += len(data)
            assert total == 6_000_000
        else:
            connection.sendall(bytes(6_000_000))
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    seconds = time.monotonic() - began
    output.close()
    return seconds


def test_a_limit_that_the_engine_forgot_is_set_again(fleet: Fleet) -> None:
    """The engine starts r2 by itself, without limits; the next `up` looks, limits it and says so, the one after has nothing to do."""
    fleet.container("r2").restart(timeout=10)
    report = fleet.tool.json("up")
    assert (report["changed"], report["started"]) == (1, 1)
    assert fleet.tool.json("up")["changed"] == 0
    assert _seconds(fleet, "r2", fleet.folder.need_plan().networks.address("r2", "us"), send=True) > 0.6


def test_a_node_is_marked_whether_it_runs_or_not(fleet: Fleet) -> None:
    """Running, stopped, and with no container at all: once each, and the node finds it when it starts."""
    with closing(fleet.runtime()) as runtime:
        assert (runtime.mark("r1", "seen", on=True), runtime.mark("r1", "seen", on=True)) == (True, False)
        runtime.stop(["r1"])
        assert (runtime.mark("r1", "seen", on=False), runtime.mark("r1", "seen", on=False)) == (True, False)
        runtime.forget(["r1"])
        assert (runtime.mark("r1", "seen", on=True), runtime.mark("r1", "seen", on=True)) == (True, False)
        runtime.start(["r1"])
        assert runtime.execute("r1", ["cat", "/home/stratos/seen"]) == (0, b"")
        assert runtime.mark("r1", "seen", on=False)
    assert len(fleet.left()["containers"]) == 4


def test_a_key_that_is_withdrawn_leaves_the_volume(fleet: Fleet) -> None:
    """m1 served the faucet and shall not any more: its container is another one, and the key is in it no longer."""

    def files() -> bytes:
        with closing(fleet.runtime()) as runtime:
            return runtime.execute("m1", ["ls", "/home/stratos"])[1]

    assert b"faucet.key" in files()
    fleet.write(memory="256 MiB", faucet="false")
    assert fleet.tool.json("up")["started"] == 1
    assert b"faucet.key" not in files() and b"node.key" in files()
    fleet.write(memory="256 MiB")
    fleet.tool.json("up")
    assert b"faucet.key" in files()


def test_one_node_can_be_killed_looked_into_frozen_and_started_again(fleet: Fleet) -> None:
    """A kill stays a kill until somebody starts the node; what it knew is in its volume."""
    with closing(fleet.runtime()) as runtime:
        assert kill_nodes(fleet.folder, ["r1"]) == {"r1"}
        assert runtime.status()["r1"].state == "stopped"
        assert runtime.status()["r1"].last_exit == "exit code 137"
        assert start_nodes(fleet.folder, ["r1"]) == {"r1"}
        assert runtime.status()["r1"].state == "running"
        code, output = runtime.execute("r1", ["cat", "/home/stratos/config.json"])
        assert (code, json.loads(output)["name"]) == (0, "r1")
        assert runtime.pause(["r1"]) == {"r1"}
        assert runtime.status()["r1"].state == "paused"
        assert runtime.unpause(["r1"]) == {"r1"}
        usage = runtime.usage(["r1", "v1"])
        assert usage["v1"].memory_limit_bytes == 256 << 20
        assert 0 < usage["v1"].memory_bytes < 256 << 20
    assert fleet.tool.json("up")["started"] == 0


def test_a_changed_limit_replaces_containers_and_keeps_their_data(fleet: Fleet, tmp_path: Path) -> None:
    """One after another; what was stored before is read after."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(50_000))
    handle = fleet.tool.json("put", str(source))["handle"]
    fleet.write(memory="300 MiB")
    assert fleet.tool.json("up")["started"] == 4
    assert fleet.container("v1").attrs["HostConfig"]["Memory"] == 300 << 20
    fleet.write(memory="256 MiB")
    assert fleet.tool.run("get", handle, "-o", str(copy)).returncode == 0
    assert copy.read_bytes() == source.read_bytes()


def test_an_up_that_is_killed_is_finished_by_the_next(fleet: Fleet) -> None:
    """Wherever it was: here half the containers are gone."""
    for node in ("r1", "m1"):
        fleet.container(node).remove(force=True)
    fleet.tool.run_for(1.0, "up")
    fleet.tool.json("up")
    assert fleet.tool.json("status")["running"] == 4
    assert fleet.tool.json("up")["changed"] == 0


def test_another_testnet_of_the_same_name_is_not_touched(fleet: Fleet, tmp_path: Path) -> None:
    """Neither mixed with nor brought down: its containers belong to another genesis."""
    other = Fleet(tmp_path, fleet.client)
    done = other.tool.run("up")
    assert done.returncode == EnvironmentFault.exit_code
    assert f"of another testnet {fleet.name}" in done.stderr
    assert other.tool.json("down", "--purge")["stopped"] == []
    assert fleet.tool.json("status")["running"] == 4


def test_down_keeps_the_volumes_and_up_goes_on_from_them(fleet: Fleet) -> None:
    """The chain continues at its height; networks have the addresses that the genesis names."""
    height = fleet.tool.json("status")["height"]
    assert set(fleet.tool.json("down")["stopped"]) == {"v1", "m1", "r1", "r2"}
    left = fleet.left()
    assert (left["containers"], left["networks"], len(left["volumes"])) == ([], [], 4)
    with closing(fleet.runtime()) as runtime:
        assert b'"node":"m1"' in runtime.read_log("m1")
    assert fleet.tool.json("up")["height"] >= height


def test_purge_leaves_nothing(fleet: Fleet) -> None:
    """No container, network, volume or folder."""
    assert len(fleet.tool.json("down")["stopped"]) == 4
    assert fleet.tool.json("down")["changed"] == 0
    fleet.tool.json("down", "--purge")
    assert fleet.left() == {"containers": [], "networks": [], "volumes": []}
    assert not fleet.folder.path.exists()
