"""A cluster in virtual time crosses the height of new rules while one node runs a program without them."""

import pytest

from stratos.ledger import rulebook
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import InForce
from stratos.sim import chain_machine
from stratos.sim.clock import Clock
from stratos.sim.cluster import Membership
from stratos.sim.invariants import Violations
from stratos.sim.judging import REAL, Tracer
from stratos.sim.runner import run
from stratos.sim.scenario import Scenario
from stratos.sim.upgrade_world import UpgradeLayer, upgrade_genesis
from stratos.sim.value_world import chain_of

OLD = 3


class Crossing:
    """Four equal validators without faults, the last of them with the old program."""

    def __init__(self, *, load: int = 40) -> None:
        scenario = Scenario("upgrade", 0, Membership((1, 1, 1, 1)), (), load=load)
        self.clock, self.violations = Clock(), Violations()
        genesis = upgrade_genesis(scenario)
        self.layer = UpgradeLayer(
            scenario, genesis, self.clock, parts=REAL, violations=self.violations, tracer=Tracer(), old=frozenset({OLD})
        )
        self.nodes = self.layer.cluster.nodes
        self.layer.cluster.start()
        self.layer.schedule_load(self.clock)
        self.clock.after(0.5, self.layer.govern)
        self.clock.after(0.5, self.layer.prepay_dust)

    def until(self, reached: int) -> None:
        """Run until the first node has this height."""
        self.clock.run(self.clock.now + 60, lambda: self.nodes[0].height >= reached)
        assert self.nodes[0].height >= reached

    def planned_height(self) -> int:
        """Run until the vote has passed."""
        self.clock.run(60, lambda: rulebook.plan(chain_of(self.nodes[0]).state) is not None)
        plan = rulebook.plan(chain_of(self.nodes[0]).state)
        assert plan is not None
        return plan.height


def test_an_old_program_halts_at_the_height_and_a_new_one_takes_its_store_up() -> None:
    """The others go on without it; after the new program is installed it has the same blocks and roots."""
    crossing = Crossing()
    height = crossing.planned_height()
    crossing.until(height + 3)
    old = crossing.nodes[OLD]
    assert not old.is_up
    assert old.height == height - 1
    assert str(old.halted) == (
        f"rules version 2 holds from height {height} on and this program knows versions up to 1; "
        "install an image with rules version >= 2, it goes on with the store as it is"
    )
    old.revive()
    assert not old.is_up
    crossing.layer.install_everywhere()
    reached = crossing.nodes[0].height + 2
    crossing.clock.run(crossing.clock.now + 60, lambda: crossing.layer.cluster.lowest >= reached)
    assert old.is_up and old.halted is None
    assert {rulebook.rules(chain_of(node).state) for node in crossing.nodes} == {InForce(2, height)}
    crossing.layer.check()
    assert crossing.violations.found == []


def test_a_new_program_installed_before_the_height_makes_the_same_blocks() -> None:
    """Nobody notices the change of program; nobody halts."""
    crossing = Crossing()
    height = crossing.planned_height()
    crossing.layer.install_everywhere()
    crossing.until(height + 3)
    crossing.clock.run(crossing.clock.now + 60, lambda: crossing.layer.cluster.lowest > height)
    assert crossing.nodes[OLD].halted is None
    crossing.layer.check()
    assert crossing.violations.found == []


def test_when_most_lack_the_program_the_chain_waits_for_it() -> None:
    """Three of four halt: no block of the height exists until enough power has the new program."""
    crossing = Crossing(load=0)  # users would move power between validators
    for index in (1, 2):
        chain_of(crossing.nodes[index]).install(Ledger(crossing.layer.genesis, newest_rules=1))
        crossing.nodes[index].crash(0.1)
    crossing.layer.old = frozenset({1, 2, OLD})
    height = crossing.planned_height()
    crossing.clock.run(crossing.clock.now + 30, lambda: all(crossing.nodes[index].halted for index in (1, 2, OLD)))
    crossing.clock.run(crossing.clock.now + 5, lambda: False)
    assert [node.height for node in crossing.nodes] == [height - 1] * 4
    crossing.layer.install_everywhere()
    crossing.until(height + 2)
    assert crossing.violations.found == []


def test_the_world_notices_an_old_program_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check gone the run is blamed, so the check is what the world rests on."""
    monkeypatch.setattr(chain_machine.rulebook, "require_known", lambda *_: None)
    outcome = run(Scenario("upgrade", 1, Membership((1, 1, 1, 1)), (), load=0))
    assert any("has executed block" in violation for violation in outcome.violations)
