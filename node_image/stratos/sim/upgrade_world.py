"""The value layer while its rules change: some nodes run a program that does not know the new version.

Operators propose and vote until a plan is approved, under the faults of the seed. What must hold beside the value world's
invariants: until the planned height programs old and new make the same blocks (the monitor compares every root); an old
program stops exactly there, with the one error that says so, and never has a block of the new rules; a store it leaves behind
is taken up by the new program, which catches up; the changed rule applies from that height on and not before.

Old programs are replaced at `heal`, those that have halted and those that have not; when too much power runs them, the
chain stands still until then.
"""

import random

from stratos.crypto.keys import NodeKey
from stratos.ledger import rulebook, upgrades
from stratos.ledger.events import OZONE_BOUGHT, attributes
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import NEWEST_RULES, InForce
from stratos.sim.clock import START_WALL_MS, Clock
from stratos.sim.cluster import FAST, sim_key
from stratos.sim.invariants import Violations
from stratos.sim.judging import Outcome, Parts, Tracer, judge_progress, outcome_of
from stratos.sim.node import SimNode
from stratos.sim.scenario import PROGRESS_SECONDS, Scenario
from stratos.sim.value_world import STOS, USERS, ValueLayer, chain_of, genesis_validators, user_accounts
from stratos.sim.wallets import sim_wallet
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, LedgerParams
from stratos.wire.txs import Prepay, ProposeUpgrade, VoteUpgrade

OLD_RULES = 1
NOTICE_BLOCKS = 4
LOOK_SECONDS = 0.7
DUST_SECONDS = 0.35


class UpgradeLayer(ValueLayer):
    """The value cluster with nodes of two programs, its operators, and a wallet that prepays dust."""

    def __init__(
        self,
        scenario: Scenario,
        genesis: Genesis,
        clock: Clock,
        *,
        parts: Parts,
        violations: Violations,
        tracer: Tracer,
        old: frozenset[int] | None = None,
    ) -> None:
        self._rng = random.Random(f"{scenario.seed}/upgrade")
        membership = scenario.membership
        honest = [
            index for index in range(len(membership.weights)) if index not in membership.equivocators | membership.mutes
        ]
        drawn = self._rng.sample(honest, self._rng.choice((0, 1, 1, 1, len(honest))))
        self.old = frozenset(drawn) if old is None else old
        """Nodes that begin with the old program."""
        super().__init__(
            scenario,
            genesis,
            clock,
            parts=parts,
            violations=violations,
            tracer=tracer,
            known_rules=lambda index: OLD_RULES if index in self.old else NEWEST_RULES,
        )
        self._clock = clock
        self._voters = [index for index in honest if membership.weights[index] > 0]
        self._asked: dict[int, tuple[int, int]] = {}
        """What each operator last proposed or voted for: (version, height)."""
        self._dust = 0

    def govern(self) -> None:
        """Operators look now and then, propose when nothing is under way, and vote for what is proposed."""
        state = chain_of(self.best).state
        if rulebook.rules(state).version == NEWEST_RULES or rulebook.plan(state) is not None:
            return
        height = self.best.height
        polls = [poll for _, poll in upgrades.POLLS.items(state) if poll.height > height + 1]
        if polls:
            wanted = (polls[0].rules_version, polls[0].height)
            for index in self._voters:
                if self._key(index).address not in polls[0].approvals and self._asked.get(index) != wanted:
                    self._asked[index] = wanted
                    self._send(index, VoteUpgrade(self._key(index).address, *wanted, approve=True))
        else:
            proposer = self._rng.choice(self._voters)
            wanted = (NEWEST_RULES, height + NOTICE_BLOCKS + self._rng.randrange(4, 20))
            self._asked[proposer] = wanted
            self._send(proposer, ProposeUpgrade(self._key(proposer).address, *wanted))
        self._clock.after(LOOK_SECONDS, self.govern)

    def prepay_dust(self) -> None:
        """One wei, again and again: it buys nothing, which is what the two versions differ in."""
        if self._clock.now < self.scenario.heal:
            self._dust += 1
            wallet = sim_wallet(self.scenario.seed, f"user{self._dust % USERS}")
            self.wallets.send(wallet, Prepay(wallet.address, "1"))
            self._clock.after(DUST_SECONDS, self.prepay_dust)

    def install_everywhere(self) -> None:
        """The new program replaces every old one, whether it runs or has halted."""
        for index in sorted(self.old):
            node = self.cluster.nodes[index]
            self._judge_halt(node)
            chain_of(node).install(Ledger(self.genesis))
            if node.is_up:
                node.crash(0.05)
            else:
                self._clock.after(0.05, node.revive)

    def in_force_everywhere(self) -> bool:
        """Every honest node has committed a block of the new rules."""
        return all(self._holding(node).version == NEWEST_RULES for node in self.cluster.honest)

    def check(self) -> None:
        super().check()
        found = {self._holding(node) for node in self.cluster.honest}
        if len(found) != 1 or next(iter(found)).version != NEWEST_RULES:
            self.cluster.monitor.blame(
                f"rules in force at the end: {sorted((i.version, i.since_height) for i in found)}"
            )
            return
        since = next(iter(found)).since_height
        store = chain_of(self.best).chain.store
        for height in range(since, self.best.height + 1):
            results = store.results(height)
            for event in [] if results is None else [event for result in results.results for event in result.events]:
                if event.kind == OZONE_BOUGHT and attributes(event)["noz"] == "0":
                    self.cluster.monitor.blame(f"block {height} sold 0 noz although version {NEWEST_RULES} holds")

    def _judge_halt(self, node: SimNode) -> None:
        state, error = chain_of(node).state, node.halted
        if rulebook.rules(state).version > OLD_RULES:
            self.cluster.monitor.blame(
                f"old program of node {node.index} has executed block {node.height} of new rules"
            )
        if error is None:
            return
        planned = rulebook.plan(state)
        if planned is None or (error.version, error.since_height) != (NEWEST_RULES, planned.height):
            self.cluster.monitor.blame(f"node {node.index} halted without cause: {error}")
        elif node.height != planned.height - 1:
            self.cluster.monitor.blame(
                f"node {node.index} halted at {node.height} for rules of height {planned.height}"
            )

    def _holding(self, node: SimNode) -> InForce:
        return rulebook.rules(chain_of(node).state)

    def _key(self, index: int) -> NodeKey:
        return sim_key(self.scenario.seed, "value", index)

    def _send(self, index: int, message: ProposeUpgrade | VoteUpgrade) -> None:
        self.wallets.send(sim_wallet(self.scenario.seed, f"operator{index}"), message)


