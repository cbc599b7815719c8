"""The bulk port: accepts connections, finds out who calls, and runs one conversation per connection in its own thread.

Slice bytes move on blocking sockets (TLS 1.3 or plain by `slice_transport`): measured twice as fast as any event loop. A
thread per connection cannot deadlock a replication chain the way a fixed pool could (holder A waiting for a thread of
B while B waits for one of A); what bounds it is the number of connections, in all and of guests. A caller is a guest
until it has shown a token that names its key; guests may only ask for possession proofs, slowly.

A planned stop begins with `drain`: nobody new is let in, what is asked from now on is refused with a sentence that sends the
caller to another holder, and conversations in the middle of a transfer finish it.
"""

import errno
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

import structlog

from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.net.peers import PeerUnreachable, TokenBucket
from stratos.net.rpc import PortInUse
from stratos.resource.accounts import AccountError
from stratos.resource.frames import BulkSocket, FrameError, LinkBroken, RefusedByPeer
from stratos.resource.link import challenge_body, hello_body
from stratos.resource.receiving import UploadBatch, UploadRefused
from stratos.resource.services import Services
from stratos.resource.serving import (
    ReadRefused,
    serve_account,
    serve_fetch,
    serve_possession,
    serve_read,
)
from stratos.resource.tokens import TokenError
from stratos.wire.metalog import RepairOrder
from stratos.wire.rpc import PROTOCOL_VERSION
from stratos.wire.transfer import (
    TAG_BULK_CHALLENGE,
    TAG_BULK_HELLO,
    AskAccount,
    BulkChallenge,
    BulkError,
    BulkHello,
    BulkMessage,
    FetchSlice,
    ProvePossession,
    ReadSlice,
    UploadSlice,
)

HANDSHAKE_SECONDS = 10.0
GUEST_SILENCE_SECONDS = 15.0
SILENCE_SECONDS = 30.0
"""Silence tolerated in the middle of a conversation."""
IDLE_SECONDS = 60.0
"""Silence tolerated between conversations."""
GUEST_REQUESTS_PER_SECOND = 50.0
STOPPING = -1
"""Code of the refusals of a node that stops: not one that says something about what it holds."""
BACKLOG = 256
ACCEPT_PAUSE_SECONDS = 0.05
LISTENER_IS_GONE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})
"""Failures of accept that would repeat for ever; all others pass."""
_log = structlog.get_logger("stratos.resource.server")


