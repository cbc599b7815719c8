"""How a run is judged: what it is built of, its outcome, its trace, and the checks that every world makes at the end.

After the last fault every honest node (dead ones restarted) must commit a few more blocks in bounded virtual time, and a
client that holds only the genesis validators must be able to follow the chain to its end.
"""

from dataclasses import dataclass, field

from blake3 import blake3

from stratos.bft.light import LightClient, LightClientError
from stratos.bft.validator_set import ValidatorSet
from stratos.meta.machine import MetaMachine
from stratos.sim.clock import Clock
from stratos.sim.cluster import Cluster, Core, verify_once
from stratos.sim.invariants import Violations
from stratos.sim.scenario import PROGRESS_BLOCKS, PROGRESS_SECONDS, Scenario
from stratos.wire.block import ValidatorChange


@dataclass(frozen=True)
class Parts:
    """What a world is built of; mutation checks hand in broken ones."""

    core: Core = field(default_factory=Core)
    meta_machine: type[MetaMachine] = MetaMachine


REAL = Parts()


@dataclass(frozen=True)
class Outcome:
    """Verdict of one run."""

    world: str
    seed: int
    violations: tuple[str, ...]
    trace_hash: str
    height: int
    virtual_seconds: float
    steps: int
    faults: int

    @property
    def ok(self) -> bool:
        return not self.violations


class Tracer:
    """Hash over everything that happened, and the text of it when wanted."""

    def __init__(self, lines: list[str] | None = None) -> None:
        self._hash = blake3()
        self._lines = lines

    def __call__(self, line: bytes) -> None:
        self._hash.update(line)
        if self._lines is not None:
            self._lines.append(line.decode().rstrip())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def check_light_client(cluster: Cluster, validators: ValidatorSet, *, layer: str, genesis_hash: bytes) -> None:
    """A client with only the genesis set must reach the newest header over the validator changes."""
    blocks = cluster.monitor.blocks
    if not blocks:
        return
    changes = [
        ValidatorChange(block.header, commit, cluster.monitor.sets[height + 1].validators)
        for height, (_, block, commit) in sorted(blocks.items())
        if block.header.validators_hash != block.header.next_validators_hash
    ]
    top = max(blocks)
    client = LightClient(
        layer=layer, genesis_hash=genesis_hash, validators=ValidatorSet(validators), verify=verify_once
    )
    try:
        client.follow(change for change in changes if change.header.height < top)
        client.check(blocks[top][1].header, blocks[top][2])
    except LightClientError as error:
        cluster.monitor.blame(f"light client: {error}")


def judge_progress(clock: Clock, clusters: list[Cluster], violations: Violations, *, heal: float) -> None:
    """After the last fault, every honest node of every cluster commits further blocks within the bound."""
    goals = [(cluster, cluster.height + PROGRESS_BLOCKS) for cluster in clusters]

    def reached() -> bool:
        return bool(violations.found) or all(cluster.lowest >= goal for cluster, goal in goals)

    clock.run(heal + PROGRESS_SECONDS, reached)
    for cluster, goal in goals:
        for node in cluster.honest:
            if node.height < goal and not violations.found:
                state = f"round {node.replica.round} step {node.replica.step.name}" if node.replica else "down"
                violations.add(
                    f"{cluster.name}: node {node.index} is at height {node.height} ({state}) {PROGRESS_SECONDS:.0f} s "
                    f"after the last fault, expected {goal}"
                )


def outcome_of(
    scenario: Scenario, clusters: list[Cluster], clock: Clock, violations: Violations, tracer: Tracer
) -> Outcome:
    """Sum a finished run up."""
    return Outcome(
        world=scenario.world,
        seed=scenario.seed,
        violations=tuple(violations.found),
        trace_hash=tracer.hexdigest(),
        height=max(cluster.height for cluster in clusters),
        virtual_seconds=round(clock.now, 3),
        steps=clock.steps,
        faults=len(scenario.faults),
    )
