"""A simulated shell: carries out a real Replica's effects in virtual time, on a disk that forgets what was not synced.

Effects are done one by one, and a crash may fall between any two of them: the synced log, a random part of the
unsynced one and the store survive, all else is gone. Application work goes through one queue per node, in order, each
piece taking a drawn time, as with a worker thread. A program that does not know the rules of the next block halts, and stays down
until another one is installed. Liars are subclasses in `liars`.
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from stratos.bft import events
from stratos.bft.blocks import header_hash
from stratos.bft.height import Tip
from stratos.bft.replica import Replica
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import NodeKey
from stratos.ledger.rulebook import UnknownRules
from stratos.sim.clock import Clock
from stratos.sim.faults import Crash
from stratos.sim.machine import Machine
from stratos.wire.block import CommittedBlock, ConsensusMessage


class Surroundings(Protocol):
    """What a node needs of its cluster."""

    clock: Clock
    rng: random.Random

    def make_replica(self, node: "SimNode", tip: Tip) -> Replica: ...

    def adopt_set(self, validators: ValidatorSet) -> ValidatorSet: ...

    def transmit(self, node: "SimNode", message: ConsensusMessage, target: bytes | None) -> None: ...

    def committed(self, node: "SimNode", effect: events.CommitBlock, validators: ValidatorSet) -> None: ...

    def complain(self, node: "SimNode", effect: events.Effect) -> None: ...

    def went_up(self, node: "SimNode") -> None: ...

    def went_down(self, node: "SimNode") -> None: ...

    def trace(self, node: "SimNode", event: events.Event) -> None: ...


class SimNode:
    """One node: disk, incarnation, machine, replica."""

    lies = False

    def __init__(
        self, index: int, key: NodeKey, cluster: Surroundings, machine: Machine, genesis: Tip, *, skew: float
    ) -> None:
        self.index = index
        self.key = key
        self.machine = machine
        self.replica: Replica | None = None
        self.blocks: dict[int, CommittedBlock] = {}
        """The store: durable."""
        self.halted: UnknownRules | None = None
        """Why the program ended by itself, until another one is started."""
        self._cluster = cluster
        self._genesis = genesis
        self._sets = {
            genesis.height: genesis.voters,
            genesis.height + 1: genesis.validators,
            genesis.height + 2: genesis.next_validators,
        }
        self._synced = bytearray()
        self._unsynced = bytearray()
        self._skew = skew
        self._life = 0
        self._timers: dict[int, int] = {}
        self._queue: deque[Callable[[], None]] = deque()
        self._plans: list[Crash] = []
        self._countdown: dict[int, int] = {}

    @property
    def height(self) -> int:
        """Committed and stored height."""
        return max(self.blocks, default=self._genesis.height)

    @property
    def is_up(self) -> bool:
        return self.replica is not None

    def start(self) -> None:
        """Come up from what is on disk."""
        height = self.height
        tip = self._genesis
        if height > tip.height:
            stored = self.blocks[height]
            tip = Tip(
                height=height,
                block_hash=header_hash(stored.block.header),
                time_ms=stored.block.header.time_ms,
                commit=stored.commit,
                voters=self._sets[height],
                validators=self._sets[height + 1],
                next_validators=self._sets[height + 2],
            )
        try:
            self.machine.restart(height)
        except UnknownRules as error:
            self.halted = error
            return
        self.halted = None
        self._life += 1
        self.replica = self._cluster.make_replica(self, tip)
        self.feed(events.Start(bytes(self._synced)))
        self._cluster.went_up(self)

    def plan_crash(self, fault: Crash) -> None:
        """The fault is armed from now on."""
        self._plans.append(fault)
        self._countdown[id(fault)] = fault.effects

    def crash(self, down: float) -> None:
        """Die now, come up again after `down` seconds."""
        if self.replica is None:
            return
        self._go_down(self._cluster.rng.randint(0, len(self._unsynced)))
        self._cluster.clock.after(down, self.revive)

    def _halt(self, error: UnknownRules) -> None:
        """End as the program does on its own: whatever it wrote is kept."""
        self.halted = error
        self._go_down(len(self._unsynced))

    def _go_down(self, survivors: int) -> None:
        self._synced += self._unsynced[:survivors]
        self._unsynced.clear()
        self.replica = None
        self._life += 1
        self._timers.clear()
        self._queue.clear()
        self._cluster.went_down(self)

    def revive(self) -> None:
        """Come up unless already up."""
        if self.replica is None:
            self.start()

    def feed(self, event: events.Event) -> None:
        """Hand an event to the replica and carry out what it wants."""
        if self.replica is None:
            return
        self._cluster.trace(self, event)
        now = self._cluster.clock.now
        for effect in self.replica.handle(event, now + self.index, self._cluster.clock.wall_ms(self._skew)):
            if self._dies_before(effect):
                return
            self._perform(effect)

    def offer(self, entry: bytes) -> None:
        """An entry reaches the node's pool."""
        if self.replica is not None:
            self.machine.offer(entry)
            if self.machine.has_work():
                self.feed(events.WorkAvailable())

    def _dies_before(self, effect: events.Effect) -> bool:
        for fault in self._plans:
            if fault.before not in ("any", type(effect).__name__):
                continue
            self._countdown[id(fault)] -= 1
            if self._countdown[id(fault)] < 0:
                self._plans.remove(fault)
                self.crash(fault.down)
                return True
        return False

    def _perform(self, effect: events.Effect) -> None:
        cluster = self._cluster
        match effect:
            case events.WriteWal():
                self._unsynced += effect.data
                if effect.sync:
                    self._synced += self._unsynced
                    self._unsynced.clear()
            case events.ReplaceWal():
                self._synced = bytearray(effect.data)
                self._unsynced.clear()
            case events.Broadcast():
                self.send(effect.message, None)
            case events.SendTo():
                self.send(effect.message, effect.peer)
            case events.SetTimeout():
                self._set_timer(effect)
            case events.RequestProposal():
                self._enqueue(lambda: self._propose(effect))
            case events.RequestVerify():
                self._enqueue(lambda: self._verify(effect))
            case events.CommitBlock():
                self._enqueue(lambda: self._commit(effect))
            case events.ReadBlock():
                stored = self.blocks.get(effect.height)
                if stored is not None:
                    self.send(stored, effect.peer)
            case events.Evidence() | events.Refused() | events.Halt():
                cluster.complain(self, effect)

    def send(self, message: ConsensusMessage, target: bytes | None) -> None:
        """Put a message on the wire, to one peer or all."""
        self._cluster.transmit(self, message, target)

    def _set_timer(self, effect: events.SetTimeout) -> None:
        token = self._timers[effect.id] = self._timers.get(effect.id, 0) + 1
        life = self._life

        def fire() -> None:
            if self._life == life and self._timers.get(effect.id) == token:
                self.feed(events.Timeout(effect.id))

        self._cluster.clock.after(effect.delay_seconds, fire)

    def _enqueue(self, task: Callable[[], None]) -> None:
        self._queue.append(task)
        if len(self._queue) == 1:
            self._work()

    def _work(self) -> None:
        life = self._life

        def finish() -> None:
            if self._life != life:
                return
            try:
                self._queue[0]()
            except UnknownRules as error:
                self._halt(error)
            if self._life == life:
                self._queue.popleft()
                if self._queue:
                    self._work()

        self._cluster.clock.after(self._cluster.rng.expovariate(1 / 0.003), finish)

    def _propose(self, effect: events.RequestProposal) -> None:
        if effect.height == self.height + 1:
            block = self.machine.application.propose(effect.template)
            self.feed(events.ProposalReady(effect.height, effect.round, block))

    def _verify(self, effect: events.RequestVerify) -> None:
        if effect.block.header.height == self.height + 1:
            self.machine.prepare(effect.block)
            self.feed(events.Verified(effect.block_hash, self.machine.application.verify(effect.block)))

    def _commit(self, effect: events.CommitBlock) -> None:
        height = effect.block.header.height
        self.machine.prepare(effect.block)
        validators = self._cluster.adopt_set(self.machine.application.commit(effect.block, effect.commit))
        self._sets[height + 2] = validators
        self.blocks[height] = CommittedBlock(effect.block, effect.commit)
        self._cluster.committed(self, effect, validators)
        self.feed(events.Committed(height, validators, self.machine.has_work()))
