"""What a meta node does beside consensus, in virtual time: follow the chain, sign actions, carry them over, feed the beacon.

Each chore runs on every authority that is up and honest, again and again, from committed state alone, so nothing is lost
by a crash. Two authorities may well do the same thing twice: the log and the chain must take it once.
"""

from blake3 import blake3

from stratos.bft.quorum import quorum
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.meta import outbox
from stratos.meta.beacon import commitment_of
from stratos.meta.entries import sign_entry
from stratos.meta.machine import get_clock
from stratos.meta.rooms import ACTION, CHAIN_HEIGHT, COMMITMENT, REVEAL, u64
from stratos.sim.cluster import Cluster
from stratos.sim.meta_machine import MetaLog
from stratos.sim.node import SimNode
from stratos.sim.value_world import ValueLayer, chain_of
from stratos.sim.wallets import sim_wallet
from stratos.state import State
from stratos.wire.codec import encode
from stratos.wire.metalog import ActionSignature, BeaconCommit, BeaconReveal, EntryBody
from stratos.wire.txs import TAG_ACTION

CHORE_SECONDS = 0.4
BLOCKS_AT_ONCE = 8


def log_of(node: SimNode) -> MetaLog:
    """The meta machine of a node of the meta cluster."""
    assert isinstance(node.machine, MetaLog)
    return node.machine


class Desk:
    """Makes signed entries with fresh nonces and offers them to the meta nodes."""

    def __init__(self, meta: Cluster, *, genesis_hash: bytes, seed: int) -> None:
        self.meta = meta
        self.genesis_hash = genesis_hash
        self._seed = seed
        self._nonces = 0

    @property
    def state(self) -> State:
        """Committed state of the furthest honest meta node."""
        return log_of(max(self.meta.honest, key=lambda node: (node.height, -node.index))).state

    def submit(self, body: EntryBody, key: WalletKey | NodeKey) -> bytes:
        """Sign an entry and offer it; its bytes."""
        self._nonces += 1
        nonce = blake3(f"{self._seed}/nonce/{self._nonces}".encode()).digest()[:16]
        entry = sign_entry(
            body, key=key, genesis_hash=self.genesis_hash, nonce=nonce, time_ms=self.meta.clock.wall_ms()
        )
        raw = encode(entry)
        self.meta.offer(raw)
        return raw


class Authority:
    """The chores of one meta node."""

    def __init__(self, node: SimNode, desk: Desk, value: ValueLayer, *, seed: int) -> None:
        self._node = node
        self._desk = desk
        self._value = value
        self._seed = seed
        self._count = len(desk.meta.nodes)
        self._done: dict[tuple[str, int], float] = {}
        desk.meta.clock.after(0.1 * node.index, self._chores)

    def _chores(self) -> None:
        if self._node.is_up and not self._node.lies:
            state = log_of(self._node).state
            self._follow(state)
            self._sign(state)
            self._carry(state)
            self._beacon(state)
        self._desk.meta.clock.after(CHORE_SECONDS, self._chores)

    def _due(self, what: str, number: int, *, every: float) -> bool:
        """Whether to (re)do something now: at most once in `every` seconds."""
        now = self._desk.meta.clock.now
        last = self._done.get((what, number))
        if last is not None and now - last < every:
            return False
        self._done[what, number] = now
        return True

    def _follow(self, state: State) -> None:
        """Bring chain blocks into the log; authorities take turns, so that a dead one only delays."""
        sources = [node for node in self._value.cluster.honest if node.is_up]
        if not sources:
            return
        source = sources[self._node.index % len(sources)]
        first = CHAIN_HEIGHT.get(state) + 1
        for height in range(first, min(first + BLOCKS_AT_ONCE, source.height + 1)):
            turn = (height + int(self._desk.meta.clock.now)) % self._count
            block = chain_of(source).chain.store.bridge(height)
            if block is not None and turn == self._node.index and self._due("bridge", height, every=2.0):
                self._desk.submit(block, self._node.key)

    def _sign(self, state: State) -> None:
        """Sign what the log decided the chain must do."""
        for _, action in ACTION.items(state):
            signed = any(address == self._node.key.address for address, _ in action.signatures)
            if action.outcome == outbox.IN_FLIGHT and not signed and self._due("sign", action.id, every=2.0):
                message = sign_bytes(TAG_ACTION, self._desk.genesis_hash, action.message)
                self._desk.submit(ActionSignature(action.id, self._node.key.sign(message)), self._node.key)

    def _carry(self, state: State) -> None:
        """Submit signed actions to the chain; after a time-out the next authority does the same."""
        for _, action in ACTION.items(state):
            ready = action.ready_height and len(action.signatures) >= quorum(len(outbox.authorities(state)))
            turn = (action.id + int(self._desk.meta.clock.now / 2.0)) % self._count
            if (
                action.outcome == outbox.IN_FLIGHT
                and ready
                and turn == self._node.index
                and self._due("carry", action.id, every=4.0)
            ):
                wallet = sim_wallet(self._seed, f"authority{self._node.index}")
                self._value.wallets.send(wallet, outbox.signed_message(action))

    def _beacon(self, state: State) -> None:
        """Commit to a secret two epochs ahead, reveal it one epoch ahead."""
        epoch = get_clock(state).epoch
        address = self._node.key.address
        ahead = u64(epoch + 2) + address
        if COMMITMENT.get(state, ahead) is None and self._due("commit", epoch, every=1.0):
            secret = self._secret(epoch + 2)
            commitment = commitment_of(secret, epoch + 2, address)
            self._desk.submit(BeaconCommit(epoch + 2, commitment), self._node.key)
        following = u64(epoch + 1) + address
        committed = COMMITMENT.get(state, following) is not None
        if committed and REVEAL.get(state, following) is None and self._due("reveal", epoch, every=1.0):
            self._desk.submit(BeaconReveal(epoch + 1, self._secret(epoch + 1)), self._node.key)

    def _secret(self, epoch: int) -> bytes:
        return blake3(f"{self._seed}/beacon/{self._node.index}/{epoch}".encode()).digest()
