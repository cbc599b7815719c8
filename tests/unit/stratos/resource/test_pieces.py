"""The hash tree of a slice."""

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.merkle import merkle_root, verify_merkle
from stratos.resource.pieces import (
    PIECE,
    SliceHashes,
    piece_count,
    piece_path,
    piece_span,
    range_proof,
    range_root,
    slice_digest,
)

leaves = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[list[bytes], int, int]:
    hashes = draw(leaves)
    first = draw(st.integers(0, len(hashes) - 1))
    return hashes, first, draw(st.integers(first, len(hashes) - 1))


@given(ranges())
def test_a_range_with_its_neighbours_leads_to_the_root(case: tuple[list[bytes], int, int]) -> None:
    """Any range of pieces with its proof gives exactly the root of the whole tree."""
    hashes, first, last = case
    left, right = range_proof(hashes, first, last)
    root = range_root(hashes[first : last + 1], first=first, count=len(hashes), left=left, right=right)
    assert root == merkle_root(hashes) == slice_digest(hashes)


@given(ranges(), st.data())
def test_a_changed_piece_or_place_never_leads_to_the_root(
    case: tuple[list[bytes], int, int], data: st.DataObject
) -> None:
    """Changing a piece hash, the offset, the count or the proof's length spoils the root."""
    hashes, first, last = case
    left, right = range_proof(hashes, first, last)
    part = hashes[first : last + 1]
    root = merkle_root(hashes)
    changed = list(part)
    at = data.draw(st.integers(0, len(part) - 1))
    changed[at] = blake3(changed[at]).digest()
    assert range_root(changed, first=first, count=len(hashes), left=left, right=right) != root
    assert range_root(part, first=first, count=len(hashes), left=(*left, b"\0" * 32), right=right) is None
    assert range_root(part, first=first, count=last, left=left, right=right) is None
    if left:
        assert range_root(part, first=first, count=len(hashes), left=left[1:], right=right) is None


@given(st.lists(st.integers(0, 3 * PIECE), max_size=6), st.integers(0, 255))
def test_chunking_does_not_change_the_hashes(sizes: list[int], fill: int) -> None:
    """A slice fed in chunks of any size has the hashes of its 64 KiB pieces, and their root as digest."""
    data = bytes([fill]) * sum(sizes)
    hashes = SliceHashes()
    start = 0
    for size in sizes:
        hashes.update(memoryview(data)[start : start + size])
        start += size
    pieces = [blake3(data[at : at + PIECE]).digest() for at in range(0, len(data), PIECE)]
    assert hashes.finish() == merkle_root(pieces)
    assert hashes.hashes == pieces and len(pieces) == piece_count(len(data))


@given(st.integers(0, 10 * PIECE), st.integers(1, 10 * PIECE), st.integers(1, 12 * PIECE))
def test_a_span_is_whole_pieces_around_the_range(offset: int, length: int, total: int) -> None:
    """A widened range covers what was asked for, begins at a piece and ends at a piece or the slice's end."""
    offset = min(offset, total - 1)
    length = min(length, total - offset)
    start, wide = piece_span(offset, length, total)
    assert start <= offset
    assert offset + length <= start + wide <= total
    assert start % PIECE == 0
    assert (start + wide) % PIECE == 0 or start + wide == total


def test_a_piece_path_is_a_merkle_proof() -> None:
    """The path of a possession proof verifies with the general Merkle check."""
    hashes = [bytes([number]) * 32 for number in range(11)]
    for piece in range(11):
        assert verify_merkle(slice_digest(hashes), hashes[piece], piece, 11, piece_path(hashes, piece))
