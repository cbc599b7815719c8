"""The key ring of a testnet: every secret the controller makes, and the only place where they are made.

One record for all nodes, so that making a testnet writes and syncs one file instead of dozens; homes get copies that
can always be written again. Randomness is an argument: a test passes a counter, the tool the system's source. A node
keeps its keys for as long as the ring knows its name, also when it leaves the inventory and comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from stratos.crypto.keys import MalformedKeyError, NodeKey, WalletKey

RandomBytes = Callable[[int], bytes]
USER = "user"
FAUCET = "faucet"
PROBE = "probe"
"""Pays for the upload with which `up` verifies the testnet."""
STANDARD_WALLETS = (USER, FAUCET, PROBE)


class NodeSecrets(Struct, frozen=True, repr_omit_defaults=True):
    """Hex of a node's ed25519 seed and of its owner wallet's secp256k1 secret."""

    node_seed: str
    owner_secret: str

    def node_key(self) -> NodeKey:
        return NodeKey.from_seed(bytes.fromhex(self.node_seed))

    def owner_key(self) -> WalletKey:
        return WalletKey.from_secret(bytes.fromhex(self.owner_secret))

    def __repr__(self) -> str:
        return "<NodeSecrets>"


class KeyRing(Struct, frozen=True):
    """Secrets by node name, and wallets by wallet name."""

    version: int = 1
    nodes: dict[str, NodeSecrets] = {}
    wallets: dict[str, str] = {}
    coordinator: str = ""
    """Hex of the ed25519 seed that signs join tickets and published files; empty on a participant's side."""

    def coordinator_key(self) -> NodeKey:
        return NodeKey.from_seed(bytes.fromhex(self.coordinator))

    def wallet_key(self, name: str) -> WalletKey:
        return WalletKey.from_secret(bytes.fromhex(self.wallets[name]))

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self.nodes)} nodes and {len(self.wallets)} wallets>"


def complete_ring(ring: KeyRing, names: Iterable[str], random: RandomBytes, *, participant: bool = False) -> KeyRing:
    """The ring with keys for every node in `names` and the standard wallets; known keys never change. A participant in
    a network of others has no faucet, no probe and no coordinator."""
    nodes, wallets = dict(ring.nodes), dict(ring.wallets)
    for name in names:
        if name not in nodes:
            nodes[name] = NodeSecrets(random(32).hex(), _wallet_secret(random))
    for name in (USER,) if participant else STANDARD_WALLETS:
        if name not in wallets:
            wallets[name] = _wallet_secret(random)
    coordinator = ring.coordinator or ("" if participant else random(32).hex())
    done = KeyRing(nodes=nodes, wallets=wallets, coordinator=coordinator)
    return ring if done == ring else done


def _wallet_secret(random: RandomBytes) -> str:
    while True:  # a secret of 0 or over the group order is refused; it happens once in 2^127
        secret = random(32)
        try:
            WalletKey.from_secret(secret)
        except MalformedKeyError:
            continue
        return secret.hex()
