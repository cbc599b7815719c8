"""The hash tree of a slice: BLAKE3 of each 64 KiB piece, under one RFC 6962 shaped root (`crypto.merkle`).

The root is the slice's digest, the name every layer knows it by, so each byte is hashed once per pass, and any whole number
of pieces can be checked without the rest of the slice: a reader verifies a step before it signs for the next one, and a
possession proof is one piece with its path. A range of pieces is proven by the tree nodes just left and right of it
(at most two per level), not by one path per piece.
"""

from collections.abc import Sequence

from blake3 import blake3

from stratos.crypto.merkle import MerkleTree, leaf_hash, merkle_root
from stratos.wire.limits import PROOF_PIECE_BYTES

PIECE = PROOF_PIECE_BYTES
Buffer = bytes | bytearray | memoryview


class SliceHashes:
    """Piece hashes of a slice fed in order, in chunks of any size."""

    __slots__ = ("_partial", "hashes", "length")

    def __init__(self) -> None:
        self._partial = bytearray()
        self.hashes: list[bytes] = []
        self.length = 0

    def update(self, data: Buffer) -> None:
        """Feed the next bytes."""
        view = memoryview(data)
        self.length += len(view)
        start = 0
        if self._partial:
            start = min(PIECE - len(self._partial), len(view))
            self._partial += view[:start]
            if len(self._partial) == PIECE:
                self.hashes.append(blake3(self._partial).digest())
                self._partial.clear()
        whole = start + (len(view) - start) // PIECE * PIECE
        self.hashes += [blake3(view[at : at + PIECE]).digest() for at in range(start, whole, PIECE)]
        if whole < len(view):
            self._partial += view[whole:]

    def finish(self) -> bytes:
        """The slice's digest (32 bytes); nothing may be fed after it."""
        if self._partial:
            self.hashes.append(blake3(self._partial).digest())
            self._partial.clear()
        return slice_digest(self.hashes)


def slice_digest(hashes: Sequence[bytes]) -> bytes:
    """The digest of a slice: the root over its piece hashes (32 bytes)."""
    return merkle_root(hashes)


def piece_count(length: int) -> int:
    """Pieces of a slice of `length` bytes."""
    return -(-length // PIECE)


def piece_span(offset: int, length: int, slice_length: int) -> tuple[int, int]:
    """Byte range widened to whole pieces: (offset, length) with offset a multiple of a piece, clipped to the slice."""
    start = offset // PIECE * PIECE
    end = min(-(-(offset + length) // PIECE) * PIECE, slice_length)
    return start, end - start


def range_proof(hashes: Sequence[bytes], first: int, last: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Tree nodes left and right of pieces `first`..`last`, lowest level first."""
    if not 0 <= first <= last < len(hashes):
        raise IndexError(f"pieces {first}..{last} of a slice of {len(hashes)} pieces")
    left: list[bytes] = []
    right: list[bytes] = []
    if last - first + 1 == len(hashes):
        return (), ()
    level = [leaf_hash(piece) for piece in hashes]
    while len(level) > 1:
        if first & 1:
            left.append(level[first - 1])
        if not last & 1 and last + 1 < len(level):
            right.append(level[last + 1])
        level = _above(level)
        first >>= 1
        last >>= 1
    return tuple(left), tuple(right)


def range_root(
    hashes: Sequence[bytes], *, first: int, count: int, left: Sequence[bytes], right: Sequence[bytes]
) -> bytes | None:
    """The root that piece hashes `first`.. of a tree of `count` pieces lead to; None when the proof does not fit."""
    last = first + len(hashes) - 1
    if not hashes or first < 0 or last >= count:
        return None
    lefts, rights = iter(left), iter(right)
    used = 0
    level = [leaf_hash(piece) for piece in hashes]
    size = count
    while size > 1:
        if first & 1:
            node = next(lefts, None)
            if node is None:
                return None
            level.insert(0, node)
            first -= 1
            used += 1
        if not last & 1 and last + 1 < size:
            node = next(rights, None)
            if node is None:
                return None
            level.append(node)
            last += 1
            used += 1
        level = _above(level)
        first >>= 1
        last >>= 1
        size = (size + 1) // 2
    return level[0] if used == len(left) + len(right) else None


def piece_path(hashes: Sequence[bytes], piece: int) -> tuple[bytes, ...]:
    """Merkle path of one piece, for a possession proof."""
    return MerkleTree(hashes).proof(piece)


def _above(level: list[bytes]) -> list[bytes]:
    # Pairs start at an even index of the whole level (callers complete the edges), so local pairing is global pairing.
    above = [blake3(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above
