"""A Merkle proof speaks for exactly one leaf, index, count and root."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.merkle import MerkleTree, leaf_hash, merkle_proof, merkle_root, verify_merkle

leaf_lists = st.lists(st.binary(max_size=40), min_size=1, max_size=40)


def rfc6962(leaves: list[bytes]) -> bytes:
    """RFC 6962's recursive definition, with BLAKE3."""
    if not leaves:
        return blake3(b"").digest()
    if len(leaves) == 1:
        return blake3(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return blake3(b"\x01" + rfc6962(leaves[:split]) + rfc6962(leaves[split:])).digest()


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_root_is_rfc_6962(leaves: list[bytes]) -> None:
    """The root equals the recursive definition, for any number of leaves."""
    assert merkle_root(leaves) == MerkleTree(leaves).root == rfc6962(leaves)


@given(leaf_lists, st.data())
def test_every_leaf_can_be_proved(leaves: list[bytes], data: st.DataObject) -> None:
    """The proof of each leaf verifies and is logarithmic."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle_proof(leaves, index)
    assert len(path) <= (len(leaves) - 1).bit_length()
    assert verify_merkle(merkle_root(leaves), leaves[index], index, len(leaves), path)


@given(leaf_lists, st.data())
def test_tampering_is_caught(leaves: list[bytes], data: st.DataObject) -> None:
    """Another leaf, index, root or path does not verify."""
    count = len(leaves)
    index = data.draw(st.integers(0, count - 1))
    root, path = merkle_root(leaves), merkle_proof(leaves, index)
    assert not verify_merkle(root, leaves[index] + b"!", index, count, path)
    assert not verify_merkle(blake3(root).digest(), leaves[index], index, count, path)
    assert not verify_merkle(root, leaves[index], index, count, (*path, bytes(32)))
    assert not verify_merkle(root, leaves[index], index + count, count, path)
    assert not verify_merkle(root, leaves[index], -1, count, path)
    assert not verify_merkle(root, leaves[index], index, 0, path)
    if path:
        bad = data.draw(st.integers(0, len(path) - 1))
        assert not verify_merkle(root, leaves[index], index, count, path[:-1])
        flipped = bytes([path[bad][0] ^ 1]) + path[bad][1:]
        assert not verify_merkle(root, leaves[index], index, count, (*path[:bad], flipped, *path[bad + 1 :]))
        assert not verify_merkle(root, leaves[index], index, count, (*path[:bad], path[bad][:-1], *path[bad + 1 :]))
    other = data.draw(st.integers(0, count - 1))
    if leaves[other] != leaves[index]:
        assert not verify_merkle(root, leaves[index], other, count, merkle_proof(leaves, other))


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=40))
def test_an_inner_node_is_no_leaf(leaves: list[bytes]) -> None:
    """The level above, shown as leaves, has another root: leaves and nodes hash differently."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    above = [b"".join(hashes[i : i + 2]) for i in range(0, len(hashes), 2)]
    assert merkle_root(above) != merkle_root(leaves)


def test_large_leaves_hash_like_small_ones() -> None:
    """The way without a copy gives the same hash, for any buffer."""
    leaf = bytes(range(256)) * 40
    assert leaf_hash(memoryview(leaf)) == leaf_hash(bytearray(leaf)) == blake3(b"\x00" + leaf).digest()
    assert leaf_hash(memoryview(leaf[:10])) == blake3(b"\x00" + leaf[:10]).digest()


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_outside_the_tree(index: int) -> None:
    """Asking for a leaf that is not there is an error, not another leaf's proof."""
    with pytest.raises(IndexError):
        merkle_proof([b"a", b"b", b"c"], index)
