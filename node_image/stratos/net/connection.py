"""One framed connection on the event loop, the same on both ends: calls and notifications go either way.

Built on asyncio.Protocol, not streams. Frames written in one turn of the loop leave in one TLS write. What a peer can
cost is bounded: requests over the class's in-flight limit wait unread (reading pauses), callers who do not read
their answers stop being read, and a node peer whose queue grows past MAX_QUEUED_BYTES is cut off, because pausing both
directions of a consensus link could lock two nodes to each other. It reconnects and catches up.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec
import structlog
from msgspec import Struct

from stratos.net.frames import MAX_REQUEST_ID, Frame, FrameDecoder, FrameError, encode_frame
from stratos.net.peers import (
    LIMITS,
    PeerIdentity,
    PeerUnreachable,
    RpcRefused,
    RpcTimeout,
    TokenBucket,
)
from stratos.net.routes import Routes
from stratos.wire.codec import WireError, encode
from stratos.wire.limits import MIB
from stratos.wire.rpc import (
    CLASS_GUEST,
    CLASS_NODE,
    KIND_ERROR,
    KIND_NOTIFY,
    KIND_REQUEST,
    KIND_RESPONSE,
    ErrorBody,
)

R = TypeVar("R")
MAX_QUEUED_BYTES = 64 * MIB
WRITE_HIGH_WATER = 1 * MIB
CALL_TIMEOUT_SECONDS = 10.0

_log = structlog.get_logger("stratos.net.connection")


@lru_cache(maxsize=512)
def _decoder(kind: Any) -> "msgspec.msgpack.Decoder[Any]":
    return msgspec.msgpack.Decoder(kind)


def response_decoder(kind: type[R]) -> "msgspec.msgpack.Decoder[R]":
    """Decoder of an answer's type."""
    return _decoder(cast("Hashable", kind))


def notify_frame(message: Struct) -> bytes:
    """A notification encoded once, for `Connection.send_frame` to many peers."""
    return encode_frame(KIND_NOTIFY, 0, encode(message))


