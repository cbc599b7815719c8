"""A rolling upgrade against machines that forget nothing: what an interrupted run left is seen before anything else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from orchestrator.chain_api import ChainUnreachable
from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure
from orchestrator.plan.plan import Existing, NodePlan, Plan, make_plan
from orchestrator.runtimes.protocol import NodeState
from orchestrator.testnet import upgrading
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.readiness import Ready
from orchestrator.testnet.upgrading import UpgradeReport, upgrade_testnet
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology

OLD, NEW = "stratos-node:1", "stratos-node:2"


class Killed(Exception):
    """The run ends here, as by kill -9."""


class Fleet:
    """Nodes as a runtime and the network see them. `sick` ones never become ready, `down` ones do not answer."""

    def __init__(self, folder: TestnetFolder, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.runs = {node.name: OLD for node in plan.nodes}
        self.quarantine: dict[str, str] = {}
        self.sick: set[str] = set()
        self.down: set[str] = set()
        self.rules: dict[str, Any] = {"rules_version": "1", "plan": None}
        self.halted = False
        self.flags: set[str] = set()
        self.killed_at = ""
        self.halted_without = "nobody"
        self.started: list[list[str]] = []

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def runtime_for(plan: Plan, _folder: Path, **_options: Any) -> Fleet:
            self.plan = plan
            return self

        monkeypatch.setattr(upgrading, "runtime_for", runtime_for)
        monkeypatch.setattr(upgrading, "rules_of_image", {OLD: 1, NEW: 2}.__getitem__)
        monkeypatch.setattr(upgrading, "ChainApi", lambda _endpoints: self)
        monkeypatch.setattr(upgrading, "layer_height", lambda _plan, _role: 7)
        monkeypatch.setattr(upgrading, "wait_ready", self.wait_ready)
        monkeypatch.setattr(upgrading, "set_maintenance", self.set_maintenance)
        monkeypatch.setattr(
            upgrading,
            "all_statuses",
            lambda nodes: {node.name: None if node.name in self.down else {"height": 7} for node in nodes},
        )

    def get(self, path: str) -> dict[str, Any]:
        if self.halted:
            raise ChainUnreachable("no validator answers")
        if path == "/stratos/upgrade/v1/plan":
            return self.rules
        return {
            "validators": [
                {"address": node.node, "tokens_wei": "100", "jailed": False, "tombstoned": False}
                for node in self.plan.nodes
                if node.role == "validator"
            ]
        }

    def wait_ready(self, _plan: Plan, _runtime: Any, *, only: Sequence[str], **_options: Any) -> Ready:
        for name in only:
            if self.halted_without in self.down:
                raise PartialFailure(f"{name} has no block above 7 yet: the chain stands still")
            if name in self.sick:
                raise PartialFailure(f"{name} has no block above 7 yet")
        return Ready(8, 8)

    def set_maintenance(self, _folder: Any, _runtime: Any, name: str, on: bool, **_options: Any) -> bool:
        changed = on != (name in self.flags)
        self.flags = self.flags | {name} if on else self.flags - {name}
        return changed

    def status(self) -> dict[str, NodeState]:
        return {
            node.name: NodeState(
                name=node.name,
                state="running",
                current=self.runs[node.name] == node.image,
                pid=int(node.name not in self.down),
            )
            for node in self.plan.nodes
        }

    def prepare(self, _nodes: Any) -> None:
        pass

    def place(self, nodes: Any) -> frozenset[str]:
        return frozenset()

    def start(self, names: Sequence[str], **_options: Any) -> frozenset[str]:
        self.started.append(list(names))
        for node in self.plan.nodes:
            if node.name in names:
                self.runs[node.name] = node.image
        self.down -= set(names)
        if self.killed_at in names:
            self.killed_at = ""
            raise Killed
        return frozenset(names)

    def close(self) -> None:
        pass

    def upgrade(self, **options: Any) -> UpgradeReport:
        if not options:
            options = {"image": NEW}
        return upgrade_testnet(self.folder, image=options.pop("image", None), say=lambda _text: None, **options)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """The default shape, all of it on the old image."""
    outcome = make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda _port: True
    )
    nodes = tuple(structs.replace(node, image=OLD) for node in outcome.plan.nodes)
    plan = structs.replace(outcome.plan, runtime="docker", inventory_image=OLD, nodes=nodes)
    folder = TestnetFolder(tmp_path / "net")
    folder.path.mkdir()
    folder.save_ring(outcome.ring)
    folder.save_plan(plan)
    folder.save_genesis(outcome.genesis)
    made = Fleet(folder, plan)
    made.patch(monkeypatch)
    return made


def names(fleet: Fleet, role: str) -> list[str]:
    return [node.name for node in fleet.plan.nodes if node.role == role]


def test_a_node_that_is_not_well_stops_the_next_run_too(fleet: Fleet) -> None:
    """It runs the new image already, and yet the same command goes no further until it is well."""
    first = names(fleet, "validator")[0]
    fleet.sick = {first}
    with pytest.raises(PartialFailure, match=f"stopped at {first}"):
        fleet.upgrade()
    before = dict(fleet.runs)
    with pytest.raises(PartialFailure, match=f"not well: {first}"):
        fleet.upgrade()
    assert fleet.runs == before
    fleet.sick = set()
    report = fleet.upgrade()
    assert report.changed == len(fleet.runs) - 1
    assert set(fleet.runs.values()) == {NEW}


def test_a_rollback_does_not_wait_for_who_is_to_be_replaced(fleet: Fleet) -> None:
    """The way back is open however ill the new image made a node."""
    first = names(fleet, "validator")[0]
    fleet.sick = {first}
    with pytest.raises(PartialFailure):
        fleet.upgrade()
    fleet.sick = set()
    assert fleet.upgrade(rollback=True).changed == 1
    assert set(fleet.runs.values()) == {OLD}


def test_no_node_stays_in_maintenance_after_a_kill(fleet: Fleet) -> None:
    """A resource node is replaced and the run is killed before it is taken out: the same command does it."""
    last = names(fleet, "resource")[-1]
    fleet.killed_at = last
    with pytest.raises(Killed):
        fleet.upgrade()
    assert last in fleet.flags
    fleet.upgrade()
    assert fleet.flags == set()
    assert set(fleet.runs.values()) == {NEW}


def test_a_node_that_was_started_a_moment_ago_is_not_away(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that started it was killed before it answered: the next one waits for it, and does not refuse the others."""
    second = names(fleet, "validator")[1]
    fleet.killed_at = second
    with pytest.raises(Killed):
        fleet.upgrade()
    looks: list[int] = []

    def all_statuses(nodes: Sequence[NodePlan]) -> dict[str, Any]:
        looks.append(1)
        return {node.name: None if node.name == second and len(looks) < 4 else {"height": 7} for node in nodes}

    monkeypatch.setattr(upgrading, "all_statuses", all_statuses)
    monkeypatch.setattr(upgrading, "LOOK_SECONDS", 0.0)
    fleet.upgrade()
    assert set(fleet.runs.values()) == {NEW}


