"""What consensus signatures cover, and the two callables through which the core signs and checks.

The core holds no key and no crypto library: a shell passes `Signer` and `Verifier`. ed25519 signing is deterministic,
so the same vote always has the same bytes. A check is data (`SignatureCheck`), so that a shell can run many of them
in threads before the core sees the message.
"""

from collections.abc import Callable

from msgspec import Struct

from stratos.crypto.signing import sign_bytes
from stratos.wire.block import PREVOTE, proposal_body, vote_body

Signer = Callable[[bytes], bytes]
"""Message -> 64-byte ed25519 signature with this node's key."""

Verifier = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature) -> whether the signature is right; never raises."""

TAG_PREVOTE = b"prevote"
TAG_PRECOMMIT = b"precommit"
TAG_PROPOSAL = b"proposal"


class SignatureCheck(Struct, frozen=True, array_like=True):
    """One signature to check: verifier arguments in order."""

    public_key: bytes
    message: bytes
    signature: bytes


def vote_bytes(
    genesis_hash: bytes, *, layer: str, kind: int, height: int, round_number: int, block_hash: bytes
) -> bytes:
    """Signed bytes of a prevote or precommit; the same for every voter, so worth keeping."""
    tag = TAG_PREVOTE if kind == PREVOTE else TAG_PRECOMMIT
    body = vote_body(layer=layer, height=height, round_number=round_number, block_hash=block_hash)
    return sign_bytes(tag, genesis_hash, body)


def proposal_bytes(
    genesis_hash: bytes, *, layer: str, height: int, round_number: int, valid_round: int, block_hash: bytes
) -> bytes:
    """Signed bytes of a proposal."""
    body = proposal_body(
        layer=layer, height=height, round_number=round_number, valid_round=valid_round, block_hash=block_hash
    )
    return sign_bytes(TAG_PROPOSAL, genesis_hash, body)
