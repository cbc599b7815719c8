"""Binary Merkle trees over lists of byte strings, shaped as in RFC 6962 and hashed with BLAKE3.

Leaves and inner nodes are hashed under different first bytes (00 and 01), so an inner node can never pass as a leaf; the number
of leaves is part of what a verifier is told, so a proof speaks about one index of one tree size. A level's odd last node
moves up unchanged, which gives RFC 6962's tree. The root of no leaves is BLAKE3 of nothing.
"""

from collections.abc import Iterable, Sequence

from blake3 import blake3

_LEAF = b"\x00"
_NODE = b"\x01"
_ROOT_BYTES = 32
_COPY_UP_TO = 4096

Leaf = bytes | bytearray | memoryview


class MerkleTree:
    """All levels of one tree, for many proofs from one pass over the leaves."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        level = [leaf_hash(leaf) for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            level = _level_above(level)
            self._levels.append(level)

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The 32-byte root."""
        top = self._levels[-1]
        return top[0] if top else blake3(b"").digest()

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The hashes beside the path from leaf `index` to the root, lowest first."""
        if not 0 <= index < len(self):
            raise IndexError(f"leaf {index} of a tree of {len(self)}")
        path: list[bytes] = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            index >>= 1
        return tuple(path)


def merkle_root(leaves: Iterable[Leaf]) -> bytes:
    """The 32-byte root over `leaves` in their order."""
    level = [leaf_hash(leaf) for leaf in leaves]
    if not level:
        return blake3(b"").digest()
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def merkle_proof(leaves: Sequence[Leaf], index: int) -> tuple[bytes, ...]:
    """The path of one leaf; build a MerkleTree when several are wanted."""
    return MerkleTree(leaves).proof(index)


def verify_merkle(root: bytes, leaf: Leaf, index: int, count: int, path: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`. Never raises on bytes from outside."""
    if not 0 <= index < count:
        return False
    node = leaf_hash(leaf)
    used = 0
    last = count - 1
    while last > 0:
        if index ^ 1 <= last:
            if used == len(path) or len(path[used]) != _ROOT_BYTES:
                return False
            node = _node_hash(path[used], node) if index & 1 else _node_hash(node, path[used])
            used += 1
        index >>= 1
        last >>= 1
    return used == len(path) and node == root


def leaf_hash(leaf: Leaf) -> bytes:
    """The hash of one leaf."""
    if len(leaf) <= _COPY_UP_TO:
        return blake3(_LEAF + leaf).digest()
    hasher = blake3(_LEAF)
    hasher.update(leaf)
    return hasher.digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return blake3(_NODE + left + right).digest()


def _level_above(level: list[bytes]) -> list[bytes]:
    above = [_node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above
