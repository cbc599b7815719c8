"""What must hold in every simulated world, checked on everything that is ever sent and committed.

Agreement: one block per height. Certificates prove it with the true validator sets. No double vote: over a node's whole
life, crashes included, one vote per (height, round, kind) and one proposal per (height, round). State roots: what the
machine has after a commit is what the header said. Nobody honest is accused, refused or halted. Progress is judged by
the world at the end.
"""

from dataclasses import dataclass, field

from stratos.bft.blocks import header_hash
from stratos.bft.certificate import CertificateError, verify_commit
from stratos.bft.signing import Verifier
from stratos.bft.validator_set import ValidatorSet
from stratos.wire.block import Block, Commit, ConsensusMessage, Proposal, Vote


@dataclass
class Violations:
    """Broken invariants of a run, in order, a bounded number of them."""

    found: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        if len(self.found) < 20 and sentence not in self.found:
            self.found.append(sentence)


class ConsensusMonitor:
    """Watches one cluster."""

    def __init__(
        self,
        violations: Violations,
        *,
        cluster: str,
        layer: str,
        genesis_hash: bytes,
        initial_height: int,
        validators: ValidatorSet,
        liars: frozenset[bytes],
        verify: Verifier,
    ) -> None:
        self._violations = violations
        self._cluster = cluster
        self._layer = layer
        self._genesis_hash = genesis_hash
        self._liars = liars
        self._verify = verify
        truth = ValidatorSet(validators)
        self.sets: dict[int, ValidatorSet] = {initial_height: truth, initial_height + 1: truth}
        self.blocks: dict[int, tuple[bytes, Block, Commit]] = {}
        self._votes: dict[tuple[int, int, int, int], bytes] = {}
        self._proposals: dict[tuple[int, int], bytes] = {}
        self.equivocations = 0

    def blame(self, sentence: str) -> None:
        """Record a violation of this cluster."""
        self._violations.add(f"{self._cluster}: {sentence}")

    def on_sent(self, message: ConsensusMessage) -> None:
        """A message of a node that does not lie leaves (its own or relayed)."""
        if isinstance(message, Vote):
            validators = self.sets.get(message.height)
            if validators is None or validators[message.index].address in self._liars:
                return
            key = (message.height, message.round, message.kind, message.index)
            if self._votes.setdefault(key, message.block_hash) != message.block_hash:
                self.blame(
                    f"validator {message.index} voted twice in height {message.height} round {message.round} "
                    f"kind {message.kind}"
                )
        elif isinstance(message, Proposal):
            validators = self.sets.get(message.height)
            if validators is None:
                return
            proposer = validators.proposer(message.height, message.round)
            block_hash = header_hash(message.block.header)
            slot = (message.height, message.round)
            if proposer.address not in self._liars and self._proposals.setdefault(slot, block_hash) != block_hash:
                self.blame(f"two proposals in height {message.height} round {message.round}")

    def on_commit(
        self, node: int, block: Block, commit: Commit, *, state_root: bytes, validators: ValidatorSet
    ) -> None:
        """A node that does not lie committed a block; `validators` is what its machine returned."""
        height = block.header.height
        block_hash = header_hash(block.header)
        known = self.blocks.setdefault(height, (block_hash, block, commit))
        if known[0] != block_hash:
            self.blame(f"node {node} committed {block_hash.hex()[:8]} at height {height}, others {known[0].hex()[:8]}")
            return
        if state_root != block.header.state_root:
            self.blame(f"node {node} has state root {state_root.hex()[:8]} after height {height}, the header another")
        successors = self.sets.setdefault(height + 2, ValidatorSet(validators))
        if successors.hash != ValidatorSet(validators).hash:
            self.blame(f"node {node} has other validators after height {height}")
        try:
            verify_commit(
                block_hash,
                commit,
                self.sets[height],
                height=height,
                genesis_hash=self._genesis_hash,
                layer=self._layer,
                verify=self._verify,
            )
        except CertificateError as error:
            self.blame(f"certificate of height {height} at node {node}: {error}")

    def on_evidence(self, validator: bytes) -> None:
        """Somebody proved that `validator` voted twice."""
        self.equivocations += 1
        if validator not in self._liars:
            self.blame(f"honest validator {validator.hex()[:8]} is proved to have voted twice")

    def on_refused(self, peer: bytes, reason: str) -> None:
        """A message was refused and `peer` blamed for it."""
        if peer not in self._liars:
            self.blame(f"message of honest {peer.hex()[:8]} was refused: {reason}")
