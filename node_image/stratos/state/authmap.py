"""Authenticated map: one 32-byte root for all keys and values, with proofs of what is there and of what is not.

A 16-way trie over BLAKE3(key), so shape and root depend on the content alone, never on the order of writes. A leaf
sits at the shortest depth where its path is unique; a branch exists exactly where two or more leaves share a prefix.
16 ways instead of 2 because Python pays per node visited, not per byte hashed: a block that touches n of m keys
costs about n * (log16(m / n) + 2) short hashes. Nodes are immutable and shared between versions, so `update` leaves
the old map usable and a discarded block is simply garbage. A leaf is one bytes object (path || commitment), its digest
lives in the branch above, because a hundred thousand of them fit in every node's memory that way.

    leaf digest   = BLAKE3(00 || path || commitment)     commitment = 00 || value, or 01 || BLAKE3(value) over 32 bytes
    branch digest = BLAKE3(01 || bitmap of children, big-endian u16 || their digests in order)
    empty map     = 32 zero bytes
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated

from blake3 import blake3
from msgspec import Meta, Struct

EMPTY_ROOT = b"\0" * 32
_DEPTHS = 64
_INLINE_BYTES = 32

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class ProofStep(Struct, frozen=True, array_like=True):
    """One branch on the way to a path: which children exist, and the digests of all but the one on the path."""

    bitmap: Annotated[int, Meta(ge=1, le=0xFFFF)]
    siblings: Annotated[tuple[Digest, ...], Meta(max_length=16)]


class StateProof(Struct, frozen=True, array_like=True):
    """Way from the root to where a key is or would be. `other` is the foreign leaf (path, commitment) met there, which
    proves absence; empty when the key is present or its slot is empty."""

    steps: Annotated[tuple[ProofStep, ...], Meta(max_length=_DEPTHS)]
    other_path: Annotated[bytes, Meta(max_length=32)] = b""
    other_commitment: Annotated[bytes, Meta(max_length=33)] = b""


class _Node:
    """A branch of the trie: its 16 children (None, leaf bytes or branches) and, beside each, its digest or b""."""

    __slots__ = ("bitmap", "children", "digest", "digests")

    def __init__(self, children: "list[_Child]", digests: list[bytes], bitmap: int) -> None:
        self.children = children
        self.digests = digests
        self.bitmap = bitmap
        self.digest: bytes = blake3(b"\x01%c%c%b" % (bitmap >> 8, bitmap & 255, b"".join(digests))).digest()


_Child = _Node | bytes | None
_Item = tuple[bytes, bytes, bytes]
"""path, leaf (path and commitment; empty for a deletion), leaf digest."""


@lru_cache(maxsize=8192)
def _path(key: bytes) -> bytes:
    return blake3(key).digest()


def _commitment(value: bytes) -> bytes:
    if len(value) <= _INLINE_BYTES:
        return b"\0" + value
    return b"\x01" + blake3(value).digest()


def _leaf_digest(leaf: bytes) -> bytes:
    return blake3(b"\0" + leaf).digest()


def _nibble(path: bytes, depth: int) -> int:
    byte = path[depth >> 1]
    return byte & 15 if depth & 1 else byte >> 4


def _split(items: list[_Item], depth: int) -> list[list[_Item] | None]:
    """Items by their nibble at `depth`, None where there are none."""
    groups: list[list[_Item] | None] = [None] * 16
    half = depth >> 1
    shift = 0 if depth & 1 else 4
    for item in items:
        nibble = item[0][half] >> shift & 15
        group = groups[nibble]
        if group is None:
            groups[nibble] = [item]
        else:
            group.append(item)
    return groups


def _build(leaves: list[_Item], depth: int) -> tuple[_Child, bytes]:
    """The subtree of leaves that share their first `depth` nibbles, and its digest."""
    if len(leaves) == 1:
        return leaves[0][1], leaves[0][2]
    children: list[_Child] = [None] * 16
    digests = [b""] * 16
    bitmap = 0
    for nibble, group in enumerate(_split(leaves, depth)):
        if group is not None:
            children[nibble], digests[nibble] = _build(group, depth + 1)
            bitmap |= 1 << nibble
    node = _Node(children, digests, bitmap)
    return node, node.digest


def _apply(node: _Child, digest: bytes, items: list[_Item], depth: int) -> tuple[_Child, bytes]:
    """`node` (of `digest`) after items that share their first `depth` nibbles; and its new digest."""
    if not isinstance(node, _Node):
        leaves = [item for item in items if item[1]]
        if node is not None:
            path = node[:32]
            if all(item[0] != path for item in items):
                leaves.append((path, node, digest))
        return _build(leaves, depth) if leaves else (None, b"")
    children = node.children.copy()
    digests = node.digests.copy()
    bitmap = node.bitmap
    if len(items) == 1:
        bitmap = _replace(children, digests, bitmap, _nibble(items[0][0], depth), items, depth)
    else:
        for nibble, group in enumerate(_split(items, depth)):
            if group is not None:
                bitmap = _replace(children, digests, bitmap, nibble, group, depth)
    if bitmap & (bitmap - 1) == 0:
        if bitmap == 0:
            return None, b""
        nibble = bitmap.bit_length() - 1
        if isinstance(children[nibble], bytes):
            return children[nibble], digests[nibble]
    changed = _Node(children, digests, bitmap)
    return changed, changed.digest


def _replace(
    children: list[_Child], digests: list[bytes], bitmap: int, nibble: int, items: list[_Item], depth: int
) -> int:
    """Apply items to one child, in place in these fresh lists, and return the new bitmap."""
    child = children[nibble]
    if len(items) == 1 and not isinstance(child, _Node):
        path, leaf, leaf_digest = items[0]
        if leaf and (child is None or child.startswith(path)):
            children[nibble] = leaf
            digests[nibble] = leaf_digest
            return bitmap | 1 << nibble
    after, digests[nibble] = _apply(child, digests[nibble], items, depth + 1)
    children[nibble] = after
    return bitmap & ~(1 << nibble) if after is None else bitmap | 1 << nibble


class AuthMap:
    """One version of the map. `update` gives the next version and leaves this one as it is."""

    __slots__ = ("_top", "root")

    def __init__(self, top: _Child = None, root: bytes = EMPTY_ROOT) -> None:
        self._top = top
        self.root = root
        """The root digest; 32 zero bytes for the empty map."""

    def update(self, changes: Mapping[bytes, bytes | None]) -> "AuthMap":
        """The map after `changes` (None deletes); cost grows with the keys touched, not with the map."""
        if not changes:
            return self
        items: list[_Item] = []
        for key, value in changes.items():
            path = _path(key)
            if value is None:
                items.append((path, b"", b""))
            else:
                leaf = path + _commitment(value)
                items.append((path, leaf, blake3(b"\0" + leaf).digest()))
        top, digest = _apply(self._top, self.root, items, 0)
        return AuthMap(top, digest) if top is not None else AuthMap()

    def prove(self, key: bytes) -> StateProof:
        """A proof of the key's value, or of its absence, against `root`."""
        path = _path(key)
        steps: list[ProofStep] = []
        node = self._top
        while isinstance(node, _Node):
            nibble = _nibble(path, len(steps))
            siblings = tuple(digest for index, digest in enumerate(node.digests) if digest and index != nibble)
            steps.append(ProofStep(node.bitmap, siblings))
            node = node.children[nibble]
        if node is None or node[:32] == path:
            return StateProof(tuple(steps))
        return StateProof(tuple(steps), node[:32], node[32:])


