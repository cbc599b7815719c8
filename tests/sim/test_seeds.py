"""The protocol core keeps its promises under faults drawn from seeds."""

import pytest

from stratos.sim.runner import run, run_seed, run_seeds, shrink
from stratos.sim.scenario import draw_scenario
from stratos.sim.worlds import WORLDS

SEEDS = {"bft": 200, "value": 200, "upgrade": 100, "full": 200}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.timeout(1800)
def test_all_invariants_hold(world: str) -> None:
    """Agreement, no double vote, equal roots, ozone conserved, each receipt paid once, reports in order, progress."""
    failed = [
        (outcome.seed, outcome.violations)
        for outcome in run_seeds(world, first=0, count=SEEDS[world], jobs=2)
        if not outcome.ok
    ]
    assert failed == []


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_seed_is_the_same_run(world: str) -> None:
    """Two runs of a seed, here and in another process, have the same trace to the byte."""
    here = run_seed(world, 5)
    [there, _] = run_seeds(world, first=5, count=2, jobs=2)
    assert here == there == run_seed(world, 5)
    assert here.trace_hash != run_seed(world, 6).trace_hash


def test_a_trace_is_the_text_behind_its_hash() -> None:
    """Reading along does not change the run."""
    lines: list[str] = []
    outcome = run(draw_scenario("bft", 3), lines=lines)
    assert outcome == run_seed("bft", 3)
    assert len(lines) > 100


def test_a_failure_shrinks_to_the_faults_that_matter() -> None:
    """Of a failing seed's faults a minimal set is left: it fails, and no fault of it can be spared."""
    seed = next(o.seed for o in run_seeds("bft", first=0, count=200, mutation="late-log") if not o.ok)
    scenario = draw_scenario("bft", seed)
    kept = shrink(scenario, mutation="late-log")
    assert 0 < len(kept) < len(scenario.faults)
    assert not run(scenario.with_faults(kept), mutation="late-log").ok
    for spared in kept:
        rest = tuple(position for position in kept if position != spared)
        assert run(scenario.with_faults(rest), mutation="late-log").ok
