"""What is published is signed, complete, replaced file by file, and holds nothing that is nobody's business."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import msgspec
import pytest

from orchestrator.errors import BadInput
from orchestrator.plan.plan import Existing, Outcome, make_plan
from orchestrator.publishing.page import PublicNodeStatus, PublicStatus, render_page, verdict
from orchestrator.publishing.publication import PUBLISHED, Publication, publish
from orchestrator.publishing.sums import Sums, check_sums
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.topology.inventory import load_inventory
from orchestrator.topology.topology import topology_of
from stratos.client.records import Endpoints
from stratos.wire.genesis import genesis_hash
from tests.unit.orchestrator.plan.conftest import SEARCH, counter

SECRETS = {
    "ansible_user": "hidden-user",
    "ansible_port": "2299",
    "ansible_password": "hidden-password",
    "ansible_become_password": "hidden-become",
    "ansible_ssh_private_key_file": "/home/hidden/key",
    "ansible_ssh_common_args": "-J hidden-jump",
    "vault_token": "hidden-token",
}
INVENTORY = """
all:
  vars:
    stratos_copies: 2
    stratos_epoch_seconds: 60
    stratos_port_base: 23456
    {secrets}
  children:
    validators: {{hosts: {{v1: {{ansible_host: 192.0.2.1}}}}}}
    meta: {{hosts: {{m1: {{ansible_host: 192.0.2.2}}}}}}
    resource:
      hosts:
        r1: {{ansible_host: 192.0.2.3, stratos_region: eu, stratos_host: hidden-a}}
        r2: {{ansible_host: 192.0.2.4, stratos_region: us, stratos_host: hidden-b}}
    load: {{hosts: {{hidden-load: {{ansible_host: 192.0.2.5}}}}}}
"""


class Net:
    """A testnet that is planned but does not run, and its inventory."""

    def __init__(self, root: Path) -> None:
        self.inventory = root / "net.yml"
        secrets = "\n    ".join(f"{name}: {value!r}" for name, value in SECRETS.items())
        self.inventory.write_text(INVENTORY.format(secrets=secrets))
        self.raw = load_inventory(self.inventory)
        self.outcome: Outcome = make_plan(
            topology_of(self.raw),
            Existing(),
            SEARCH,
            random=counter(),
            time_ms=1_800_000_000_000,
            is_free=lambda _port: True,
        )
        self.folder = TestnetFolder(root / "testnets" / "net")
        self.folder.path.mkdir(parents=True)
        self.folder.save_ring(self.outcome.ring)
        self.folder.save_plan(self.outcome.plan)
        self.folder.save_genesis(self.outcome.genesis)
        self.target = root / "public"

    def publish(self, time_ms: int = 1_800_000_000_000) -> Publication:
        return publish(self.folder, self.raw, self.target, time_ms=time_ms)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Net:
    """Machines are not asked: nothing runs there."""
    net = Net(tmp_path)
    plan = msgspec.structs.replace(net.outcome.plan, runtime="process")
    net.folder.save_plan(plan)
    return net


def test_every_file_is_there_signed_and_readable_by_all(net: Net) -> None:
    """The check sums are the coordinator's and fit every file; modes suit a web server."""
    done = net.publish()
    assert sorted(done.files) == sorted(PUBLISHED)
    files = {name: (net.target / name).read_bytes() for name in PUBLISHED}
    sums = msgspec.json.decode((net.target / "checksums.json").read_bytes(), type=Sums)
    key = net.outcome.ring.coordinator_key().public_key
    assert check_sums(sums, files, coordinator=key, genesis_hash=genesis_hash(net.outcome.genesis)) == ""
    assert {stat.S_IMODE((net.target / name).stat().st_mode) for name in PUBLISHED} == {0o644}
    files["endpoints.json"] += b" "
    assert "endpoints.json" in check_sums(sums, files, coordinator=key, genesis_hash=genesis_hash(net.outcome.genesis))


