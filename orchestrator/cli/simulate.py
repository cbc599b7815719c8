"""`stratosctl simulate`: the real protocol core in virtual time, one run per seed, with faults drawn from the seed.

A failing seed is named with the invariants it broke; `--shrink` then looks for the fewest faults that still break one and
prints the command that runs exactly that again. The exit code is 1 when any seed failed.
"""

import argparse
import json
import sys
import time
from typing import Any

from orchestrator.cli import exit_codes
from orchestrator.cli.parsing import parser, whole_number
from orchestrator.cli.telling import Teller
from orchestrator.errors import BadInput
from stratos.sim.judging import Outcome
from stratos.sim.mutations import MUTATIONS
from stratos.sim.runner import replay_command, run, run_seeds, shrink
from stratos.sim.scenario import Scenario, draw_scenario
from stratos.sim.worlds import DEFAULT_WORLD, WORLDS

_EXAMPLES = """\
  stratosctl simulate --seeds 200                   200 networks with faults, all invariants checked
  stratosctl simulate --from 33 --seeds 1 --trace   everything that happens in seed 33
  stratosctl simulate --mutation no-lock --shrink   a broken core, and the fewest faults that show it
"""


def main(argv: list[str]) -> int:
    """Run seeds, print progress and verdict."""
    options_of = parser(
        "simulate", "Run the protocol core in virtual time from seeds and check its invariants.", examples=_EXAMPLES
    )
    options_of.add_argument("--seeds", type=whole_number(1, 1_000_000), default=200, help="how many seeds (200)")
    options_of.add_argument("--from", dest="first", type=whole_number(0, 2**62), default=0, help="first seed (0)")
    options_of.add_argument(
        "--world", choices=list(WORLDS), default=DEFAULT_WORLD, help=f"what runs on consensus ({DEFAULT_WORLD})"
    )
    options_of.add_argument("--jobs", type=whole_number(1, 256), default=2, help="processes (2)")
    options_of.add_argument("--shrink", action="store_true", help="reduce the first failing seed to its fewest faults")
    options_of.add_argument(
        "--faults", type=_positions, default=None, help="only these of the seed's faults, as printed by --shrink"
    )
    options_of.add_argument("--mutation", choices=sorted(MUTATIONS), help="break one rule, to see it caught")
    options_of.add_argument("--trace", action="store_true", help="print everything that happens (one seed)")
    options_of.add_argument("--json", action="store_true", help="print one JSON document")
    options = options_of.parse_args(argv)

    began = time.monotonic()
    if options.faults is not None or options.trace:
        if options.seeds != 1:
            raise BadInput(f"--faults and --trace are about one seed, not {options.seeds}; add --seeds 1")
        outcomes = [_run_one(options)]
    else:
        outcomes = _run_many(options, began)
    seconds = time.monotonic() - began
    failed = [outcome for outcome in outcomes if not outcome.ok]
    shrunk = None
    if failed and options.shrink:
        scenario = draw_scenario(options.world, failed[0].seed)
        if options.faults is not None:
            raise BadInput("--shrink starts from all of a seed's faults; leave --faults out")
        kept = shrink(scenario, mutation=options.mutation)
        shrunk = (scenario, kept)
    _report(options, outcomes, failed, shrunk, seconds)
    return exit_codes.VERDICT_FAILED if failed else exit_codes.OK


def _positions(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    parts = text.split(",")
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a list of fault numbers such as 0,3,4 (or none)")
    return tuple(sorted({int(part) for part in parts}))


def _run_one(options: argparse.Namespace) -> Outcome:
    scenario = draw_scenario(options.world, options.first)
    if options.faults is not None:
        if any(position >= len(scenario.faults) for position in options.faults):
            raise BadInput(f"seed {options.first} has faults 0 to {len(scenario.faults) - 1}; choose among them")
        scenario = scenario.with_faults(options.faults)
    lines: list[str] | None = [] if options.trace else None
    outcome = run(scenario, mutation=options.mutation, lines=lines)
    if lines is not None:
        print("\n".join(lines), file=sys.stderr if options.json else sys.stdout)
    return outcome


def _run_many(options: argparse.Namespace, began: float) -> list[Outcome]:
    outcomes = []
    with Teller(wanted=sys.stderr.isatty()) as say:  # elsewhere a count every second would be noise
        for outcome in run_seeds(
            options.world, first=options.first, count=options.seeds, jobs=options.jobs, mutation=options.mutation
        ):
            outcomes.append(outcome)
            failed = sum(not known.ok for known in outcomes)
            elapsed = time.monotonic() - began
            say(f"{len(outcomes)} of {options.seeds} seeds, {failed} failed, {elapsed:.0f} s")
    return outcomes


def _report(
    options: argparse.Namespace,
    outcomes: list[Outcome],
    failed: list[Outcome],
    shrunk: tuple[Scenario, tuple[int, ...]] | None,
    seconds: float,
) -> None:
    blocks = sum(outcome.height for outcome in outcomes)
    virtual = sum(outcome.virtual_seconds for outcome in outcomes)
    if options.json:
        document: dict[str, Any] = {
            "world": options.world,
            "mutation": options.mutation,
            "seeds": len(outcomes),
            "first": options.first,
            "failed": [
                {"seed": outcome.seed, "violations": list(outcome.violations), "trace_hash": outcome.trace_hash}
                for outcome in failed
            ],
            "blocks": blocks,
            "virtual_seconds": round(virtual, 3),
            "seconds": round(seconds, 3),
            "verdict": "failed" if failed else "ok",
        }
        if len(outcomes) == 1:
            document["trace_hash"] = outcomes[0].trace_hash
        if shrunk is not None:
            scenario, kept = shrunk
            document["shrunk"] = {
                "seed": scenario.seed,
                "faults": [repr(scenario.faults[position]) for position in kept],
                "replay": replay_command(scenario, kept, options.mutation),
            }
        print(json.dumps(document, indent=2))
        return
    for outcome in failed:
        print(f"seed {outcome.seed} failed:")
        for violation in outcome.violations:
            print(f"  {violation}")
    if shrunk is not None:
        scenario, kept = shrunk
        print(f"seed {scenario.seed} still fails with {len(kept)} of {len(scenario.faults)} faults:")
        for position in kept:
            print(f"  {position}: {scenario.faults[position]}")
        print(f"replay: {replay_command(scenario, kept, options.mutation)}")
    verdict = f"{len(failed)} failed" if failed else "all invariants held"
    print(
        f"{len(outcomes)} seeds of world {options.world}: {verdict} "
        f"({blocks} blocks, {virtual:.0f} virtual seconds in {seconds:.1f} s)"
    )