def test_an_operators_maintenance_outlives_the_upgrade(fleet: Fleet) -> None:
    """Only what the upgrade put into maintenance is taken out of it."""
    held = names(fleet, "resource")[0]
    fleet.flags = {held}
    fleet.upgrade()
    assert fleet.flags == {held}


def test_a_validator_that_is_away_is_missed_already(fleet: Fleet) -> None:
    """With one of four lost, replacing another one would halt the chain: nothing is touched."""
    lost, *others = names(fleet, "validator")
    fleet.down = {lost}
    fleet.quarantine = {lost: f"{lost} is out of reach"}
    with pytest.raises(BadInput, match="25 % is away already"):
        fleet.upgrade()
    assert fleet.started == []
    with pytest.raises(PartialFailure, match=f"{lost} is out of reach"):
        fleet.upgrade(image=NEW, allow_halt=True)
    assert {fleet.runs[name] for name in others} == {NEW}


def test_who_is_away_and_can_be_reached_comes_first(fleet: Fleet) -> None:
    """A stopped validator is started with the new image before any other one is taken away."""
    stopped = names(fleet, "validator")[-1]
    fleet.down = {stopped}
    fleet.upgrade()
    assert fleet.started[0] == [stopped]


def test_a_chain_that_stands_still_can_be_taken_back(fleet: Fleet) -> None:
    """An image stopped it, so nobody can ask it: going on is refused, going back is not."""
    first = names(fleet, "validator")[0]
    fleet.sick = {first}
    with pytest.raises(PartialFailure):
        fleet.upgrade()
    fleet.halted = True
    with pytest.raises(EnvironmentFault, match="--rollback"):
        fleet.upgrade()
    fleet.sick = set()
    assert fleet.upgrade(rollback=True).changed == 1
    assert set(fleet.runs.values()) == {OLD}


def test_a_node_that_ends_again_and_again_is_where_the_next_run_begins(fleet: Fleet) -> None:
    """Its container is the one that is wanted, and still it is replaced first, and named when that does not help."""
    first = names(fleet, "validator")[0]
    fleet.sick = {first}
    with pytest.raises(PartialFailure, match=f"stopped at {first}"):
        fleet.upgrade()
    fleet.down = {first}
    fleet.started.clear()
    with pytest.raises(PartialFailure, match=f"stopped at {first}"):
        fleet.upgrade()
    assert fleet.started == [[first]]


def test_no_way_leads_behind_the_rules(fleet: Fleet) -> None:
    """Neither behind those in force nor behind those that are voted for; nothing is touched."""
    fleet.upgrade()
    fleet.rules = {"rules_version": "1", "plan": {"rules_version": "2", "height": "90"}}
    with pytest.raises(BadInput, match="comes into force at height 90"):
        fleet.upgrade(rollback=True)
    fleet.rules = {"rules_version": "2", "plan": None}
    with pytest.raises(BadInput, match="the chain follows version 2"):
        fleet.upgrade(rollback=True)
    assert fleet.upgrade(image=NEW).changed == 0
    assert set(fleet.runs.values()) == {NEW}


def test_a_layer_that_stands_still_is_set_going_first(fleet: Fleet) -> None:
    """Interrupted while a validator was down without which there are no blocks: the same command finishes."""
    first, second = names(fleet, "validator")[:2]
    fleet.killed_at = second
    with pytest.raises(Killed):
        fleet.upgrade()
    assert fleet.runs[first] == NEW
    fleet.down = {second}
    fleet.halted_without = second
    fleet.started.clear()
    fleet.upgrade()
    assert fleet.started[0] == [second]
    assert set(fleet.runs.values()) == {NEW}