def upgrade_genesis(scenario: Scenario) -> Genesis:
    """The value world's genesis with ozone for sale and operators that can pay fees."""
    operators = tuple(
        GenesisAccount(address=sim_wallet(scenario.seed, f"operator{index}").address, balance_wei=str(STOS))
        for index, weight in enumerate(scenario.membership.weights)
        if weight > 0
    )
    owner = sim_wallet(scenario.seed, "owner").address
    holder = GenesisNode(
        owner=owner,
        beneficiary=owner,
        node_public_key=sim_key(scenario.seed, "holder", 0).public_key,
        deposit_wei=str(STOS),
        effective_wei=str(STOS),
    )
    return Genesis(
        network="simulation",
        time_ms=START_WALL_MS,
        ledger=LedgerParams(upgrade_notice_blocks=NOTICE_BLOCKS),
        value_consensus=FAST,
        accounts=(*user_accounts(scenario.seed), *operators),
        validators=genesis_validators(scenario),
        resource_nodes=(holder,),
    )


def run_upgrade(scenario: Scenario, parts: Parts, tracer: Tracer) -> Outcome:
    """bft + ledger + mempool, across a change of the rules."""
    clock = Clock()
    violations = Violations()
    genesis = upgrade_genesis(scenario)
    layer = UpgradeLayer(scenario, genesis, clock, parts=parts, violations=violations, tracer=tracer)
    layer.cluster.start()
    layer.schedule_load(clock)
    clock.after(0.5, layer.govern)
    clock.after(0.5, layer.prepay_dust)
    clock.run(scenario.heal, lambda: bool(violations.found))
    layer.install_everywhere()
    judge_progress(clock, [layer.cluster], violations, heal=scenario.heal)
    deadline = scenario.heal + 2 * PROGRESS_SECONDS
    clock.run(deadline, lambda: bool(violations.found) or layer.in_force_everywhere())
    layer.check()
    return outcome_of(scenario, [layer.cluster], clock, violations, tracer)