class Connection(asyncio.Protocol):
    """One end of a connection. `peer` is a guest until the hello is accepted."""

    def __init__(self, routes: Routes, *, on_lost: "Callable[[Connection], None] | None" = None) -> None:
        self.peer = PeerIdentity(CLASS_GUEST, b"", b"", "")
        self.closed = False
        self.last_activity = 0.0
        self.data: Any = None
        """Free for the owner of the connection (the mesh keeps its peer here)."""
        self._routes = routes
        self._on_lost = [on_lost] if on_lost is not None else []
        self._loop = asyncio.get_running_loop()
        self._decoder = FrameDecoder(LIMITS[CLASS_GUEST].frame_bytes)
        self._limits = LIMITS[CLASS_GUEST]
        self._bucket = TokenBucket(self._limits.requests_per_second, self._limits.burst, self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._flush_scheduled = False
        self._congested = False
        self._reading_paused = False
        self._backlog: deque[Frame] = deque()
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: dict[int, tuple[asyncio.Future[Any], msgspec.msgpack.Decoder[Any], asyncio.TimerHandle]] = {}
        self._next_id = 0
        self._drained: list[Callable[[], None]] = []
        self._gone = asyncio.Event()

    # -- what the owner does -------------------------------------------------------------------------------------

    async def call(self, request: Struct, kind: type[R], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> R:
        """Send a request and return its answer of type `kind`; raises RpcRefused, RpcTimeout, PeerUnreachable."""
        if self.closed:
            raise PeerUnreachable(f"the connection to {self.peer.remote or 'the peer'} is closed; connect again")
        future: asyncio.Future[R] = self._loop.create_future()
        self._next_id = self._next_id % MAX_REQUEST_ID + 1
        request_id = self._next_id
        timer = self._loop.call_later(
            timeout_seconds, self._call_timed_out, request_id, type(request).__name__, timeout_seconds
        )
        self._calls[request_id] = (future, response_decoder(kind), timer)
        self.send_frame(encode_frame(KIND_REQUEST, request_id, encode(request)))
        try:
            return await future
        finally:
            if self._calls.pop(request_id, None) is not None:
                timer.cancel()

    def notify(self, message: Struct) -> None:
        """Send a message that has no answer. Silently lost when the connection is closed."""
        self.send_frame(notify_frame(message))

    def send_frame(self, frame: bytes) -> None:
        """Queue encoded bytes; they leave at the end of this turn of the loop."""
        if self.closed:
            return
        self._outgoing.append(frame)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    @property
    def congested(self) -> bool:
        """True while the peer reads slower than we write; bulk senders (gossip, catch-up) wait for `when_drained`."""
        return self._congested

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call once, as soon as the connection is not congested."""
        if self._congested:
            self._drained.append(callback)
        else:
            self._loop.call_soon(callback)

    def watch_loss(self, callback: "Callable[[Connection], None]") -> None:
        """Also call `callback` when the connection is lost."""
        self._on_lost.append(callback)

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None and not self.closed:
            self._flush()
            self._transport.close()

    async def closed_within(self, seconds: float) -> None:
        """Close, wait for the other side to do so too, and cut the connection when it takes longer."""
        if self._transport is None:
            return
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            self.abort()
            await self._gone.wait()

    def abort(self) -> None:
        """Close at once, dropping what is queued."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's TLS transport is one in all but name
        transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)  # type: ignore[attr-defined]
        address = transport.get_extra_info("peername")
        remote = str(address[0]) if isinstance(address, tuple) else ""
        self.peer = PeerIdentity(CLASS_GUEST, b"", b"", remote)
        self.last_activity = self._loop.time()
        self.opened()

    def data_received(self, data: bytes) -> None:
        self.last_activity = self._loop.time()
        try:
            for frame in self._decoder.feed(data):
                if frame.kind == KIND_REQUEST and (self._backlog or self._in_flight >= self._limits.in_flight):
                    self._backlog.append(frame)
                else:
                    self._frame(frame)
        except (FrameError, WireError) as error:
            self._broken(str(error))
            return
        if self._backlog:
            self._update_reading()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._congested = True
        if self.peer.peer_class != CLASS_NODE:
            self._update_reading()

    def resume_writing(self) -> None:
        self._congested = False
        self._update_reading()
        callbacks, self._drained = self._drained, []
        for callback in callbacks:
            self._loop.call_soon(callback)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._gone.set()
        self._outgoing.clear()
        self._backlog.clear()
        reason = PeerUnreachable(f"the connection to {self.peer.remote or 'the peer'} ended; try again or another node")
        calls, self._calls = self._calls, {}
        for future, _, timer in calls.values():
            timer.cancel()
            if not future.done():
                future.set_exception(reason)
        for task in self._tasks:
            task.cancel()
        for callback in self._on_lost:
            callback(self)

    # -- for the two ends ----------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The transport is up (TLS done)."""

    def control_frame(self, frame: Frame) -> bool:
        """Handle a frame of the opening exchange; False when it is an ordinary one."""
        return False

    def promote(self, peer: PeerIdentity) -> None:
        """The peer has proved who it is: its class's limits hold from here."""
        self.peer = peer
        self._limits = LIMITS[peer.peer_class]
        self._decoder.limit = self._limits.frame_bytes
        self._bucket = TokenBucket(self._limits.requests_per_second, self._limits.burst, self._loop.time())

    def idle_too_long(self, now: float) -> bool:
        """True when the class's idle time is over and nothing is under way."""
        return not self._in_flight and not self._calls and now - self.last_activity > self._limits.idle_seconds

    def refuse(self, request_id: int, code: str, sentence: str) -> None:
        """Answer a request with an error."""
        self.send_frame(encode_frame(KIND_ERROR, request_id, encode(ErrorBody(code[:64], sentence[:1024]))))

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of an open connection."""
        if self._transport is None:
            raise PeerUnreachable("the connection is not open yet")
        return self._transport

    # -- frames --------------------------------------------------------------------------------------------------

    def _frame(self, frame: Frame) -> None:
        if self.control_frame(frame):
            return
        if frame.kind == KIND_REQUEST:
            self._request(frame)
        elif frame.kind == KIND_NOTIFY:
            message, notify_route = self._routes.decode_notify(frame.body)
            if self.peer.peer_class not in notify_route.allow:
                raise WireError(f"{type(message).__name__} is not for {self.peer.peer_class} connections")
            notify_route.handler(self.peer, message)
        else:
            self._answered(frame)

    def _request(self, frame: Frame) -> None:
        if not self._bucket.take(self._loop.time()):
            self.refuse(
                frame.request_id, "busy", f"more than {self._limits.requests_per_second:g} requests/s; slow down"
            )
            return
        try:
            request, route = self._routes.decode_request(frame.body)
        except WireError as error:
            self.refuse(frame.request_id, "invalid", str(error))
            return
        if self.peer.peer_class not in route.allow:
            allowed = " or ".join(sorted(route.allow))
            self.refuse(
                frame.request_id, "forbidden", f"{type(request).__name__} is for {allowed} connections; say hello first"
            )
            return
        try:
            answer = route.handler(self.peer, request)
        except RpcRefused as error:
            self.refuse(frame.request_id, error.code, error.sentence)
            return
        except Exception as error:  # noqa: BLE001 - a bug in one handler must not end the node
            self._handler_failed(frame.request_id, request, error)
            return
        if isinstance(answer, (Struct, msgspec.Raw)):
            self.send_frame(encode_frame(KIND_RESPONSE, frame.request_id, encode(answer)))
            return
        self._in_flight += 1
        task: asyncio.Task[None] = self._loop.create_task(self._answer_later(frame.request_id, request, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_later(self, request_id: int, request: Struct, answer: Any) -> None:
        try:
            record = await answer
            self.send_frame(encode_frame(KIND_RESPONSE, request_id, encode(record)))
        except RpcRefused as error:
            self.refuse(request_id, error.code, error.sentence)
        except Exception as error:  # noqa: BLE001 - a bug in one handler must not end the node
            self._handler_failed(request_id, request, error)
        finally:
            self._in_flight -= 1
            if self._backlog:
                self._loop.call_soon(self._work_backlog)

    def _handler_failed(self, request_id: int, request: Struct, error: Exception) -> None:
        # A bug of ours must not end the node nor tell the caller our internals.
        _log.error("request failed", request=type(request).__name__, error=str(error), exc_info=error)
        self.refuse(request_id, "internal", f"{type(request).__name__} failed inside the node; see its log")

    def _work_backlog(self) -> None:
        try:
            while self._backlog and not self.closed and self._in_flight < self._limits.in_flight:
                self._frame(self._backlog.popleft())
        except (FrameError, WireError) as error:
            self._broken(str(error))
            return
        self._update_reading()

    def _answered(self, frame: Frame) -> None:
        entry = self._calls.pop(frame.request_id, None)
        if entry is None:
            return  # the caller gave up waiting
        future, decoder, timer = entry
        timer.cancel()
        if future.done():
            return
        try:
            if frame.kind == KIND_ERROR:
                body = response_decoder(ErrorBody).decode(frame.body)
                future.set_exception(RpcRefused(body.code, body.sentence))
            else:
                future.set_result(decoder.decode(frame.body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            future.set_exception(RpcRefused("invalid", f"the answer of {self.peer.remote} is malformed: {error}"))

    def _call_timed_out(self, request_id: int, name: str, timeout_seconds: float) -> None:
        entry = self._calls.pop(request_id, None)
        if entry is not None and not entry[0].done():
            entry[0].set_exception(
                RpcTimeout(f"no answer to {name} from {self.peer.remote} within {timeout_seconds:g} s")
            )

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self.closed or not self._outgoing or self._transport is None:
            return
        outgoing, self._outgoing = self._outgoing, []
        self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))
        if self._congested and self._transport.get_write_buffer_size() > MAX_QUEUED_BYTES:
            _log.warning(
                "connection dropped", remote=self.peer.remote, reason="the peer does not read", queued=MAX_QUEUED_BYTES
            )
            self._transport.abort()

    def _update_reading(self) -> None:
        if self.closed or self._transport is None:
            return
        pause = bool(self._backlog) or (self._congested and self.peer.peer_class != CLASS_NODE)
        if pause != self._reading_paused:
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _broken(self, reason: str) -> None:
        _log.warning("connection dropped", remote=self.peer.remote, peer_class=self.peer.peer_class, reason=reason)
        self.refuse(0, "invalid", reason)
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self.closed = True
