"""An upgrade goes on from wherever it was interrupted, and never past a node that is not well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure
from orchestrator.plan.plan import Existing, Plan, make_plan
from orchestrator.runtimes.protocol import NodeState
from orchestrator.testnet import upgrading
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.readiness import Ready
from orchestrator.testnet.upgrading import UpgradeReport, upgrade_testnet
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology


class Killed(BaseException):
    """The tool ends here, as by SIGKILL."""


class World:
    """What nodes run, who is in maintenance, and what goes wrong."""

    def __init__(self, plan: Plan) -> None:
        self.running = {node.name: node.image for node in plan.nodes}
        self.maintenance: set[str] = set()
        self.broken: set[str] = set()
        self.rules = {"n:1": 1, "n:2": 2, "n:3": 2}
        self.chain: dict[str, Any] = {"rules_version": "1", "plan": None}
        self.kill_at = ""
        self.started: list[str] = []

    def set_maintenance(self, _folder: object, _runtime: object, name: str, on: bool, **_: object) -> bool:
        changed = (name in self.maintenance) is not on
        (self.maintenance.add if on else self.maintenance.discard)(name)
        return changed

    def wait_ready(self, _plan: Plan, _runtime: object, *, only: Sequence[str], **_: object) -> Ready:
        for name in only:
            if self.running[name] in self.broken:
                raise EnvironmentFault(f"{name} does not stay up")
        return Ready(7, 7)

    def get(self, path: str) -> Any:
        return self.chain if path.endswith("/plan") else {"validators": []}


class FakeRuntime:
    """Containers that start at once."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.plan = plan
        self.world = world
        self.quarantine: dict[str, str] = {}

    def status(self) -> Mapping[str, NodeState]:
        return {
            node.name: NodeState(
                name=node.name, state="running", current=self.world.running[node.name] == node.image, pid=1
            )
            for node in self.plan.nodes
        }

    def prepare(self, _nodes: Iterable[object]) -> None:
        """Images are there."""

    def place(self, _nodes: Iterable[object]) -> frozenset[str]:
        return frozenset()

    def start(self, names: Sequence[str], **_: object) -> frozenset[str]:
        for name in names:
            self.world.started.append(name)
            self.world.running[name] = self.plan.node(name).image
            if name == self.world.kill_at:
                raise Killed
        return frozenset(names)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def folder(tmp_path: Path) -> TestnetFolder:
    """A testnet of containers that run n:1."""
    outcome = make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda port: True
    )
    nodes = tuple(structs.replace(node, image="n:1") for node in outcome.plan.nodes)
    folder = TestnetFolder(tmp_path / "net")
    folder.path.mkdir()
    folder.save_ring(outcome.ring)
    folder.save_plan(structs.replace(outcome.plan, runtime="docker", nodes=nodes, inventory_image="n:1"))
    folder.save_genesis(outcome.genesis)
    return folder


@pytest.fixture
def world(folder: TestnetFolder, monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything around the walk is played."""
    world = World(folder.need_plan())
    monkeypatch.setattr(upgrading, "runtime_for", lambda plan, _path, **_: FakeRuntime(plan, world))
    monkeypatch.setattr(upgrading, "set_maintenance", world.set_maintenance)
    monkeypatch.setattr(upgrading, "wait_ready", world.wait_ready)
    monkeypatch.setattr(upgrading, "layer_height", lambda _plan, _role: 0)
    monkeypatch.setattr(upgrading, "rules_of_image", world.rules.__getitem__)
    monkeypatch.setattr(upgrading, "ChainApi", lambda _endpoints: world)
    return world


def upgrade(folder: TestnetFolder, image: str | None = None, *, rollback: bool = False) -> UpgradeReport:
    return upgrade_testnet(folder, image=image, rollback=rollback, say=lambda _text: None)


def test_every_node_is_replaced_once_and_the_second_time_none(folder: TestnetFolder, world: World) -> None:
    """Nobody is left in maintenance but who was there before."""
    world.maintenance.add("r1")
    report = upgrade(folder, "n:2")
    assert report.changed == len(world.running) == len(world.started)
    assert set(world.running.values()) == {"n:2"}
    assert world.maintenance == {"r1"}
    assert upgrade(folder, "n:2").changed == 0


@pytest.mark.parametrize("name", ["v2", "m3", "r2"])
def test_a_killed_upgrade_sees_its_batch_through_first(folder: TestnetFolder, world: World, name: str) -> None:
    """What had been replaced is not replaced again, is waited for, and has its work back."""
    world.kill_at = name
    with pytest.raises(Killed):
        upgrade(folder, "n:2")
    world.kill_at = ""
    world.broken.add("n:2")
    with pytest.raises(PartialFailure, match=f"stopped at .*{name}"):
        upgrade(folder, "n:2")
    world.broken.clear()
    done = len(world.started)
    assert upgrade(folder, "n:2").changed == len(world.running) - done
    assert sorted(world.started) == sorted(world.running)
    assert world.maintenance == set()


def test_a_broken_image_stops_at_the_first_batch_every_time(folder: TestnetFolder, world: World) -> None:
    """The same command never goes on to the next node; a rollback takes the one back, and no other."""
    world.broken.add("n:3")
    for _ in range(2):
        with pytest.raises(PartialFailure, match="v1 does not stay up"):
            upgrade(folder, "n:3")
        assert [name for name, image in world.running.items() if image == "n:3"] == ["v1"]
    report = upgrade(folder, rollback=True)
    assert [batch.names for batch in report.batches] == [("v1",)]
    assert set(world.running.values()) == {"n:1"}


def test_no_way_leads_behind_the_rules(folder: TestnetFolder, world: World) -> None:
    """Neither behind those in force nor behind those that are voted for; nothing is touched."""
    upgrade(folder, "n:2")
    world.chain = {"rules_version": "1", "plan": {"rules_version": "2", "height": "90"}}
    with pytest.raises(BadInput, match="comes into force at height 90"):
        upgrade(folder, rollback=True)
    world.chain = {"rules_version": "2", "plan": None}
    with pytest.raises(BadInput, match="the chain follows version 2"):
        upgrade(folder, rollback=True)
    assert upgrade(folder, "n:2").changed == 0
    assert set(world.running.values()) == {"n:2"}
