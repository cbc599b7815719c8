"""Frames and messages from outside: bounded, typed, or refused."""

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.resource.frames import (
    BulkSocket,
    FrameError,
    LinkBroken,
    RefusedByPeer,
    control_frame,
    decode_control,
    parse_header,
)
from stratos.wire.codec import encode
from stratos.wire.transfer import (
    FRAME_CONTROL,
    FRAME_DATA,
    MAX_BULK_CONTROL_BYTES,
    MAX_DATA_FRAME_BYTES,
    AskAccount,
    BulkError,
    ProvePossession,
)


@pytest.fixture
def pair() -> Any:
    """Two ends of one connection."""
    left, right = socket.socketpair()
    yield BulkSocket(left, timeout=60.0), BulkSocket(right, timeout=60.0)
    left.close()
    right.close()


@given(st.binary(min_size=5, max_size=5))
def test_a_header_is_in_bounds_or_refused(header: bytes) -> None:
    """No header makes a node expect more than its kind's limit."""
    try:
        kind, length = parse_header(header)
    except FrameError:
        return
    assert kind in (FRAME_CONTROL, FRAME_DATA)
    assert 1 <= length <= (MAX_BULK_CONTROL_BYTES if kind == FRAME_CONTROL else MAX_DATA_FRAME_BYTES)


@given(st.binary(max_size=300))
def test_any_body_is_a_message_or_a_frame_error(body: bytes) -> None:
    """Decoding bytes from outside gives a typed message or a FrameError, never another exception."""
    try:
        message = decode_control(body)
    except FrameError:
        return
    assert decode_control(encode(message)) == message


@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**31 - 1), st.integers(0, 80), st.integers(0, 255))
def test_a_flipped_byte_never_crashes_the_decoder(nonce: bytes, piece: int, at: int, value: int) -> None:
    """A well-formed message with one byte changed decodes to a message or raises FrameError."""
    body = bytearray(encode(ProvePossession(b"d" * 32, piece, nonce)))
    body[at % len(body)] = value
    try:
        decode_control(body)
    except FrameError:
        pass


@given(st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=8), st.lists, max_leaves=40))
def test_other_msgpack_is_refused(record: object) -> None:
    """Valid msgpack that is no message of the protocol raises FrameError."""
    with pytest.raises(FrameError):
        decode_control(encode(record))


def test_messages_and_data_cross_a_socket(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """Control messages and data frames arrive in order, corked or not."""
    left, right = pair
    left.send(AskAccount(b"s" * 16), flush=False)
    left.send_data(b"abc", flush=False)
    left.send_data(b"x" * 40_000)
    assert right.receive() == AskAccount(b"s" * 16)
    room = memoryview(bytearray(50_000))
    assert right.receive_data(room) == 3
    assert room[:3] == b"abc"
    assert right.receive_data(room) == 40_000


def test_an_error_of_the_peer_is_raised_where_data_was_expected(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """A BulkError reaches the caller as RefusedByPeer with its code, also in the middle of a transfer."""
    left, right = pair
    left.send(BulkError(-6, "no such slice"))
    left.send(BulkError(-3, "wrong key"))
    with pytest.raises(RefusedByPeer, match="no such slice"):
        right.receive_data(memoryview(bytearray(10)))
    with pytest.raises(RefusedByPeer) as refused:
        right.receive()
    assert refused.value.code == -3


def test_an_oversized_frame_is_refused_before_its_body(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """A header that announces too much ends the connection although not one byte of the body was sent."""
    left, right = pair
    left.raw.sendall(struct.pack(">IB", MAX_DATA_FRAME_BYTES + 1, FRAME_DATA))
    with pytest.raises(FrameError, match="outside"):
        right.receive_data(memoryview(bytearray(2 * MAX_DATA_FRAME_BYTES)))


def test_more_data_than_fits_is_refused(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """A data frame longer than what is left to come raises FrameError."""
    left, right = pair
    left.send_data(b"x" * 100)
    with pytest.raises(FrameError, match="100 bytes"):
        right.receive_data(memoryview(bytearray(99)))


def test_silence_and_ends_are_broken_links(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """A silent peer times out, a closed one ends; both are LinkBroken with a sentence."""
    left, right = pair
    right.set_timeout(0.01)
    with pytest.raises(LinkBroken, match="silent"):
        right.receive()
    left.raw.close()
    with pytest.raises(LinkBroken, match="closed"):
        right.receive()


def test_control_frames_are_bounded_when_sent() -> None:
    """A message over the limit is refused by its sender already."""
    with pytest.raises(FrameError, match="over the limit"):
        control_frame(BulkError(-1, "x" * (MAX_BULK_CONTROL_BYTES + 1)))


def test_a_frame_larger_than_the_buffer_comes_in_parts(pair: tuple[BulkSocket, BulkSocket]) -> None:
    """A reader with a small buffer takes a large frame in several calls, and the next message follows it."""
    left, right = pair
    left.send_data(b"abcdefghij", flush=False)
    left.send(AskAccount(b"s" * 16))
    room = memoryview(bytearray(4))
    parts = [bytes(room[: right.receive_data(room, most=10)]) for _ in range(3)]
    assert parts == [b"abcd", b"efgh", b"ij"]
    assert right.receive() == AskAccount(b"s" * 16)