def verify_state_proof(root: bytes, key: bytes, value: bytes | None, proof: StateProof) -> bool:
    """Whether `proof` shows that under `root` the key has this value, or, with None, that it has none."""
    path = _path(key)
    depth = len(proof.steps)
    if depth > _DEPTHS:
        return False
    digest: bytes | None
    if value is not None:
        if proof.other_path or proof.other_commitment:
            return False
        digest = _leaf_digest(path + _commitment(value))
    elif proof.other_path:
        if not _is_foreign_leaf(proof, path, depth):
            return False
        digest = _leaf_digest(proof.other_path + proof.other_commitment)
    elif depth == 0:
        return root == EMPTY_ROOT
    else:
        digest = None
    for level in range(depth - 1, -1, -1):
        digest = _climb(proof.steps[level], _nibble(path, level), digest)
        if digest is None:
            return False
    return digest == root


def _is_foreign_leaf(proof: StateProof, path: bytes, depth: int) -> bool:
    other = proof.other_path
    if len(other) != 32 or other == path or not _is_commitment(proof.other_commitment):
        return False
    return all(_nibble(other, level) == _nibble(path, level) for level in range(depth))


def _is_commitment(commitment: bytes) -> bool:
    if not commitment:
        return False
    return commitment[0] == 0 or (commitment[0] == 1 and len(commitment) == 33)


def _climb(step: ProofStep, nibble: int, digest: bytes | None) -> bytes | None:
    """Digest of the branch in `step` with `digest` (None: nothing) on the path; None when the step contradicts it."""
    bitmap = step.bitmap
    if (digest is not None) != bool(bitmap >> nibble & 1):
        return None
    if len(step.siblings) + (digest is not None) != bitmap.bit_count():
        return None
    digests = list(step.siblings)
    if digest is not None:
        digests.insert((bitmap & ((1 << nibble) - 1)).bit_count(), digest)
    return blake3(b"\x01" + bitmap.to_bytes(2, "big") + b"".join(digests)).digest()
