"""Running seeds: one, many over processes, and the smallest version of one that fails.

`run` is a pure function of its arguments, so an outcome can be computed in any process and again at any time; processes are
programs of their own (`worker`), so it does not matter who asks. `shrink` is
delta debugging over the fault schedule: it halves, then quarters what is kept, as long as the run still breaks an
invariant, and ends when no single fault can be left out.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

import stratos
from stratos.sim.judging import REAL, Outcome, Parts, Tracer
from stratos.sim.mutations import MUTATIONS
from stratos.sim.scenario import Scenario, draw_scenario
from stratos.sim.worlds import WORLDS


class UnknownWorld(ValueError):
    """A world or mutation that does not exist."""


class WorkerDied(RuntimeError):
    """A process running seeds ended before its time."""


def parts_of(mutation: str | None) -> Parts:
    """The real parts, or those with one rule broken."""
    if mutation is None:
        return REAL
    if mutation not in MUTATIONS:
        raise UnknownWorld(f"mutation {mutation!r} is unknown; choose one of {', '.join(sorted(MUTATIONS))}")
    return MUTATIONS[mutation]


def run(
    scenario: Scenario,
    *,
    mutation: str | None = None,
    lines: list[str] | None = None,
) -> Outcome:
    """Run one scenario; `lines` collects the trace."""
    world = WORLDS.get(scenario.world)
    if world is None:
        raise UnknownWorld(f"world {scenario.world!r} is unknown; choose one of {', '.join(WORLDS)}")
    return world(scenario, parts_of(mutation), Tracer(lines))


def run_seed(world: str, seed: int, mutation: str | None = None) -> Outcome:
    """Run a seed with all of its faults."""
    return run(draw_scenario(world, seed), mutation=mutation)


def run_seeds(world: str, *, first: int, count: int, jobs: int = 1, mutation: str | None = None) -> Iterator[Outcome]:
    """Outcomes of `count` seeds from `first`, in order, computed by `jobs` processes."""
    seeds = range(first, first + count)
    jobs = min(jobs, count)
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(world, seed, mutation)
        return
    package_root = str(Path(stratos.__file__).parent.parent)
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "stratos.sim.worker", world, str(first + job), str(first + count), str(jobs)]
            + ([mutation] if mutation else []),
            stdout=subprocess.PIPE,
            env=environment,
        )
        for job in range(jobs)
    ]
    try:
        for position, seed in enumerate(seeds):
            pipe = workers[position % jobs].stdout
            line = pipe.readline() if pipe is not None else b""
            if not line:
                raise WorkerDied(f"the process running seed {seed} of world {world} ended early; see what it printed")
            yield msgspec.json.decode(line, type=Outcome)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def shrink(
    scenario: Scenario, *, mutation: str | None = None, on_step: Callable[[int], None] = lambda _kept: None
) -> tuple[int, ...]:
    """Positions of a minimal set of faults with which the scenario still fails; it must fail with all of them."""

    def fails(kept: tuple[int, ...]) -> bool:
        return not run(scenario.with_faults(kept), mutation=mutation).ok

    kept = tuple(range(len(scenario.faults)))
    if not fails(kept):
        raise ValueError(f"seed {scenario.seed} of world {scenario.world} does not fail; there is nothing to shrink")
    if fails(()):
        return ()
    parts = 2
    while len(kept) > 1:
        size = -(-len(kept) // parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        candidates = [chunk for chunk in chunks if len(chunks) > 1]
        candidates += [tuple(item for item in kept if item not in chunk) for chunk in chunks]
        smaller = next((candidate for candidate in candidates if len(candidate) < len(kept) and fails(candidate)), None)
        if smaller is not None:
            kept = smaller
            parts = max(2, min(parts - 1, len(kept)))
            on_step(len(kept))
        elif parts >= len(kept):
            break
        else:
            parts = min(len(kept), parts * 2)
    return kept


def replay_command(scenario: Scenario, kept: tuple[int, ...], mutation: str | None = None) -> str:
    """The command line that runs exactly this again."""
    faults = ",".join(map(str, kept)) or "none"
    command = f"stratosctl simulate --world {scenario.world} --from {scenario.seed} --seeds 1 --faults {faults}"
    return command + (f" --mutation {mutation}" if mutation else "")
