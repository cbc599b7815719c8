"""Topologies made of plain records, and a planner whose randomness, clock and ports are fixed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from orchestrator.plan.plan import Existing, Outcome, make_plan
from orchestrator.plan.ports import PortSearch
from orchestrator.topology.raw import RawHost, RawInventory, RawValue
from orchestrator.topology.topology import Topology, topology_of

SEARCH = PortSearch(hint="somewhere", ephemeral=(32_768, 60_999))


def topology(
    *,
    validators: int = 4,
    meta: int = 4,
    resource: int = 6,
    name: str = "net",
    everywhere: dict[str, object] | None = None,
) -> Topology:
    """A topology of so many nodes, named v1.., m1.., r1.., with `everywhere` under `all: vars:`."""
    values = {key: RawValue(value, "all") for key, value in (everywhere or {}).items()}  # type: ignore[arg-type]
    counts = {"validators": validators, "meta": meta, "resource": resource}
    hosts = [
        RawHost(f"{group[0]}{number}", (group,), "local", "", values)
        for group, count in counts.items()
        for number in range(1, count + 1)
    ]
    return topology_of(RawInventory(f"{name}.yml", tuple(hosts)))


def counter() -> Callable[[int], bytes]:
    """A random source that is not: a new number each time."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


Planner = Callable[..., Outcome]


@pytest.fixture
def planner() -> Planner:
    """planner(topology, existing=Existing(), is_free=...) -> Outcome."""
    random = counter()

    def plan(
        wanted: Topology,
        existing: Existing | None = None,
        *,
        search: PortSearch = SEARCH,
        is_free: Callable[[int], bool] = lambda port: True,
    ) -> Outcome:
        return make_plan(
            wanted, existing or Existing(), search, random=random, time_ms=1_800_000_000_000, is_free=is_free
        )

    return plan
