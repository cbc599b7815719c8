"""Bulk frames over one blocking socket: u32 big-endian length | u8 kind | body; the length counts the body alone.

Made for few copies: a data frame is received straight into the caller's reused buffer and sent straight from it. Control
frames are small and decoded only after their length is known to be in bounds. Data frames carry at most 1 MiB.
Anything that breaks a rule raises FrameError (the connection cannot go on); a closed or silent peer raises LinkBroken.
"""

import select
import socket
import ssl
import struct
from typing import TypeVar

import msgspec

from stratos.wire.codec import encode
from stratos.wire.transfer import (
    FRAME_CONTROL,
    FRAME_DATA,
    FRAME_HEADER_BYTES,
    MAX_BULK_CONTROL_BYTES,
    MAX_DATA_FRAME_BYTES,
    BulkError,
    BulkMessage,
)

HEADER = struct.Struct(">IB")
JOIN_BYTES = 16 * 1024
"""Up to this size header and body leave in one write (one TLS record)."""
M = TypeVar("M")
_decoder: "msgspec.msgpack.Decoder[BulkMessage]" = msgspec.msgpack.Decoder(BulkMessage)


class FrameError(ValueError):
    """Bytes on a bulk connection that are no frames of this protocol; the connection is closed."""


class LinkBroken(OSError):
    """The other side closed the connection or fell silent."""


class RefusedByPeer(Exception):
    """The other side answered with a BulkError: `code` of protocol 8, one sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def parse_header(header: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(kind, body length) of a frame header; raises FrameError before anything of the body is read."""
    length, kind = HEADER.unpack(header)
    if kind == FRAME_CONTROL:
        limit = MAX_BULK_CONTROL_BYTES
    elif kind == FRAME_DATA:
        limit = MAX_DATA_FRAME_BYTES
    else:
        raise FrameError(f"frame kind {kind} is unknown; this is bulk protocol version 1")
    if not 1 <= length <= limit:
        raise FrameError(f"frame of {length} bytes is outside 1..{limit}; send less at once")
    return kind, length


def decode_control(body: bytes | bytearray | memoryview) -> BulkMessage:
    """The control message in a frame's body; raises FrameError."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"not a bulk message: {error}") from error


def control_frame(message: BulkMessage) -> bytes:
    """Bytes of one control frame."""
    body = encode(message)
    if len(body) > MAX_BULK_CONTROL_BYTES:
        raise FrameError(f"{type(message).__name__} of {len(body)} bytes is over the limit of {MAX_BULK_CONTROL_BYTES}")
    return HEADER.pack(len(body), FRAME_CONTROL) + body


class BulkSocket:
    """A connected socket (TLS or plain) that speaks frames. One thread at a time reads, one at a time writes."""

    def __init__(self, raw: socket.socket, *, timeout: float) -> None:
        self.raw = raw
        self._header = bytearray(FRAME_HEADER_BYTES)
        self._header_view = memoryview(self._header)
        self._corked: list[bytes] = []
        self._corked_bytes = 0
        self._data_left = 0
        """Bytes of the last data frame that are still to be taken."""
        raw.settimeout(timeout)

    # -- sending

    def send(self, message: BulkMessage, *, flush: bool = True) -> None:
        """Send a control message; with flush=False it may wait for the next flush."""
        self._queue(control_frame(message))
        if flush or self._corked_bytes > JOIN_BYTES:
            self.flush()

    def send_data(self, data: bytes | memoryview, *, flush: bool = True) -> None:
        """Send bytes as data frames; small ones join what is queued."""
        view = memoryview(data)
        for start in range(0, len(view), MAX_DATA_FRAME_BYTES):
            part = view[start : start + MAX_DATA_FRAME_BYTES]
            header = HEADER.pack(len(part), FRAME_DATA)
            if len(part) <= JOIN_BYTES:
                self._queue(b"".join((header, part)))
            else:
                self._queue(header)
                self.flush()
                self._sendall(part)
        if flush or self._corked_bytes > JOIN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is queued."""
        if self._corked:
            data = self._corked[0] if len(self._corked) == 1 else b"".join(self._corked)
            self._corked.clear()
            self._corked_bytes = 0
            self._sendall(data)

    # -- receiving

    def receive(self) -> BulkMessage:
        """The next control message (a BulkError raises RefusedByPeer)."""
        kind, length = self._next_header()
        if kind != FRAME_CONTROL:
            raise FrameError("data where a message should be; the two sides disagree about the conversation")
        body = bytearray(length)
        self._fill(memoryview(body))
        message = decode_control(body)
        if isinstance(message, BulkError):
            raise RefusedByPeer(message.code, message.error)
        return message

    def expect(self, kind: type[M]) -> M:
        """The next control message, which must be of this type."""
        message = self.receive()
        if not isinstance(message, kind):
            raise FrameError(f"{type(message).__name__} where {kind.__name__} should be")
        return message

    def receive_data(self, into: memoryview, *, most: int | None = None) -> int:
        """Receive slice bytes into the front of `into`; their count. A frame may carry at most `most` bytes (default: what
        `into` holds); what does not fit is given by the next call."""
        if not self._data_left:
            self._data_left = self._data_header(len(into) if most is None else most)
        count = min(self._data_left, len(into))
        self._fill(into[:count])
        self._data_left -= count
        return count

    def _data_header(self, most: int) -> int:
        kind, length = self._next_header()
        if kind != FRAME_DATA:
            body = bytearray(length)
            self._fill(memoryview(body))
            message = decode_control(body)
            if isinstance(message, BulkError):
                raise RefusedByPeer(message.code, message.error)
            raise FrameError(f"{type(message).__name__} where slice bytes should be")
        if length > most:
            raise FrameError(f"data frame of {length} bytes where at most {most} are left to come")
        return length

    def readable(self) -> bool:
        """Whether something has arrived that can be read without waiting."""
        if isinstance(self.raw, ssl.SSLSocket) and self.raw.pending():
            return True
        return bool(select.select([self.raw], [], [], 0)[0])

    def set_timeout(self, seconds: float) -> None:
        """Longest silence tolerated in one read or write."""
        self.raw.settimeout(seconds)

    def close(self) -> None:
        """Close at once."""
        try:
            self.raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.raw.close()

    # -- bytes

    def _queue(self, data: bytes) -> None:
        self._corked.append(data)
        self._corked_bytes += len(data)

    def _sendall(self, data: bytes | memoryview) -> None:
        try:
            self.raw.sendall(data)
        except TimeoutError as error:
            raise LinkBroken("the other side stopped reading; try again or another node") from error
        except (OSError, ValueError) as error:
            raise LinkBroken(f"the connection broke while sending: {error}") from error

    def _next_header(self) -> tuple[int, int]:
        self._fill(self._header_view)
        return parse_header(self._header)

    def _fill(self, view: memoryview) -> None:
        got = 0
        size = len(view)
        receive_into = self.raw.recv_into
        try:
            while got < size:
                count = receive_into(view[got:] if got else view)
                if count == 0:
                    raise LinkBroken("the other side closed the connection")
                got += count
        except TimeoutError as error:
            raise LinkBroken("the other side fell silent; try again or another node") from error
        except LinkBroken:
            raise
        except (OSError, ValueError) as error:
            raise LinkBroken(f"the connection broke while receiving: {error}") from error
