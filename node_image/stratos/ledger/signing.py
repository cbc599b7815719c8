"""Signatures of transactions, as pure functions.

The ledger itself never checks them: the chain checks each one once, in threads, before the mempool. Making and checking
live here so that wallets, load generators and validators agree on the bytes.
"""

from functools import lru_cache

from stratos.crypto.keys import WalletKey, verify_wallet, wallet_address
from stratos.crypto.signing import wallet_digest
from stratos.wire.codec import encode
from stratos.wire.txs import TAG_TX, Message, Tx, TxBody

_KNOWN_WALLETS = 65_536


@lru_cache(maxsize=_KNOWN_WALLETS)
def wallet_of(public_key: bytes) -> bytes:
    """The wallet address of a public key; remembered, because deriving it costs as much as checking a signature."""
    return wallet_address(public_key)


def sign_tx(key: WalletKey, message: Message, *, sequence: int, genesis_hash: bytes, memo: str = "") -> Tx:
    """A transaction of `key` carrying `message`."""
    body = TxBody(message, sequence, memo)
    return Tx(body, key.public_key, key.sign(wallet_digest(TAG_TX, genesis_hash, encode(body))))


def verify_tx(tx: Tx, genesis_hash: bytes) -> bool:
    """Whether the transaction's signature is its public key's, for this network."""
    return verify_wallet(tx.public_key, wallet_digest(TAG_TX, genesis_hash, encode(tx.body)), tx.signature)
