"""Possession challenges: only the very piece, now, from the very holder, proves a copy."""

import msgspec
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stratos.client.possession import check_proof
from stratos.crypto.keys import NodeKey
from stratos.crypto.merkle import MerkleTree
from stratos.crypto.signing import sign_bytes
from stratos.wire.limits import PROOF_PIECE_BYTES
from stratos.wire.metalog import SliceSpec
from stratos.wire.transfer import TAG_POSSESSION, PossessionProof

GENESIS, NONCE = b"g" * 32, b"n" * 16
HOLDER, OTHER = NodeKey.from_seed(b"1" * 32), NodeKey.from_seed(b"2" * 32)


def stored(length: int) -> tuple[bytes, SliceSpec, MerkleTree]:
    data = blake3(b"slice").digest(length=length)
    hashes = [blake3(data[at : at + PROOF_PIECE_BYTES]).digest() for at in range(0, length, PROOF_PIECE_BYTES)]
    tree = MerkleTree(hashes)
    return data, SliceSpec(tree.root, length), tree


def answer(
    data: bytes, tree: MerkleTree, piece: int, *, key: NodeKey = HOLDER, nonce: bytes = NONCE
) -> PossessionProof:
    piece_bytes = data[piece * PROOF_PIECE_BYTES : (piece + 1) * PROOF_PIECE_BYTES]
    signed = sign_bytes(TAG_POSSESSION, GENESIS, nonce + blake3(piece_bytes).digest())
    return PossessionProof(piece_bytes, tree.proof(piece), len(tree), key.sign(signed))


def reason(proof: PossessionProof, spec: SliceSpec, piece: int, *, genesis: bytes = GENESIS) -> str:
    return check_proof(proof, spec=spec, piece=piece, nonce=NONCE, holder_key=HOLDER.public_key, genesis_hash=genesis)


@given(length=st.integers(1, 5 * PROOF_PIECE_BYTES), choice=st.integers(0, 10**6))
def test_an_honest_answer_proves_any_piece(length: int, choice: int) -> None:
    """Every piece of a slice of any length, the short last one included."""
    data, spec, tree = stored(length)
    piece = choice % len(tree)
    assert reason(answer(data, tree, piece), spec, piece) == ""


def test_every_other_answer_proves_nothing() -> None:
    """Another piece, other bytes, a replayed nonce, another holder, another network, a cut piece, a wrong path."""
    data, spec, tree = stored(4 * PROOF_PIECE_BYTES + 17)
    good = answer(data, tree, 2)
    changed = bytes([good.piece_bytes[0] ^ 1]) + good.piece_bytes[1:]
    replace = msgspec.structs.replace
    for wrong in (
        answer(data, tree, 1),
        replace(good, piece_bytes=changed),
        answer(data, tree, 2, nonce=b"o" * 16),
        answer(data, tree, 2, key=OTHER),
        replace(good, piece_bytes=good.piece_bytes[:-1]),
        replace(good, path=good.path[:-1]),
        replace(good, count=good.count + 1),
        replace(good, signature=bytes(64)),
    ):
        assert reason(wrong, spec, 2)
    assert reason(good, spec, 2, genesis=b"h" * 32)