class BulkServer:
    """Listens on the bulk port. `start` returns the port; `close` ends every connection."""

    def __init__(
        self,
        services: Services,
        *,
        tls: ssl.SSLContext | None,
        max_connections: int,
        silence_seconds: float = SILENCE_SECONDS,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.services = services
        self.port = 0
        self.silence_seconds = silence_seconds
        self._tls = tls
        self._max_connections = max_connections
        self._max_guests = max(8, max_connections // 4)
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._conversations: set[Conversation] = set()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.draining = False
        """Nothing new is begun any more."""

    def start(self, host: str, port: int) -> int:
        """Listen and accept in a thread of its own; raises PortInUse."""
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise PortInUse(
                error.errno,
                f"cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}); stop its user or choose another port",
            ) from error
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="bulk-accept", daemon=True)
        self._thread.start()
        return self.port

    def drain(self, seconds: float) -> bool:
        """Begin nothing new and wait until all transfers under way are done, at most so long; whether they are."""
        self.draining = True
        self._stop_listening()
        with self._lock:
            for conversation in self._conversations:
                if not conversation.busy:
                    conversation.hang_up()
            return self._ended.wait_for(lambda: not self._conversations, seconds)

    def _stop_listening(self) -> None:
        self._closing.set()
        if self._listener is not None:
            try:
                self._listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._listener.close()

    def close(self) -> None:
        """Stop accepting, break every connection, and wait for the threads a moment."""
        self._stop_listening()
        with self._lock:
            conversations = list(self._conversations)
        for conversation in conversations:
            conversation.break_off()
        deadline = time.monotonic() + 5.0
        for thread in [self._thread, *(conversation.thread for conversation in conversations)]:
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def connections(self) -> int:
        """Open connections."""
        with self._lock:
            return len(self._conversations)

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                _log.error("accept failed", error=str(error))
                if error.errno in LISTENER_IS_GONE:
                    if self._on_failure is not None:
                        self._on_failure(error)
                    return
                # Descriptors and memory in use come back, and a caller that went away is not our end.
                self.services.counters.add("refused", 1)
                self._closing.wait(ACCEPT_PAUSE_SECONDS)
                continue
            with self._lock:
                guests = sum(1 for other in self._conversations if other.guest)
                if len(self._conversations) >= self._max_connections or guests >= self._max_guests:
                    admitted = None
                else:
                    admitted = Conversation(self, raw, self._tls)
                    self._conversations.add(admitted)
            if admitted is None:
                self.services.counters.add("refused", 1)
                raw.close()
                continue
            self.services.counters.add("connections", 1)
            try:
                admitted.thread.start()
            except RuntimeError as error:  # the system gives no thread now
                _log.error("connection refused", error=str(error))
                raw.close()
                self.ended(admitted)

    def ended(self, conversation: "Conversation") -> None:
        """A conversation's thread is done."""
        with self._lock:
            self._conversations.discard(conversation)
            self._ended.notify_all()


class Conversation:
    """One connection and its thread."""

    def __init__(self, server: BulkServer, raw: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.guest = True
        self.busy = False
        """In the middle of answering."""
        self.thread = threading.Thread(target=self._run, name="bulk", daemon=True)
        self._server = server
        self._services = server.services
        self._raw = raw
        self._tls = tls
        self._key = b""
        self._bucket = TokenBucket(GUEST_REQUESTS_PER_SECOND, int(GUEST_REQUESTS_PER_SECOND), time.monotonic())
        self._orders: dict[bytes, RepairOrder] = {}

    def break_off(self) -> None:
        """End the connection from another thread."""
        try:
            # Its thread may still read what had arrived and then close without a word, which would leave a sender with a
            # full window waiting for a long time; so the close is made a reset.
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def hang_up(self) -> None:
        """End the connection from another thread while nothing is under way on it."""
        try:
            self._raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _run(self) -> None:
        link: BulkSocket | None = None
        try:
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._raw.settimeout(HANDSHAKE_SECONDS)
            if self._tls is not None:
                self._raw = self._tls.wrap_socket(self._raw, server_side=True)
            link = BulkSocket(self._raw, timeout=HANDSHAKE_SECONDS)
            self._greet(link)
            self._talk(link)
        except (LinkBroken, OSError):
            pass  # the other side went away, which is its right
        except RefusedByPeer as error:
            _log.info("caller gave up", reason=error.sentence)
        except (FrameError, PeerUnreachable) as error:
            self._refuse(link, -7, str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one conversation must not end the node
            _log.error("conversation failed", error=str(error), exc_info=error)
            self._refuse(link, -1, "the node failed in the middle of this; try another holder")
        finally:
            if link is not None:
                link.close()
            else:
                self._raw.close()
            self._server.ended(self)

    def _greet(self, link: BulkSocket) -> None:
        services = self._services
        nonce = os.urandom(16)
        signed = sign_bytes(TAG_BULK_CHALLENGE, services.genesis_hash, challenge_body(nonce))
        link.send(BulkChallenge(nonce, services.key.public_key, services.key.sign(signed)))
        hello = link.expect(BulkHello)
        if hello.version != PROTOCOL_VERSION:
            raise FrameError(
                f"bulk protocol version {hello.version} is unknown here; this node speaks {PROTOCOL_VERSION}"
            )
        if hello.genesis_hash != services.genesis_hash:
            raise FrameError(f"hello for network {hello.genesis_hash.hex()[:16]}; use this network's genesis file")
        body = sign_bytes(TAG_BULK_HELLO, services.genesis_hash, hello_body(nonce, services.key.public_key))
        if not verify_node(hello.public_key, body, hello.signature):
            raise FrameError("the hello's signature does not fit its key and this connection")
        self._key = hello.public_key

    def _talk(self, link: BulkSocket) -> None:
        pending: BulkMessage | None = None
        while True:
            if pending is None:
                self.busy = False
                if self._server.draining:
                    return
                link.set_timeout(GUEST_SILENCE_SECONDS if self.guest else IDLE_SECONDS)
                pending = link.receive()
                self.busy = True
            message, pending = pending, None
            if self._server.draining:
                self._refuse(link, STOPPING, "this node is about to stop; use another holder")
                return
            link.set_timeout(self._server.silence_seconds)
            try:
                pending = self._answer(link, message)
            except (ReadRefused, AccountError, TokenError) as refusal:
                self._services.counters.add("refused", 1)
                self._refuse(link, refusal.code, refusal.sentence)
                # After an upload's refusal its bytes may still be under way, so that connection cannot go on.
                if isinstance(message, UploadSlice) or getattr(refusal, "fatal", False):
                    return
            except UploadRefused as refusal:
                self._services.counters.add("refused", 1)
                self._refuse(link, refusal.code, refusal.sentence)
                return

    def _answer(self, link: BulkSocket, message: BulkMessage) -> BulkMessage | None:
        services = self._services
        if isinstance(message, UploadSlice):
            return self._take_uploads(link, message)
        if isinstance(message, ReadSlice):
            serve_read(services, link, self._key, message)
            self.guest = False
        elif isinstance(message, FetchSlice):
            serve_fetch(services, link, self._key, message, self._order(message))
            self.guest = False
        elif isinstance(message, AskAccount):
            serve_account(services, link, self._key, message)
        elif isinstance(message, ProvePossession):
            if self.guest and not self._bucket.take(time.monotonic()):
                raise ReadRefused(f"more than {GUEST_REQUESTS_PER_SECOND:g} proofs/s on one connection; slow down", -1)
            serve_possession(services, link, message)
        else:
            raise FrameError(f"{type(message).__name__} does not open a conversation")
        return None

    def _take_uploads(self, link: BulkSocket, message: UploadSlice) -> BulkMessage | None:
        batch = UploadBatch(self._services, link, self._key)
        following: BulkMessage | None = None
        try:
            batch.take(message)
            self.guest = False
            while batch.open and link.readable():
                following = link.receive()
                if not isinstance(following, UploadSlice) or not batch.wants(following):
                    break
                batch.take(following)
                following = None
        except BaseException:
            batch.abandon()
            raise
        batch.finish()
        return following

    def _order(self, request: FetchSlice) -> RepairOrder:
        if request.token is not None:
            order = self._services.verifier.repair(request.token)
            self._orders[order.id] = order
        found = self._orders.get(request.order)
        if found is None:
            raise ReadRefused(f"repair order {request.order.hex()} was not shown on this connection; send its token")
        return found

    def _refuse(self, link: BulkSocket | None, code: int, sentence: str) -> None:
        if link is None:
            return
        try:
            link.send(BulkError(max(-64, min(0, code)), sentence[:1000]))
        except (LinkBroken, OSError, FrameError):
            pass  # it went away before it could hear why
