"""Frames: u32 length | u8 kind | u32 request id | msgpack body, big-endian; the length counts all after itself.

Pure and incremental, shared by the uvloop connections and the blocking client. The decoder checks a length before it
keeps a single byte of the frame, so what a peer can make us hold is the limit of its class plus one socket read.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from stratos.wire.limits import MAX_FRAME_BYTES
from stratos.wire.rpc import KIND_NOTIFY, KIND_REQUEST

HEADER = struct.Struct(">IBI")
HEADER_BYTES = HEADER.size
COUNTED_HEADER_BYTES = HEADER_BYTES - 4
MAX_REQUEST_ID = 2**32 - 1


class FrameError(ValueError):
    """The byte stream is not a sequence of frames within the limit; the connection cannot go on."""


class Frame(NamedTuple):
    """One frame: kind (1 request, 2 response, 3 error, 4 notify), request id, undecoded body."""

    kind: int
    request_id: int
    body: bytes


def encode_frame(kind: int, request_id: int, body: bytes) -> bytes:
    """Bytes of one frame; raises FrameError when the body is over MAX_FRAME_BYTES."""
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"frame body of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}; send less at once")
    return HEADER.pack(len(body) + COUNTED_HEADER_BYTES, kind, request_id) + body


class FrameDecoder:
    """Cuts a byte stream into frames. `limit` bounds one body and may be raised after the peer has said who it is."""

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that are whole now, one at a time; raises FrameError at the first header that breaks a rule.

        Lazy on purpose: a hello may raise `limit` before the frame behind it is looked at. Must be consumed whole
        (or given up after an error) before the next call.
        """
        if self._buffer:
            self._buffer += data
            source: bytes | bytearray = self._buffer
        else:
            source = data
        offset = 0
        size = len(source)
        while size - offset >= HEADER_BYTES:
            length, kind, request_id = HEADER.unpack_from(source, offset)
            body_bytes = length - COUNTED_HEADER_BYTES
            if body_bytes < 0 or body_bytes > self.limit:
                raise FrameError(
                    f"frame length {length} is outside {COUNTED_HEADER_BYTES}..{self.limit + COUNTED_HEADER_BYTES}"
                )
            if kind < KIND_REQUEST or kind > KIND_NOTIFY:
                raise FrameError(f"frame kind {kind} is unknown; this is protocol version 1")
            end = offset + HEADER_BYTES + body_bytes
            if end > size:
                break
            body = bytes(source[offset + HEADER_BYTES : end])
            offset = end
            yield Frame(kind, request_id, body)
        if source is self._buffer:
            if offset:
                del self._buffer[:offset]
        elif offset < size:
            self._buffer += source[offset:] if offset else source
