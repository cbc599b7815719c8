"""A cluster: the simulated nodes of one layer, their keys, network and monitor, within a shared virtual time.

A world has one cluster (bft, value) or two with the bridge between them (full). Entries are offered to every node that is
up, each after its own delay, as pool gossip would bring them.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from blake3 import blake3

from stratos.bft import events
from stratos.bft.height import Tip, genesis_tip
from stratos.bft.replica import Replica
from stratos.bft.rounds import Rules
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import NodeKey, verify_node
from stratos.sim.clock import START_WALL_MS, Clock
from stratos.sim.faults import Crash, Fault
from stratos.sim.invariants import ConsensusMonitor, Violations
from stratos.sim.liars import Equivocator, Mute
from stratos.sim.machine import Machine
from stratos.sim.network import Network, kind_of
from stratos.sim.node import SimNode
from stratos.wire.block import ConsensusMessage, Proposal, Validator, Vote
from stratos.wire.genesis import ConsensusParams

verify_once = lru_cache(maxsize=1 << 17)(verify_node)
"""A signature is right or wrong for ever: all nodes of a simulation share the answers."""

FAST = ConsensusParams(
    block_seconds=0.3,
    min_block_seconds=0.05,
    propose_timeout_seconds=0.4,
    vote_timeout_seconds=0.2,
    timeout_delta_seconds=0.1,
    message_delay_seconds=4.0,
)


@dataclass(frozen=True)
class Core:
    """The consensus core under test; mutation checks put a broken one here."""

    replica: type[Replica] = Replica
    rules: type[Rules] = Rules
    validator_set: type[ValidatorSet] = ValidatorSet


@dataclass(frozen=True)
class Membership:
    """Who takes part: weight per node (0: follows only), and which nodes lie, how."""

    weights: tuple[int, ...]
    equivocators: frozenset[int] = frozenset()
    mutes: frozenset[int] = frozenset()


def sim_key(seed: int, cluster: str, index: int) -> NodeKey:
    """Key of a simulated node."""
    return NodeKey(blake3(f"{seed}/{cluster}/{index}".encode()).digest())


class Cluster:
    """Nodes of one layer; implements what `SimNode` needs of its surroundings."""

    def __init__(
        self,
        clock: Clock,
        *,
        name: str,
        layer: str,
        seed: int,
        genesis_hash: bytes,
        membership: Membership,
        machines: Callable[[int, ValidatorSet], Machine],
        faults: Sequence[Fault],
        violations: Violations,
        core: Core = Core(),
        params: ConsensusParams = FAST,
        validators: Sequence[Validator] | None = None,
        trace: Callable[[bytes], None] = lambda _line: None,
        genesis_time_ms: int = START_WALL_MS,
    ) -> None:
        self.clock = clock
        self.name = name
        self.rng = random.Random(f"{seed}/{name}/nodes")
        self._layer = layer
        self._genesis_hash = genesis_hash
        self._params = params
        self._core = core
        self._trace = trace
        self._network = Network(clock, random.Random(f"{seed}/{name}/network"), cluster=name, faults=faults)
        keys = [sim_key(seed, name, index) for index in range(len(membership.weights))]
        if validators is None:
            validators = [
                Validator(key.address, key.public_key, weight)
                for key, weight in zip(keys, membership.weights, strict=True)
                if weight > 0
            ]
        genesis_set = core.validator_set(validators)
        lying = membership.equivocators | membership.mutes
        self.monitor = ConsensusMonitor(
            violations,
            cluster=name,
            layer=layer,
            genesis_hash=genesis_hash,
            initial_height=1,
            validators=genesis_set,
            liars=frozenset(keys[index].address for index in lying),
            verify=verify_once,
        )
        self._validator_set = core.validator_set
        tip = genesis_tip(time_ms=genesis_time_ms, initial_height=1, validators=genesis_set)
        self.nodes: list[SimNode] = []
        for index, key in enumerate(keys):
            kind = Equivocator if index in membership.equivocators else Mute if index in membership.mutes else SimNode
            node = kind(index, key, self, machines(index, genesis_set), tip, skew=self.rng.uniform(-0.12, 0.12))
            if isinstance(node, Equivocator):
                node.genesis_hash, node.layer = genesis_hash, layer
                node.peers = tuple(other.address for other in keys if other is not key)
            self.nodes.append(node)
        self._by_address = {node.key.address: node for node in self.nodes}
        self.honest = [node for node in self.nodes if not node.lies]
        self.on_commit: Callable[[SimNode, events.CommitBlock], None] = lambda _node, _effect: None
        self.on_evidence: Callable[[events.Evidence], None] = lambda _effect: None
        for fault in faults:
            if isinstance(fault, Crash) and fault.cluster == name:
                node = self.nodes[fault.node]
                clock.after(fault.start, lambda node=node, fault=fault: node.plan_crash(fault))  # type: ignore[misc]

    @property
    def height(self) -> int:
        """Highest height committed by an honest node."""
        return max(node.height for node in self.honest)

    @property
    def lowest(self) -> int:
        """Lowest height committed by an honest node, dead ones included."""
        return min(node.height for node in self.honest)

    def start(self) -> None:
        """Bring all nodes up within a moment."""
        for node in self.nodes:
            self.clock.after(self.rng.uniform(0.0, 0.1), node.start)

    def offer(self, entry: bytes) -> None:
        """Spread an entry to every node's pool."""
        for node in self.nodes:
            self.clock.after(self.rng.expovariate(1 / 0.02), lambda node=node: node.offer(entry))  # type: ignore[misc]

    def adopt_set(self, validators: ValidatorSet) -> ValidatorSet:
        """The set as the core under test sees it."""
        kind = self._validator_set
        return validators if type(validators) is kind else kind(validators)

    def make_replica(self, node: SimNode, tip: Tip) -> Replica:
        return self._core.replica(
            layer=self._layer,
            genesis_hash=self._genesis_hash,
            params=self._params,
            tip=tip,
            address=node.key.address,
            sign=node.key.sign,
            verify=verify_once,
            rules=self._core.rules(),
        )

    def transmit(self, node: SimNode, message: ConsensusMessage, target: bytes | None) -> None:
        if not node.lies:
            self.monitor.on_sent(message)
        for peer in self.nodes:
            if peer is node or (target is not None and peer.key.address != target):
                continue
            if peer.is_up:
                self._network.send(node.index, peer.index, message, self._delivery(node, peer, message))

    def _delivery(self, node: SimNode, peer: SimNode, message: ConsensusMessage) -> Callable[[], None]:
        return lambda: peer.feed(events.Received(node.key.address, message))

    def committed(self, node: SimNode, effect: events.CommitBlock, validators: ValidatorSet) -> None:
        if not node.lies:
            self.monitor.on_commit(
                node.index,
                effect.block,
                effect.commit,
                state_root=node.machine.state_root,
                validators=validators,
            )
            self.on_commit(node, effect)

    def complain(self, node: SimNode, effect: events.Effect) -> None:
        if node.lies:
            return
        match effect:
            case events.Evidence(validator):
                self.monitor.on_evidence(validator)
                self.on_evidence(effect)
            case events.Refused(peer, reason):
                self.monitor.on_refused(peer, reason)
            case events.Halt(reason):
                self.monitor.blame(f"node {node.index} halted: {reason}")

    def went_up(self, node: SimNode) -> None:
        for peer in self.nodes:
            if peer is not node and peer.is_up:
                self._link(node, peer)
                self._link(peer, node)

    def _link(self, node: SimNode, peer: SimNode) -> None:
        self.clock.after(self.rng.uniform(0.0, 0.05), lambda: node.feed(events.PeerUp(peer.key.address)))

    def went_down(self, node: SimNode) -> None:
        for peer in self.nodes:
            if peer is not node:
                peer.feed(events.PeerDown(node.key.address))

    def trace(self, node: SimNode, event: events.Event) -> None:
        detail = type(event).__name__
        if isinstance(event, events.Received):
            message = event.message
            detail = f"{kind_of(message)} from {self._by_address[event.peer].index}"
            if isinstance(message, Vote):
                detail += f" {message.height}/{message.round}/{message.index} {message.block_hash.hex()[:8]}"
            elif isinstance(message, Proposal):
                detail += f" {message.height}/{message.round}"
            else:
                detail += f" {type(message).__name__}"
        elif isinstance(event, events.Timeout):
            detail += f" {event.id}"
        self._trace(f"{self.clock.now:.6f} {self.name}-{node.index} {detail}\n".encode())
