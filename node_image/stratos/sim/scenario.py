"""A scenario: everything a seed decides before virtual time starts. A pure function of (world, seed)."""

import random
from dataclasses import dataclass, replace

from stratos.sim.cluster import Membership
from stratos.sim.faults import Fault, draw_faults

HEAL_SECONDS = 12.0
PROGRESS_SECONDS = 60.0
"""All honest nodes must have moved on this long after the last fault."""
PROGRESS_BLOCKS = 3


@dataclass(frozen=True)
class Scenario:
    """Members, faults and load of one run."""

    world: str
    seed: int
    membership: Membership
    faults: tuple[Fault, ...]
    heal: float = HEAL_SECONDS
    load: int = 40
    """Entries or transactions offered until `heal`."""
    authorities: Membership | None = None
    """Members of the meta cluster, where the world has one."""

    def with_faults(self, kept: tuple[int, ...]) -> "Scenario":
        """The same scenario with only these faults, by position."""
        return replace(self, faults=tuple(self.faults[position] for position in kept))


def draw_membership(rng: random.Random, *, equal: bool, huge: bool) -> Membership:
    """A network of 1 to 7 voters (mostly 4), perhaps a follower, with liars of less than a third of the weight."""
    count = rng.choice((1, 3, 4, 4, 4, 4, 4, 4, 5, 7))
    weights = [1 if equal else rng.choice((1, 1, 1, 2, 3, 10**6)) for _ in range(count)]
    if huge and not equal and rng.random() < 0.3:
        weights = [weight * 2**40 for weight in weights]
    liars: list[int] = []
    order = list(range(count))
    rng.shuffle(order)
    lying = 0
    for index in order:
        if 3 * (lying + weights[index]) < sum(weights) and rng.random() < 0.5:
            liars.append(index)
            lying += weights[index]
    equivocators = frozenset(index for index in liars if rng.random() < 0.75)
    if rng.random() < 0.2:
        weights.append(0)
    return Membership(tuple(weights), equivocators, frozenset(liars) - equivocators)


def draw_scenario(world: str, seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"{world}/{seed}/scenario")
    if world == "full":
        return _draw_full(rng, seed)
    membership = draw_membership(rng, equal=rng.random() < 0.6, huge=world == "bft")
    nodes = len(membership.weights)
    faults = draw_faults(rng, cluster="value", nodes=nodes, heal=HEAL_SECONDS, count=rng.choice((0, 1, 2, 3, 5, 8, 12)))
    return Scenario(world, seed, membership, tuple(faults), load=rng.choice((0, 20, 60)))


def _draw_full(rng: random.Random, seed: int) -> Scenario:
    """Few validators under a meta layer of mostly four authorities; faults on either side."""
    validators = Membership((3, 2, 2, 2), equivocators=frozenset({rng.randrange(1, 4)} if rng.random() < 0.3 else ()))
    count = rng.choice((1, 4, 4, 4, 5))
    liars = frozenset({rng.randrange(count)} if count > 3 and rng.random() < 0.4 else ())
    authorities = Membership((1,) * count, liars)
    faults = [
        *draw_faults(rng, cluster="value", nodes=4, heal=HEAL_SECONDS, count=rng.choice((0, 1, 3))),
        *draw_faults(rng, cluster="meta", nodes=count, heal=HEAL_SECONDS, count=rng.choice((0, 1, 3, 6))),
    ]
    return Scenario("full", seed, validators, tuple(faults), load=20, authorities=authorities)
