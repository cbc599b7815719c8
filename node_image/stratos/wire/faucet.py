"""What goes over HTTP to and from the faucet of a meta node, and what the wallet signs.

A request is JSON because people and scripts of any language send it. It is signed by the wallet that shall be paid, so nobody
can use up another's allowance, and named by a nonce: asking again with the same nonce never pays twice.
"""

from typing import Annotated

from blake3 import blake3
from msgspec import Meta, Struct

from stratos.crypto.keys import WalletKey
from stratos.crypto.signing import wallet_digest
from stratos.wire.codec import encode
from stratos.wire.scalars import Amount, TimeMs
from stratos.wire.ticket import MAX_TICKET_TEXT

FAUCET_PATH = "/stratos/faucet/v1"
TAG_FAUCET = b"faucet"


class FaucetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /stratos/faucet/v1/request. Bytes are hex; `ticket` is a join ticket's text or empty."""

    public_key: Annotated[str, Meta(pattern="^[0-9a-f]{66}$", max_length=66)]
    """The wallet's compressed secp256k1 key."""
    nonce: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    time_ms: TimeMs
    amount_wei: Amount
    ticket: Annotated[str, Meta(max_length=MAX_TICKET_TEXT)] = ""
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$", max_length=128)]


class FaucetPayment(Struct, frozen=True, kw_only=True):
    """The answer: a payment that is in a block."""

    wallet: Annotated[str, Meta(max_length=64)]
    amount_wei: Amount
    tx_hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    height: Amount


def faucet_digest(request: FaucetRequest, genesis_hash: bytes) -> bytes:
    """The digest that the wallet signs: everything but the signature."""
    ticket = blake3(request.ticket.encode()).digest()
    body = encode((request.public_key, request.nonce, request.time_ms, request.amount_wei, ticket))
    return wallet_digest(TAG_FAUCET, genesis_hash, body)


def sign_faucet_request(
    key: WalletKey, *, nonce: bytes, time_ms: int, amount_wei: int, ticket: str, genesis_hash: bytes
) -> FaucetRequest:
    """A request of the wallet `key`; the same nonce asks for the same payment."""

    def signed(signature: str) -> FaucetRequest:
        return FaucetRequest(
            public_key=key.public_key.hex(),
            nonce=nonce.hex(),
            time_ms=time_ms,
            amount_wei=str(amount_wei),
            ticket=ticket,
            signature=signature,
        )

    return signed(key.sign(faucet_digest(signed(""), genesis_hash)).hex())
