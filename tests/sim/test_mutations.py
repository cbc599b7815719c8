"""The simulator can fail: each broken rule is caught within 200 seeds which the real core passes."""

import pytest

from stratos.sim.mutations import HOME_WORLD, MUTATIONS
from stratos.sim.runner import run_seed, run_seeds

SEEDS = 200


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.timeout(600)
def test_a_broken_rule_is_caught(mutation: str) -> None:
    """Some seed below 200 fails with the mutation, and the same seed passes without it."""
    world = HOME_WORLD[mutation]
    caught = None
    for outcome in run_seeds(world, first=0, count=SEEDS, mutation=mutation):
        if not outcome.ok:
            caught = outcome
            break
    assert caught is not None, f"{mutation} was not caught within {SEEDS} seeds"
    assert run_seed(world, caught.seed).ok
