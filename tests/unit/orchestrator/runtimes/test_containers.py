"""What the engine is asked for a node, and how its words become states."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from msgspec import structs

from orchestrator.plan.networks import ContainerNetworks
from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.containers import (
    DIGEST_LABEL,
    ContainerWish,
    creation,
    packed,
    state_of,
    wish_for,
)
from orchestrator.runtimes.subnets import routes
from orchestrator.runtimes.volumes import packed_homes
from stratos.wire.config import NodeConfig, Ports

NETWORKS = ContainerNetworks(subnets={"eu": "10.192.0.0/22", "us": "10.192.4.0/22"}, places={"r1": 12})
FILES = {"config.json": b"{}", "node.key": b"secret"}


def node(**changes: Any) -> NodePlan:
    config = NodeConfig(name="r1", role="resource", network_address="10.192.0.12:1", region="eu", ports=Ports(http=2))
    plan = NodePlan(
        name="r1",
        role="resource",
        node="stsds1",
        owner="st1",
        public_key="00",
        deposit_wei=0,
        stake_wei=0,
        registers=False,
        config=config,
    )
    return structs.replace(plan, **changes)


def wish(files: dict[str, bytes] | None = None, image_id: str = "sha256:1", **changes: Any) -> ContainerWish:
    return wish_for(
        "net", node(**changes), NETWORKS, genesis="g", image_id=image_id, files=FILES if files is None else files
    )


def test_a_container_is_confined() -> None:
    """No root, no capability, no new privileges, nothing to write to but the volume and a small /tmp."""
    made = creation(wish())
    host = made["host_config"]
    assert made["user"] == "10001:10001"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    [mount] = host["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Target"]) == ("volume", "stratos-net-r1", "/home/stratos")
    assert "Binds" not in host
    assert not host.get("Privileged")


def test_limits_are_those_of_the_inventory() -> None:
    """Without any, the engine sets none."""
    assert "Memory" not in creation(wish())["host_config"]
    host = creation(wish(cpus=0.5, memory_bytes=64 << 20))["host_config"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 << 20, 64 << 20)


def test_it_is_in_every_regions_network_and_advertised_in_its_own() -> None:
    """The first network is the own region's; the others are joined."""
    one = wish()
    assert (one.network, one.address) == ("stratos-net-eu", "10.192.0.12")
    assert one.others == {"stratos-net-us": "10.192.4.12"}
    assert creation(one)["networking_config"]["EndpointsConfig"].keys() == {"stratos-net-eu"}


def test_the_digest_moves_with_what_needs_a_new_container() -> None:
    """Files, image, limits, bandwidth: yes. A network of another region: no, it is joined while the node runs."""
    digests = [
        one.digest
        for one in (
            wish(),
            wish(image_id="sha256:2"),
            wish(cpus=1.0),
            wish(memory_bytes=1 << 30),
            wish(bandwidth_mbit=10),
            wish({**FILES, "config.json": b"{ }"}),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert structs.replace(wish(), others={}).digest == digests[0]
    assert creation(wish())["labels"][DIGEST_LABEL] == digests[0]


def test_secrets_are_in_no_request_but_the_volumes_files() -> None:
    """Neither in labels nor in the environment nor in what the record shows of itself."""
    assert "secret" not in str(creation(wish()))
    assert "secret" not in repr(wish())
    with tarfile.open(fileobj=io.BytesIO(packed(FILES))) as archive:
        members = archive.getmembers()
    assert {(member.name, member.mode, member.uid, member.gid) for member in members} == {
        ("config.json", 0o600, 10001, 10001),
        ("node.key", 0o600, 10001, 10001),
    }


@pytest.mark.parametrize(
    ("word", "text", "restarts", "state", "last_exit", "alive"),
    [
        ("running", "Up 3 minutes (healthy)", 0, "running", "", True),
        ("paused", "Up 3 minutes (Paused)", 0, "paused", "", True),
        ("exited", "Exited (137) 2 seconds ago", 0, "stopped", "exit code 137", False),
        ("created", "Created", 0, "stopped", "", False),
        ("restarting", "Restarting (1) 2 seconds ago", 1, "waiting", "exit code 1", False),
        ("restarting", "Restarting (1) 2 seconds ago", 9, "failed", "exit code 1", False),
        ("restarting", "Restarting (2) 2 seconds ago", 1, "failed", "exit code 2", False),
    ],
)
def test_the_engines_words_become_states(
    word: str, text: str, restarts: int, state: str, last_exit: str, alive: bool
) -> None:
    """A node that ends with 2 is given up at once: its input is wrong, and starting it again changes nothing."""
    found = state_of("r1", {"State": word, "Status": text}, {"RestartCount": restarts}, current=True)
    assert (found.state, found.last_exit, bool(found.pid)) == (state, last_exit, alive)


def test_times_of_the_engine_are_unix_milliseconds() -> None:
    """Nanoseconds and the Z are not read by every Python."""
    details = {"State": {"Pid": 7, "StartedAt": "2026-01-01T00:00:01.123456789Z"}, "RestartCount": 2}
    found = state_of("r1", {"State": "running", "Status": "Up"}, details, current=True)
    assert (found.pid, found.since_ms, found.restarts) == (7, 1_767_225_601_000, 2)


def test_routes_are_read_without_the_default_one() -> None:
    """The kernel's table is hexadecimal, lowest byte first."""
    table = (
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n"
        "br0 0000C00A 00000000 0001 0 0 0 00FCFFFF 0 0 0\n"
        "junk\n"
    )
    assert routes(table) == ["10.192.0.0/22"]


def test_homes_are_packed_together_and_belong_to_the_nodes_user() -> None:
    """A node's folder comes before its files, and its own container copies nothing of the image into it."""
    one = wish()
    assert creation(one)["host_config"]["Mounts"][0]["VolumeOptions"]["NoCopy"] is True
    with tarfile.open(fileobj=io.BytesIO(packed_homes([one]))) as archive:
        first, *rest = archive.getmembers()
    assert (first.isdir(), first.mode, first.uid, first.gid) == (True, 0o700, 10001, 10001)
    assert [member.name for member in rest] == [f"{first.name}/{name}" for name in one.files]
