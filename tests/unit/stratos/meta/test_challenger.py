"""A possession proof is judged by every part of it."""

import pytest
from blake3 import blake3
from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.crypto.merkle import MerkleTree
from stratos.crypto.signing import sign_bytes
from stratos.meta.challenger import possession_fault
from stratos.wire.limits import PROOF_PIECE_BYTES
from stratos.wire.metalog import SliceSpec
from stratos.wire.transfer import TAG_POSSESSION, PossessionProof

KEY = NodeKey(b"k" * 32)
GENESIS = b"g" * 32
NONCE = b"n" * 16
DATA = blake3(b"data").digest(length=150_000)
PIECES = [DATA[start : start + PROOF_PIECE_BYTES] for start in range(0, len(DATA), PROOF_PIECE_BYTES)]
TREE = MerkleTree([blake3(piece).digest() for piece in PIECES])
SPEC = SliceSpec(TREE.root, len(DATA))


def prove(piece: int, *, nonce: bytes = NONCE, key: NodeKey = KEY) -> PossessionProof:
    signed = sign_bytes(TAG_POSSESSION, GENESIS, nonce + blake3(PIECES[piece]).digest())
    return PossessionProof(PIECES[piece], TREE.proof(piece), len(PIECES), key.sign(signed))


def fault(proof: PossessionProof, piece: int) -> str:
    return possession_fault(proof, spec=SPEC, piece=piece, nonce=NONCE, holder_key=KEY.public_key, genesis_hash=GENESIS)


@pytest.mark.parametrize("piece", range(len(PIECES)))
def test_who_has_the_piece_proves_it(piece: int) -> None:
    """Every piece, the short last one too, is proven by its holder."""
    assert fault(prove(piece), piece) == ""


def test_everything_else_proves_nothing() -> None:
    """Another piece, flipped bytes, another nonce, another signer, a wrong count or path: each is a fault."""
    good = prove(0)
    flipped = bytes([PIECES[0][0] ^ 1]) + PIECES[0][1:]
    for proof in (
        prove(1),
        structs.replace(good, piece_bytes=flipped),
        structs.replace(good, piece_bytes=good.piece_bytes[:-1]),
        prove(0, nonce=b"o" * 16),
        prove(0, key=NodeKey(b"x" * 32)),
        structs.replace(good, count=good.count + 1),
        structs.replace(good, path=good.path[:-1]),
    ):
        assert fault(proof, 0) != ""
