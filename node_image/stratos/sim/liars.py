"""Nodes that break the protocol: below a third of the weight they must not hurt safety or stop progress.

`Equivocator` runs an honest core but tells half of its peers one thing and the other half another: votes for nil or for
another block, and two different proposals for one round, both of them valid blocks. `Mute` receives and never sends.
"""

from msgspec import structs

from stratos.bft.blocks import header_hash
from stratos.bft.events import Event, Received, RequestProposal
from stratos.bft.height import Tip
from stratos.bft.signing import proposal_bytes, vote_bytes
from stratos.crypto.keys import NodeKey
from stratos.sim.machine import Machine
from stratos.sim.node import SimNode, Surroundings
from stratos.wire.block import NIL_HASH, Block, CommittedBlock, ConsensusMessage, Proposal, Vote


class Mute(SimNode):
    """Says nothing, ever."""

    lies = True

    def send(self, message: ConsensusMessage, target: bytes | None) -> None:
        return


class Equivocator(SimNode):
    """Says different things to different peers."""

    lies = True
    genesis_hash = NIL_HASH
    layer = "value"
    peers: tuple[bytes, ...] = ()
    _twin: Block | None = None

    def __init__(
        self, index: int, key: NodeKey, cluster: Surroundings, machine: Machine, genesis: Tip, *, skew: float
    ) -> None:
        super().__init__(index, key, cluster, machine, genesis, skew=skew)
        self._heard: dict[tuple[int, int], bytes] = {}

    def feed(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.message, Proposal):
            proposal = event.message
            if len(self._heard) > 100:
                self._heard.clear()
            self._heard[proposal.height, proposal.round] = header_hash(proposal.block.header)
        super().feed(event)

    def _propose(self, effect: RequestProposal) -> None:
        self._twin = None
        if effect.height == self.height + 1 and self._cluster.rng.random() < 0.5:
            template = structs.replace(effect.template, time_ms=effect.template.time_ms + 1)
            self._twin = self.machine.application.propose(template)
        super()._propose(effect)

    def send(self, message: ConsensusMessage, target: bytes | None) -> None:
        rng = self._cluster.rng
        other = self._contradict(message) if target is None and rng.random() < 0.7 else None
        if other is None:
            if not (isinstance(message, CommittedBlock) and rng.random() < 0.3):
                super().send(message, target)
            return
        for peer in self.peers:
            said = rng.random()
            if said < 0.6:
                super().send(message, peer)
            if said > 0.4:
                super().send(other, peer)

    def _contradict(self, message: ConsensusMessage) -> ConsensusMessage | None:
        twin = self._twin
        if isinstance(message, Vote):
            other: bytes | None = NIL_HASH
            if message.block_hash == NIL_HASH:
                other = self._heard.get((message.height, message.round))
            if twin is not None and twin.header.height == message.height and self._cluster.rng.random() < 0.5:
                other = header_hash(twin.header)
            if other is None or other == message.block_hash:
                return None
            signed = vote_bytes(
                self.genesis_hash,
                layer=self.layer,
                kind=message.kind,
                height=message.height,
                round_number=message.round,
                block_hash=other,
            )
            return structs.replace(message, block_hash=other, signature=self.key.sign(signed))
        if isinstance(message, Proposal) and twin is not None and message.valid_round < 0:
            if twin.header.height != message.height:
                return None
            signed = proposal_bytes(
                self.genesis_hash,
                layer=self.layer,
                height=message.height,
                round_number=message.round,
                valid_round=-1,
                block_hash=header_hash(twin.header),
            )
            return structs.replace(message, block=twin, signature=self.key.sign(signed))
        return None
