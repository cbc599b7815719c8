"""Both layers in one virtual time: the chain, the bridge, the meta log with sessions, receipts and epoch reports.

Faults hit both clusters. The value layer runs as in its own world; the meta layer runs the same core with equal weights
on its own application; authorities do their chores, users trade receipts. After the last fault both layers must go on,
the log must catch up with the chain, and a report that waits must be answered.
"""

import random

from msgspec import structs

from stratos.ledger.machine import Ledger
from stratos.meta.errors import InvariantBroken
from stratos.meta.rooms import CHAIN_HEIGHT, IN_FLIGHT
from stratos.sim.authorities import Authority, Desk, log_of
from stratos.sim.clock import START_WALL_MS, Clock
from stratos.sim.cluster import FAST, Cluster, Membership, sim_key
from stratos.sim.invariants import Violations
from stratos.sim.judging import Outcome, Parts, Tracer, check_light_client, judge_progress, outcome_of
from stratos.sim.meta_invariants import MetaMonitor
from stratos.sim.meta_machine import MetaLog
from stratos.sim.node import SimNode
from stratos.sim.scenario import PROGRESS_SECONDS, Scenario
from stratos.sim.traffic import Heartbeats, User
from stratos.sim.value_world import STOS, USERS, ValueLayer, genesis_validators, user_accounts
from stratos.sim.wallets import sim_wallet
from stratos.state import State
from stratos.wire.genesis import (
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisPrepay,
    LedgerParams,
    MetaParams,
    PotParams,
    SdsParams,
)

HOLDERS = 5
PACE = structs.replace(FAST, block_seconds=0.8)
"""Two layers cost twice as much to simulate, so idle ones make fewer blocks."""
STATUS_SECONDS = 4.0
EPOCH_SECONDS = 2.0


def full_genesis(scenario: Scenario, authorities: Membership) -> Genesis:
    """Validators, authorities, active holders, users with ozone."""
    seed = scenario.seed

    def node(kind: str, index: int, deposit_wei: int) -> GenesisNode:
        wallet = sim_wallet(seed, f"{kind}-owner{index}").address
        return GenesisNode(
            owner=wallet,
            beneficiary=wallet,
            node_public_key=sim_key(seed, kind, index).public_key,
            deposit_wei=str(deposit_wei),
            effective_wei=str(deposit_wei),
            name=f"{kind}{index}",
            host=f"{kind}-host{index}",
            network_address=f"127.0.0.1:{9000 + index}",
        )

    users = [sim_wallet(seed, f"user{number}").address for number in range(USERS)]
    carriers = [sim_wallet(seed, f"authority{index}").address for index in range(len(authorities.weights))]
    return Genesis(
        network="simulation",
        time_ms=START_WALL_MS,
        ledger=LedgerParams(pot=PotParams(mature_epoch=2), sds=SdsParams(settlement="all")),
        meta=MetaParams(epoch_seconds=EPOCH_SECONDS, status_seconds=STATUS_SECONDS, dispute_seconds=2.0, copies=3),
        value_consensus=PACE,
        meta_consensus=PACE,
        accounts=user_accounts(seed)
        + tuple(GenesisAccount(address=address, balance_wei=str(STOS)) for address in carriers),
        validators=genesis_validators(scenario),
        meta_nodes=tuple(node("meta", index, 100 * STOS) for index in range(len(authorities.weights))),
        resource_nodes=tuple(node("holder", index, 800 * STOS) for index in range(HOLDERS)),
        prepays=tuple(
            GenesisPrepay(sender=address, beneficiary=address, amount_wei=str(100 * STOS)) for address in users
        ),
    )


