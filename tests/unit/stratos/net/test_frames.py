"""The frame decoder: whatever the cuts, the same frames; whatever the bytes, bounded memory and a clear error."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.net.frames import COUNTED_HEADER_BYTES, HEADER, Frame, FrameDecoder, FrameError, encode_frame
from stratos.wire.limits import MAX_FRAME_BYTES

frames = st.lists(st.builds(Frame, st.integers(1, 4), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=12)


@given(frames, st.lists(st.integers(0, 4000), max_size=20))
def test_any_cut_of_the_stream_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    """Decoding does not depend on how the network cut the bytes."""
    stream = b"".join(encode_frame(*frame) for frame in sent)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    decoder = FrameDecoder()
    received: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        received += decoder.feed(stream[start:end])
    assert received == sent
    assert decoder.buffered_bytes == 0


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_junk_ends_in_frames_or_one_error_and_never_holds_more_than_the_limit(chunks: list[bytes]) -> None:
    """Random bytes are either frames within the limit or a FrameError; what is held back stays under limit + header."""
    decoder = FrameDecoder(limit=64)
    try:
        for chunk in chunks:
            for frame in decoder.feed(chunk):
                assert len(frame.body) <= 64
                assert 1 <= frame.kind <= 4
            assert decoder.buffered_bytes <= 64 + HEADER.size + 200
    except FrameError:
        pass


@pytest.mark.parametrize("body_bytes", [65, 2**31, 2**32 - 1 - COUNTED_HEADER_BYTES])
def test_a_length_over_the_limit_is_refused_from_its_header_alone(body_bytes: int) -> None:
    """Not one byte of an oversized body has to arrive before it is refused."""
    header = HEADER.pack(body_bytes + COUNTED_HEADER_BYTES, 1, 1)
    with pytest.raises(FrameError, match="outside"):
        list(FrameDecoder(limit=64).feed(header))


@pytest.mark.parametrize("length", range(COUNTED_HEADER_BYTES))
def test_a_length_shorter_than_its_own_header_is_refused(length: int) -> None:
    """The length counts kind and request id, so it is at least five."""
    with pytest.raises(FrameError, match="outside"):
        list(FrameDecoder().feed(HEADER.pack(length, 1, 1)))


@pytest.mark.parametrize("kind", [0, 5, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    """Only the four kinds of protocol version 1 exist."""
    with pytest.raises(FrameError, match="unknown"):
        list(FrameDecoder().feed(HEADER.pack(COUNTED_HEADER_BYTES, kind, 1)))


def test_a_body_over_the_frame_limit_is_not_sent() -> None:
    """The sender learns of its mistake before the peer does."""
    with pytest.raises(FrameError, match="over the limit"):
        encode_frame(1, 1, bytes(MAX_FRAME_BYTES + 1))


def test_the_limit_may_grow_between_frames() -> None:
    """A guest that has proved to be a node may send larger frames from then on."""
    decoder = FrameDecoder(limit=4)
    large = encode_frame(1, 1, b"12345")
    with pytest.raises(FrameError):
        list(FrameDecoder(limit=4).feed(large))
    small = encode_frame(1, 1, b"1234")
    received = []
    for frame in decoder.feed(small + large):
        received.append(frame.body)
        decoder.limit = 5
    assert received == [b"1234", b"12345"]
