"""Wallets of a simulation: signed chain transactions in sequence, offered until the chain has them.

A transaction reaches every node's pool after a while of its own; a crash forgets pools, so whoever sent it offers it again
as long as the account's committed sequence is behind, as a client that got no answer would.
"""

from collections.abc import Callable
from functools import lru_cache

from blake3 import blake3

from stratos.crypto.keys import WalletKey
from stratos.ledger import bank
from stratos.ledger.signing import sign_tx
from stratos.sim.clock import Clock
from stratos.state import Reader
from stratos.wire.codec import encode
from stratos.wire.txs import Message

RETRY_SECONDS = 1.5


@lru_cache(maxsize=4096)
def sim_wallet(seed: int, name: str) -> WalletKey:
    """A wallet of a simulated world."""
    return WalletKey(blake3(f"{seed}/wallet/{name}".encode()).digest())


class Wallets:
    """All senders of one world."""

    def __init__(
        self,
        clock: Clock,
        *,
        genesis_hash: bytes,
        offer: Callable[[bytes], None],
        committed: Callable[[], Reader],
    ) -> None:
        self._clock = clock
        self._genesis_hash = genesis_hash
        self._offer = offer
        self._committed = committed
        self._sent: dict[bytes, list[bytes]] = {}
        clock.after(RETRY_SECONDS, self._retry)

    def send(self, key: WalletKey, message: Message) -> None:
        """Sign with the wallet's next sequence and offer."""
        waiting = self._sent.setdefault(key.address, [])
        tx = sign_tx(key, message, sequence=len(waiting), genesis_hash=self._genesis_hash)
        waiting.append(encode(tx))
        self._offer(waiting[-1])

    def _retry(self) -> None:
        state = self._committed()
        for address, sent in self._sent.items():
            for raw in sent[bank.sequence(state, address) :][:20]:
                self._offer(raw)
        self._clock.after(RETRY_SECONDS, self._retry)