class FullWorld:
    """One run."""

    def __init__(self, scenario: Scenario, parts: Parts, tracer: Tracer) -> None:
        assert scenario.authorities is not None
        self.scenario = scenario
        self.tracer = tracer
        self.clock = Clock()
        self.violations = Violations()
        seed = scenario.seed
        genesis = full_genesis(scenario, scenario.authorities)
        self.value = ValueLayer(scenario, genesis, self.clock, parts=parts, violations=self.violations, tracer=tracer)
        genesis_hash = self.value.ledger.genesis_hash
        logs = [MetaLog(genesis, genesis_hash, parts.meta_machine) for _ in scenario.authorities.weights]
        self.meta = Cluster(
            self.clock,
            name="meta",
            layer="meta",
            seed=seed,
            genesis_hash=genesis_hash,
            membership=scenario.authorities,
            machines=lambda index, _validators: logs[index],
            faults=scenario.faults,
            violations=self.violations,
            core=parts.core,
            params=genesis.meta_consensus,
            validators=logs[0].validators.validators,
            trace=tracer,
            genesis_time_ms=genesis.time_ms,
        )
        self.monitor = MetaMonitor(self.violations, self.value, Ledger(genesis).init_genesis(State().fork()))
        self._newest = 0
        self.meta.on_commit = lambda node, effect: self._on_meta_block(node, effect.block.header.height)
        until = scenario.heal + PROGRESS_SECONDS
        desk = Desk(self.meta, genesis_hash=genesis_hash, seed=seed)
        self.authorities = [Authority(node, desk, self.value, seed=seed) for node in self.meta.nodes]
        holders = {key.address: key for key in (sim_key(seed, "holder", index) for index in range(HOLDERS))}
        self.heartbeats = Heartbeats(desk, holders, every=STATUS_SECONDS * 0.6, until=until)
        self.users = [
            User(
                desk,
                sim_wallet(seed, f"user{number}"),
                holders,
                random.Random(f"{seed}/user/{number}"),
                until=scenario.heal,
            )
            for number in range(2)
        ]

    def _on_meta_block(self, node: SimNode, height: int) -> None:
        if height > self._newest:
            self._newest = height
            self.monitor.on_block(log_of(node).state)

    @property
    def log(self) -> State:
        """Committed state of the furthest honest authority."""
        return log_of(max(self.meta.honest, key=lambda node: (node.height, -node.index))).state

    def run(self) -> Outcome:
        try:
            self._run()
        except InvariantBroken as error:
            self.violations.add(f"meta: {error}")
        return outcome_of(self.scenario, [self.value.cluster, self.meta], self.clock, self.violations, self.tracer)

    def _run(self) -> None:
        heal = self.scenario.heal
        self.value.cluster.start()
        self.meta.start()
        self.value.schedule_load(self.clock)
        self.clock.run(heal, lambda: bool(self.violations.found))
        judge_progress(self.clock, [self.value.cluster, self.meta], self.violations, heal=heal)
        self._judge_bridge(heal)
        self.value.check()
        check_light_client(
            self.meta, self.meta.monitor.sets[1], layer="meta", genesis_hash=self.value.ledger.genesis_hash
        )
        self.monitor.check_end(self.log)

    def _judge_bridge(self, heal: float) -> None:
        """The log reaches the chain's height of now, and the report in flight now gets its answer."""
        goal = self.value.cluster.height
        waiting = IN_FLIGHT.get(self.log)

        def reached() -> bool:
            state = self.log
            answered = not waiting or IN_FLIGHT.get(state) != waiting
            return bool(self.violations.found) or (CHAIN_HEIGHT.get(state) >= goal and answered)

        self.clock.run(heal + 2 * PROGRESS_SECONDS, reached)
        if not reached():
            self.violations.add(
                f"meta: the log follows the chain up to {CHAIN_HEIGHT.get(self.log)} of {goal}, report in flight: "
                f"{IN_FLIGHT.get(self.log)}, {PROGRESS_SECONDS:.0f} s after both layers went on"
            )


def run_full(scenario: Scenario, parts: Parts, tracer: Tracer) -> Outcome:
    """Both layers with the bridge."""
    return FullWorld(scenario, parts, tracer).run()
