"""The consensus core alone: a small key-value machine on top, whose entries also change weights."""

import random
from collections.abc import Callable

from blake3 import blake3

from stratos.sim.clock import Clock
from stratos.sim.cluster import Cluster, sim_key
from stratos.sim.invariants import Violations
from stratos.sim.judging import Outcome, Parts, Tracer, check_light_client, judge_progress, outcome_of
from stratos.sim.machine import KeyValue
from stratos.sim.scenario import Scenario


def run_bft(scenario: Scenario, parts: Parts, tracer: Tracer) -> Outcome:
    """The core with the key-value machine."""
    clock = Clock()
    violations = Violations()
    genesis_hash = blake3(b"bft world").digest()
    cluster = Cluster(
        clock,
        name="value",
        layer="value",
        seed=scenario.seed,
        genesis_hash=genesis_hash,
        membership=scenario.membership,
        machines=lambda _index, validators: KeyValue(validators),
        faults=scenario.faults,
        violations=violations,
        core=parts.core,
        trace=tracer,
    )
    cluster.start()
    rng = random.Random(f"{scenario.seed}/load")
    for number in range(scenario.load):
        entry = b"set %d %d" % (number, rng.randrange(1000))
        if rng.random() < 0.2:
            entry = _weight_change(rng, scenario, number)
        clock.after(rng.uniform(0.0, scenario.heal), _offering(cluster, entry))
    clock.run(scenario.heal, lambda: bool(violations.found))
    judge_progress(clock, [cluster], violations, heal=scenario.heal)
    genesis_set = cluster.monitor.sets[1]
    check_light_client(cluster, genesis_set, layer="value", genesis_hash=genesis_hash)
    return outcome_of(scenario, [cluster], clock, violations, tracer)


def _offering(cluster: Cluster, entry: bytes) -> Callable[[], None]:
    return lambda: cluster.offer(entry)


def _weight_change(rng: random.Random, scenario: Scenario, number: int) -> bytes:
    """An entry that gives an honest voter a weight of one to two times its first, so that liars stay below a third."""
    membership = scenario.membership
    liars = membership.equivocators | membership.mutes
    honest = [index for index, weight in enumerate(membership.weights) if weight > 0 and index not in liars]
    chosen = rng.choice(honest)
    # The machine knows validators by index in the set (by address), the scenario by node.
    voters = [index for index, weight in enumerate(membership.weights) if weight > 0]
    by_address = sorted(voters, key=lambda index: sim_key(scenario.seed, "value", index).address)
    weight = membership.weights[chosen] * rng.choice((1, 2))
    return b"weight %d %d %d" % (by_address.index(chosen), weight, number)
