"""Faults as data: what goes wrong, to whom, from when to when. Drawn from a seed, removable one by one by the shrinker.

All times are virtual seconds; everything has ended by the schedule's `heal`. Nodes are numbers within their cluster;
`cluster` says which one (a single-layer world has one). Who lies is not in the schedule but in the scenario,
because less than a third of the weight may.
"""

import random
from dataclasses import dataclass

PROPOSAL, PREVOTE_MESSAGE, PRECOMMIT_MESSAGE, REPAIR = "proposal", "prevote", "precommit", "repair"
MESSAGE_KINDS = (PROPOSAL, PREVOTE_MESSAGE, PRECOMMIT_MESSAGE, REPAIR)


@dataclass(frozen=True)
class Partition:
    """Only nodes of the same side hear each other; `sides` is a bitmap of one side."""

    cluster: str
    start: float
    end: float
    sides: int


@dataclass(frozen=True)
class Loss:
    """Each message is lost with this probability."""

    cluster: str
    start: float
    end: float
    rate: float


@dataclass(frozen=True)
class Deaf:
    """The nodes in `targets` (bitmap) do not get messages of one kind: the asymmetric losses that locks exist for."""

    cluster: str
    start: float
    end: float
    kind: str
    targets: int


@dataclass(frozen=True)
class Unheard:
    """The nodes in `sources` (bitmap) hear everything and are heard by nobody: they may decide what others do not know."""

    cluster: str
    start: float
    end: float
    sources: int


@dataclass(frozen=True)
class Slow:
    """Delays are multiplied."""

    cluster: str
    start: float
    end: float
    factor: float


@dataclass(frozen=True)
class Echo:
    """Each message is delivered a second time, later, with this probability."""

    cluster: str
    start: float
    end: float
    rate: float


@dataclass(frozen=True)
class Crash:
    """From `start` on, the node dies just before its `effects`-th next effect of the kind `before`, and forgets what is
    not in the synced log or the store; `down` seconds later it starts again."""

    cluster: str
    start: float
    node: int
    before: str
    effects: int
    down: float


Fault = Partition | Loss | Deaf | Unheard | Slow | Echo | Crash
CRASH_POINTS = ("any", "Broadcast", "WriteWal", "CommitBlock")
THEMES: dict[str, dict[type[Fault], int]] = {
    "everything": {Crash: 6, Partition: 3, Loss: 2, Deaf: 4, Unheard: 4, Slow: 1, Echo: 1},
    "crashes": {Crash: 8, Loss: 1, Slow: 1},
    "one-way": {Unheard: 6, Deaf: 1, Crash: 1},
    "splits": {Partition: 5, Deaf: 2, Echo: 1},
}
"""What goes wrong how often; most bugs need one kind of trouble for a while rather than all kinds at once."""


def draw_faults(rng: random.Random, *, cluster: str, nodes: int, heal: float, count: int) -> list[Fault]:
    """`count` random faults of one theme that all end before `heal`."""
    theme = THEMES[rng.choice(sorted(THEMES))]
    kinds = rng.choices(list(theme), weights=list(theme.values()), k=count)
    faults = [_draw(rng, kind, cluster=cluster, nodes=nodes, heal=heal) for kind in kinds]
    return sorted(faults, key=lambda fault: (fault.start, repr(fault)))


def _draw(rng: random.Random, kind: type[Fault], *, cluster: str, nodes: int, heal: float) -> Fault:
    start = rng.uniform(0.0, heal * 0.85)
    end = min(heal, start + rng.choice((0.3, 1.5, 5.0)) * rng.uniform(0.5, 1.5))
    if kind is Crash:
        down = rng.choice((0.01, 0.05, 0.3, 2.0)) * rng.uniform(0.5, 1.5)
        return Crash(cluster, start, rng.randrange(nodes), rng.choice(CRASH_POINTS), rng.randrange(6), down)
    if kind is Partition:
        return Partition(cluster, start, end, rng.randrange(1, 2**nodes))
    if kind is Loss:
        return Loss(cluster, start, end, rng.choice((0.05, 0.2, 0.5)))
    if kind is Deaf:
        return Deaf(cluster, start, end, rng.choice(MESSAGE_KINDS), rng.randrange(1, 2**nodes))
    if kind is Unheard:
        return Unheard(cluster, start, end, 1 << rng.randrange(nodes))
    if kind is Slow:
        return Slow(cluster, start, end, rng.choice((5.0, 20.0)))
    return Echo(cluster, start, end, rng.choice((0.1, 0.5)))
