"""Virtual links: each message takes a drawn time (so messages overtake each other), and faults lose, slow, cut or double it.

Unlike a real link the network does not tell anyone when it is cut: lost messages are just gone, which is the harder
case. Peers learn of crashes and restarts (PeerDown, PeerUp), as they would from a broken connection.
"""

import random
from collections.abc import Callable, Sequence

from stratos.sim.clock import Clock
from stratos.sim.faults import (
    PRECOMMIT_MESSAGE,
    PREVOTE_MESSAGE,
    PROPOSAL,
    REPAIR,
    Deaf,
    Echo,
    Fault,
    Loss,
    Partition,
    Slow,
    Unheard,
)
from stratos.wire.block import PREVOTE, ConsensusMessage, Proposal, Vote


def kind_of(message: ConsensusMessage) -> str:
    """Name of a message's kind, as faults use it."""
    if isinstance(message, Vote):
        return PREVOTE_MESSAGE if message.kind == PREVOTE else PRECOMMIT_MESSAGE
    return PROPOSAL if isinstance(message, Proposal) else REPAIR


class Network:
    """Message delivery within one cluster."""

    def __init__(self, clock: Clock, rng: random.Random, *, cluster: str, faults: Sequence[Fault]) -> None:
        self._clock = clock
        self._rng = rng
        self._faults = [
            fault
            for fault in faults
            if fault.cluster == cluster and isinstance(fault, Partition | Loss | Deaf | Unheard | Slow | Echo)
        ]
        self.sent = 0
        self.lost = 0

    def send(self, source: int, target: int, message: ConsensusMessage, deliver: Callable[[], None]) -> None:
        """Deliver after a while, once, twice or never."""
        self.sent += 1
        now = self._clock.now
        delay = self._rng.expovariate(1 / 0.008) + 0.001
        copies = 1
        for fault in self._faults:
            if not fault.start <= now < fault.end:
                continue
            match fault:
                case Partition():
                    if (fault.sides >> source ^ fault.sides >> target) & 1:
                        copies = 0
                case Loss():
                    if self._rng.random() < fault.rate:
                        copies = 0
                case Deaf():
                    if fault.targets >> target & 1 and fault.kind == kind_of(message):
                        copies = 0
                case Unheard():
                    if fault.sources >> source & 1:
                        copies = 0
                case Slow():
                    delay *= fault.factor
                case Echo():
                    if self._rng.random() < fault.rate:
                        copies *= 2
        if copies == 0:
            self.lost += 1
        for copy in range(copies):
            self._clock.after(delay + copy * self._rng.uniform(0.0, 0.5), deliver)
