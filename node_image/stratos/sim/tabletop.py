"""Replicas on a table: the real cores with key-value machines, no faults of their own, every message in the caller's hand.

For tests of one situation and for measuring the core alone: messages wait in one queue and are delivered in order,
unless `drop` says no; application work is done at once; time stands still until `advance`.
"""

from collections import deque
from collections.abc import Callable, Sequence

from blake3 import blake3

from stratos.bft import events
from stratos.bft.blocks import header_hash
from stratos.bft.height import Tip, genesis_tip
from stratos.bft.replica import Replica
from stratos.bft.signing import Verifier
from stratos.crypto.keys import verify_node
from stratos.sim.clock import START_WALL_MS
from stratos.sim.cluster import FAST, Core, sim_key
from stratos.sim.machine import KeyValue
from stratos.wire.block import CommittedBlock, ConsensusMessage, Validator
from stratos.wire.genesis import ConsensusParams

GENESIS_HASH = blake3(b"tabletop").digest()
LAYER = "value"


class Seat:
    """One replica with its machine, log, store and timers."""

    def __init__(self, replica: Replica, machine: KeyValue) -> None:
        self.replica = replica
        self.machine = machine
        self.log = b""
        self.blocks: dict[int, CommittedBlock] = {}
        self.timers: dict[int, float] = {}
        self.effects: list[events.Effect] = []
        self.is_up = False


class Tabletop:
    """`weights` gives the voters; further seats may follow with weight 0."""

    def __init__(
        self,
        weights: Sequence[int] = (1, 1, 1, 1),
        *,
        params: ConsensusParams = FAST,
        core: Core = Core(),
        verify: Verifier = verify_node,
        keep_effects: bool = True,
    ) -> None:
        self.keys = sorted(
            (sim_key(0, "tabletop", index) for index in range(len(weights))), key=lambda key: key.address
        )
        self.validators = core.validator_set(
            Validator(key.address, key.public_key, weight)
            for key, weight in zip(self.keys, weights, strict=True)
            if weight
        )
        self.params = params
        self.core = core
        self.now = 0.0
        self.commits = 0
        """Blocks committed by all seats together."""
        self.drop: Callable[[int, int, ConsensusMessage], bool] = lambda _source, _target, _message: False
        self.queue: deque[tuple[int, events.Event]] = deque()
        self._verify = verify
        self._keep = keep_effects
        self._index = {key.address: index for index, key in enumerate(self.keys)}
        tip = genesis_tip(time_ms=START_WALL_MS, initial_height=1, validators=self.validators)
        self.seats = [Seat(self.make_replica(index, tip), KeyValue(self.validators)) for index in range(len(weights))]

    def make_replica(self, index: int, tip: Tip) -> Replica:
        """A fresh replica of a seat."""
        return self.core.replica(
            layer=LAYER,
            genesis_hash=GENESIS_HASH,
            params=self.params,
            tip=tip,
            address=self.keys[index].address,
            sign=self.keys[index].sign,
            verify=self._verify,
            rules=self.core.rules(),
        )

    def proposer(self, height: int = 1, round_number: int = 0) -> int:
        """Seat of the proposer."""
        return self._index[self.validators.proposer(height, round_number).address]

    def start(self, *indices: int) -> None:
        """Start these seats (all, when none is named) and link everybody."""
        for index in indices or range(len(self.seats)):
            self.seats[index].is_up = True
            self.feed(index, events.Start(self.seats[index].log))
            for other, key in enumerate(self.keys):
                if other != index:
                    self.feed(index, events.PeerUp(key.address))

    def restart(self, index: int) -> None:
        """Crash a seat and start it again from its log and store."""
        seat = self.seats[index]
        tip = genesis_tip(time_ms=START_WALL_MS, initial_height=1, validators=self.validators)
        if seat.blocks:
            height = max(seat.blocks)
            stored = seat.blocks[height]
            tip = Tip(
                height=height,
                block_hash=header_hash(stored.block.header),
                time_ms=stored.block.header.time_ms,
                commit=stored.commit,
                voters=self.validators,
                validators=self.validators,
                next_validators=self.validators,
            )
        seat.machine.restart(tip.height)
        seat.replica = self.make_replica(index, tip)
        seat.timers.clear()
        self.queue = deque((target, event) for target, event in self.queue if target != index)
        self.start(index)

    def wall_ms(self) -> int:
        """Everybody's clock."""
        return START_WALL_MS + 1 + int(self.now * 1000)

    def feed(self, index: int, event: events.Event) -> list[events.Effect]:
        """Give an event to a seat and carry out what it wants; the effects."""
        seat = self.seats[index]
        if not seat.is_up:
            return []
        effects = seat.replica.handle(event, self.now, self.wall_ms())
        if self._keep:
            seat.effects.extend(effects)
        for effect in effects:
            self._perform(index, seat, effect)
        return effects

    def _perform(self, index: int, seat: Seat, effect: events.Effect) -> None:
        match effect:
            case events.Broadcast(message):
                for target in range(len(self.seats)):
                    if target != index:
                        self._send(index, target, message)
            case events.SendTo(peer, message):
                self._send(index, self._index[peer], message)
            case events.WriteWal(data):
                seat.log += data
            case events.ReplaceWal(data):
                seat.log = data
            case events.SetTimeout(timer, delay):
                seat.timers[timer] = self.now + delay
            case events.RequestProposal(height, round_number, template):
                block = seat.machine.propose(template)
                self.queue.append((index, events.ProposalReady(height, round_number, block)))
            case events.RequestVerify(block_hash, block):
                if block.header.height == seat.machine.height + 1:
                    self.queue.append((index, events.Verified(block_hash, seat.machine.verify(block))))
            case events.CommitBlock(_, block, commit):
                validators = seat.machine.commit(block, commit)
                seat.blocks[block.header.height] = CommittedBlock(block, commit)
                self.commits += 1
                committed = events.Committed(block.header.height, validators, seat.machine.has_work())
                self.queue.append((index, committed))
            case events.ReadBlock(peer, height):
                self._send(index, self._index[peer], seat.blocks[height])

    def _send(self, source: int, target: int, message: ConsensusMessage) -> None:
        if not self.drop(source, target, message):
            self.queue.append((target, events.Received(self.keys[source].address, message)))

    def settle(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Deliver until nothing waits or `stop`."""
        while self.queue and not stop():
            index, event = self.queue.popleft()
            self.feed(index, event)

    def advance(self, seconds: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, firing timers in order and delivering all that follows."""
        end = self.now + seconds
        self.settle(stop)
        while not stop():
            due = [
                (at, index, timer)
                for index, seat in enumerate(self.seats)
                for timer, at in seat.timers.items()
                if at <= end
            ]
            if not due:
                break
            at, index, timer = min(due)
            self.now = max(self.now, at)
            del self.seats[index].timers[timer]
            self.feed(index, events.Timeout(timer))
            self.settle(stop)
        if not stop():
            self.now = end

    def heights(self) -> list[int]:
        """Committed height of each seat."""
        return [max(seat.blocks, default=0) for seat in self.seats]

    def sent(self, index: int) -> list[ConsensusMessage]:
        """Everything a seat broadcast so far."""
        return [effect.message for effect in self.seats[index].effects if isinstance(effect, events.Broadcast)]
