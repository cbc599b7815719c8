"""The value layer in virtual time: bft with stake weights, mempool, ledger, evidence and changing voters.

Users send, prepay, delegate to honest validators and take it back; whoever notices a validator voting twice puts the
proof on the chain, so liars lose their seat and the set changes under way. Besides the consensus invariants, money must
add up: all balances together are the supply.
"""

import random
from collections.abc import Callable

from stratos.bft.events import Evidence
from stratos.ledger import bank
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import NEWEST_RULES
from stratos.sim.chain_machine import ChainMachine
from stratos.sim.clock import START_WALL_MS, Clock
from stratos.sim.cluster import FAST, Cluster, sim_key
from stratos.sim.invariants import Violations
from stratos.sim.judging import Outcome, Parts, Tracer, check_light_client, judge_progress, outcome_of
from stratos.sim.node import SimNode
from stratos.sim.scenario import Scenario
from stratos.sim.wallets import Wallets, sim_wallet
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisValidator
from stratos.wire.txs import Delegate, DoubleSignEvidence, Message, Prepay, Send, Undelegate

STOS = 10**18
POWER_WEI = 10**15
USERS = 4


def chain_of(node: SimNode) -> ChainMachine:
    """The chain machine of a node of the value cluster."""
    assert isinstance(node.machine, ChainMachine)
    return node.machine


def genesis_validators(scenario: Scenario) -> tuple[GenesisValidator, ...]:
    """Every voter of the scenario as a validator with its weight as stake."""
    return tuple(
        GenesisValidator(
            operator=sim_wallet(scenario.seed, f"operator{index}").address,
            node_public_key=sim_key(scenario.seed, "value", index).public_key,
            stake_wei=str(weight * POWER_WEI),
        )
        for index, weight in enumerate(scenario.membership.weights)
        if weight > 0
    )


def user_accounts(seed: int) -> tuple[GenesisAccount, ...]:
    """Users with money, and the one who reports liars."""
    names = [*(f"user{number}" for number in range(USERS)), "witness"]
    return tuple(
        GenesisAccount(address=sim_wallet(seed, name).address, balance_wei=str(10_000 * STOS)) for name in names
    )


class ValueLayer:
    """The value cluster with its senders."""

    def __init__(
        self,
        scenario: Scenario,
        genesis: Genesis,
        clock: Clock,
        *,
        parts: Parts,
        violations: Violations,
        tracer: Tracer,
        known_rules: Callable[[int], int] = lambda _index: NEWEST_RULES,
    ) -> None:
        """`known_rules(index)`: newest version of the ledger's rules that the program of a node applies."""
        self.genesis = genesis
        self.ledger = Ledger(genesis)
        self.scenario = scenario
        self.violations = violations
        machines = [
            ChainMachine(Ledger(genesis, newest_rules=known_rules(index)))
            for index in range(len(scenario.membership.weights))
        ]
        self.cluster = Cluster(
            clock,
            name="value",
            layer="value",
            seed=scenario.seed,
            genesis_hash=self.ledger.genesis_hash,
            membership=scenario.membership,
            machines=lambda index, _validators: machines[index],
            faults=scenario.faults,
            violations=violations,
            core=parts.core,
            params=genesis.value_consensus,
            validators=machines[0].validators.validators,
            trace=tracer,
            genesis_time_ms=genesis.time_ms,
        )
        self.wallets = Wallets(
            clock,
            genesis_hash=self.ledger.genesis_hash,
            offer=self.cluster.offer,
            committed=lambda: chain_of(self.best).state,
        )
        self._accused: set[bytes] = set()
        self.cluster.on_evidence = self._accuse

    @property
    def best(self) -> SimNode:
        """The honest node that is furthest."""
        return max(self.cluster.honest, key=lambda node: (node.height, -node.index))

    def _accuse(self, effect: Evidence) -> None:
        # In every other seed nobody reports liars, so that they go on lying to the end.
        if effect.validator in self._accused or self.scenario.seed % 2:
            return
        self._accused.add(effect.validator)
        proof = DoubleSignEvidence(effect.validator, encode(effect.vote_a), encode(effect.vote_b))
        self.wallets.send(sim_wallet(self.scenario.seed, "witness"), proof)

    def schedule_load(self, clock: Clock) -> None:
        """Spread the scenario's transactions over the time until heal."""
        seed = self.scenario.seed
        rng = random.Random(f"{seed}/load")
        delegated: dict[tuple[int, bytes], int] = {}
        for moment in sorted(rng.uniform(0.0, self.scenario.heal) for _ in range(self.scenario.load)):
            user = rng.randrange(USERS)
            message = self._message(rng, user, delegated)
            clock.after(moment, self._sending(user, message))

    def _sending(self, user: int, message: Message) -> Callable[[], None]:
        return lambda: self.wallets.send(sim_wallet(self.scenario.seed, f"user{user}"), message)

    def _message(self, rng: random.Random, user: int, delegated: dict[tuple[int, bytes], int]) -> Message:
        seed = self.scenario.seed
        membership = self.scenario.membership
        liars = membership.equivocators | membership.mutes
        honest = [index for index, weight in enumerate(membership.weights) if weight > 0 and index not in liars]
        validator = sim_key(seed, "value", rng.choice(honest)).address
        choice = rng.random()
        amount = rng.randrange(1, 100) * POWER_WEI
        if choice < 0.5:
            return Send(sim_wallet(seed, f"user{rng.randrange(USERS)}").address, str(amount))
        if choice < 0.65:
            return Prepay(sim_wallet(seed, f"user{rng.randrange(USERS)}").address, str(amount))
        known = delegated.get((user, validator), 0)
        if choice < 0.85 or known == 0:
            delegated[user, validator] = known + amount
            return Delegate(validator, str(amount))
        part = rng.randrange(1, known // POWER_WEI + 1) * POWER_WEI
        delegated[user, validator] = known - part
        return Undelegate(validator, str(part))

    def check(self) -> None:
        """What must hold at the end beside consensus."""
        for node in self.cluster.honest:
            state = chain_of(node).state
            held = sum(amount for _, amount in bank.BALANCES.items(state))
            if held != bank.supply(state):
                self.cluster.monitor.blame(f"node {node.index} counts {held} wei, its supply is {bank.supply(state)}")
        check_light_client(
            self.cluster, self.cluster.monitor.sets[1], layer="value", genesis_hash=self.ledger.genesis_hash
        )


def run_value(scenario: Scenario, parts: Parts, tracer: Tracer) -> Outcome:
    """bft + ledger + mempool."""
    clock = Clock()
    violations = Violations()
    genesis = Genesis(
        network="simulation",
        time_ms=START_WALL_MS,
        value_consensus=FAST,
        accounts=user_accounts(scenario.seed),
        validators=genesis_validators(scenario),
    )
    layer = ValueLayer(scenario, genesis, clock, parts=parts, violations=violations, tracer=tracer)
    layer.cluster.start()
    layer.schedule_load(clock)
    clock.run(scenario.heal, lambda: bool(violations.found))
    judge_progress(clock, [layer.cluster], violations, heal=scenario.heal)
    layer.check()
    return outcome_of(scenario, [layer.cluster], clock, violations, tracer)