def test_nothing_secret_is_published(net: Net) -> None:
    """No login detail, vault value, key or path of this machine is in any file. Labels of machines are in the genesis, as
    the chain's register needs them, and nowhere else."""
    net.publish()
    text = "".join(path.read_text() for path in net.target.iterdir())
    ring = net.outcome.ring
    secrets = [secret.node_seed for secret in ring.nodes.values()]
    secrets += [secret.owner_secret for secret in ring.nodes.values()]
    secrets += [*ring.wallets.values(), ring.coordinator, str(net.folder.path), str(net.inventory), "23456"]
    for secret in (*SECRETS.values(), "hidden-load", *secrets):
        assert secret not in text, secret
    assert "hidden" not in (net.target / "inventory.json").read_text()


def test_the_inventory_says_roles_and_public_settings(net: Net) -> None:
    """Names, roles, regions, and what the genesis says anyway."""
    net.publish()
    found = msgspec.json.decode((net.target / "inventory.json").read_bytes())
    assert found["settings"] == {"stratos_copies": 2, "stratos_epoch_seconds": 60}
    assert {node["name"]: (node["role"], node["settings"]) for node in found["nodes"]} == {
        "v1": ("validator", {}),
        "m1": ("meta", {}),
        "r1": ("resource", {"stratos_region": "eu"}),
        "r2": ("resource", {"stratos_region": "us"}),
    }


def test_a_second_publication_replaces_only_what_differs(net: Net) -> None:
    """The same state at the same time changes nothing; what was published once and is no more is removed."""
    net.publish()
    assert net.publish().changed == ()
    assert set(net.publish(time_ms=1_800_000_001_000).changed) == {"status.json", "index.html", "checksums.json"}
    (net.target / "mine.txt").write_text("not ours")
    sums = msgspec.json.decode((net.target / "checksums.json").read_bytes())
    sums["files"] |= {"old.json": "0" * 64, "../escape": "0" * 64}
    (net.target / "old.json").write_text("{}")
    (net.target.parent / "escape").write_text("stays")
    (net.target / "checksums.json").write_bytes(msgspec.json.encode(sums))
    assert "old.json" in net.publish().changed
    assert not (net.target / "old.json").exists()
    assert (net.target / "mine.txt").exists()
    assert (net.target.parent / "escape").exists()


def test_only_the_coordinator_publishes(net: Net) -> None:
    """A participant has no key to sign with."""
    net.folder.save_plan(msgspec.structs.replace(net.outcome.plan, outside=Endpoints()))
    with pytest.raises(BadInput, match="no coordinator's key"):
        net.publish()


def status(**changes: object) -> PublicStatus:
    node = PublicNodeStatus(name="r1", role="resource", whose="participant", healthy=True, height=0, node="stsds1x")
    usual = PublicStatus(
        network="net",
        genesis_hash="00",
        time_ms=0,
        height=5,
        meta_height=6,
        state_roots_equal=True,
        meta_state_roots_equal=None,
        nodes=(node,),
    )
    return msgspec.structs.replace(usual, **changes)


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names() -> None:
    """No script, no image, no style from another place; a stranger's name is text."""
    evil = PublicNodeStatus(
        name="<script>alert(1)</script>", role="resource", whose="participant", healthy=False, height=0, node="stsds1x"
    )
    page = render_page(status(nodes=(evil,)), coordinator="ab")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    assert "@import" not in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "all 1 nodes are well"),
        ({"height": 0}, "does not answer"),
        ({"state_roots_equal": False}, "differ"),
        ({"nodes": (msgspec.structs.replace(status().nodes[0], healthy=False),)}, "1 of 1 nodes are not well"),
    ],
)
def test_the_verdict_is_what_was_seen(changes: dict[str, object], words: str) -> None:
    """No stronger than its evidence."""
    assert words in verdict(status(**changes))
