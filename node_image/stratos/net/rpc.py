"""RPC over framed TLS: the server of one port and the client that dials one.

Opening: TLS handshake; the server sends Challenge; a node or client answers Hello and may pipeline its first requests
right behind it (no extra round trip); a refused Hello closes the connection with one sentence. Guests just ask.
Frames and calls are in `connection`; `routes` holds what a server answers.
"""

import asyncio
import errno
import os
import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec
import structlog
from msgspec import Struct

from stratos.crypto.keys import node_address, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.net.connection import CALL_TIMEOUT_SECONDS, Connection, response_decoder
from stratos.net.frames import Frame, encode_frame
from stratos.net.peers import Identity, PeerIdentity, PeerUnreachable, RpcError, RpcRefused
from stratos.net.routes import Routes
from stratos.net.tls import server_key
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.rpc import (
    CLASS_CLIENT,
    CLASS_GUEST,
    CLASS_NODE,
    KIND_ERROR,
    KIND_NOTIFY,
    KIND_REQUEST,
    PROTOCOL_VERSION,
    TAG_HELLO,
    Challenge,
    ErrorBody,
    Hello,
    Ping,
    Pong,
)

R = TypeVar("R")
SWEEP_SECONDS = 5.0
HANDSHAKE_SECONDS = 10.0
CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 0.5
BACKLOG = 512

Authorise = Callable[[str, bytes], bool]
"""(class wanted, public key) -> may it have that class on this server?"""
WallClock = Callable[[], int]

_log = structlog.get_logger("stratos.net.rpc")


class PortInUse(OSError):
    """The listening port is taken."""


def hello_body(challenge: Challenge, peer_class: str) -> bytes:
    """What a Hello signs beyond tag, genesis hash and version."""
    return challenge.nonce + challenge.server_key + peer_class.encode()


def make_hello(challenge: Challenge, *, identity: Identity, peer_class: str, genesis_hash: bytes) -> Hello:
    """The signed answer to a challenge."""
    signed = sign_bytes(TAG_HELLO, genesis_hash, hello_body(challenge, peer_class))
    return Hello(PROTOCOL_VERSION, peer_class, genesis_hash, identity.public_key, identity.sign(signed))


def check_challenge(challenge: Challenge, *, genesis_hash: bytes | None, certificate_key: bytes) -> None:
    """Refuse a server of another network or version, or one that is not who its certificate says."""
    if challenge.version != PROTOCOL_VERSION:
        raise PeerUnreachable(
            f"the server speaks protocol {challenge.version}, this program {PROTOCOL_VERSION}; use matching versions"
        )
    if genesis_hash is not None and challenge.genesis_hash != genesis_hash:
        raise PeerUnreachable(
            f"the server is of network {challenge.genesis_hash.hex()[:16]}, ours is {genesis_hash.hex()[:16]}; use its genesis file"
        )
    if challenge.server_key != certificate_key:
        raise PeerUnreachable(
            "the server's challenge names another key than its certificate; do not trust this endpoint"
        )


class _ServerConnection(Connection):
    """The accepting end: sends the challenge, judges the hello."""

    def __init__(self, server: "RpcServer") -> None:
        super().__init__(server.routes, on_lost=server._lost)
        self._server = server
        self._challenge: Challenge | None = None

    def opened(self) -> None:
        if not self._server._admit(self):
            self.abort()
            return
        self._challenge = Challenge(
            PROTOCOL_VERSION, self._server.genesis_hash, self._server.identity.public_key, os.urandom(32)
        )
        self.send_frame(encode_frame(KIND_NOTIFY, 0, encode(self._challenge)))

    def control_frame(self, frame: Frame) -> bool:
        if frame.request_id != 0 or frame.kind != KIND_REQUEST:
            return False
        if self._challenge is None:
            raise WireError("a second hello on one connection; open a new connection for another identity")
        challenge, self._challenge = self._challenge, None
        hello = decode(frame.body, Hello)
        refusal = self._server._judge(hello, challenge)
        if refusal:
            raise WireError(refusal)
        self.promote(PeerIdentity(hello.peer_class, hello.public_key, node_address(hello.public_key), self.peer.remote))
        self._server._promoted(self)
        return True


class RpcServer:
    """Serves `routes` on one TLS port. `authorise` decides who may be a node (default: nobody; clients always may)."""

    def __init__(
        self,
        *,
        identity: Identity,
        genesis_hash: bytes,
        tls: ssl.SSLContext,
        routes: Routes,
        authorise: Authorise | None = None,
        max_connections: int = 512,
        wall_ms: WallClock | None = None,
    ) -> None:
        self.identity = identity
        self.genesis_hash = genesis_hash
        self.routes = routes
        self.port = 0
        self._tls = tls
        self._authorise = authorise or (lambda peer_class, _key: peer_class == CLASS_CLIENT)
        self._max_connections = max_connections
        self._max_guests = max(8, max_connections // 4)
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._on_node: Callable[[Connection], None] | None = None
        if wall_ms is not None:
            clock = wall_ms
            routes.on_request(Ping, lambda _peer, _request: Pong(clock()))

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (useful when `port` is 0). Raises PortInUse."""
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                lambda: _ServerConnection(self),
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                backlog=BACKLOG,
            )
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                reason = os.strerror(error.errno)
                raise PortInUse(
                    error.errno, f"cannot listen on {host}:{port} ({reason}); stop its user or choose another port"
                ) from error
            raise
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self.port

    def on_node(self, callback: Callable[[Connection], None]) -> None:
        """Call when a connection has proved to be a node (the mesh adopts its peers here)."""
        self._on_node = callback

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*(connection.closed_within(CLOSE_SECONDS) for connection in tuple(self._connections)))

    def _admit(self, connection: Connection) -> bool:
        guests = sum(1 for other in self._connections if other.peer.peer_class == CLASS_GUEST)
        if len(self._connections) >= self._max_connections or guests >= self._max_guests:
            _log.warning(
                "connection refused", remote=connection.peer.remote, open=len(self._connections), guests=guests
            )
            return False
        self._connections.add(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return True

    def _judge(self, hello: Hello, challenge: Challenge) -> str:
        if hello.version != PROTOCOL_VERSION:
            return f"protocol version {hello.version} is unknown here; this node speaks {PROTOCOL_VERSION}"
        if hello.peer_class == CLASS_GUEST:
            return "guests send no hello; just ask"
        if hello.genesis_hash != self.genesis_hash:
            return f"hello for network {hello.genesis_hash.hex()[:16]}, this is {self.genesis_hash.hex()[:16]}; use this network's genesis file"
        signed = sign_bytes(TAG_HELLO, self.genesis_hash, hello_body(challenge, hello.peer_class))
        if not verify_node(hello.public_key, signed, hello.signature):
            return (
                "the hello's signature does not fit its key and this connection; sign the challenge of this connection"
            )
        if not self._authorise(hello.peer_class, hello.public_key):
            return f"key {hello.public_key.hex()[:16]} may not connect as {hello.peer_class}; register it first or connect as a client"
        return ""

    def _promoted(self, connection: Connection) -> None:
        if connection.peer.peer_class == CLASS_NODE and self._on_node is not None:
            self._on_node(connection)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def _sweep(self) -> None:
        self._sweeper = None
        loop = asyncio.get_running_loop()
        for connection in tuple(self._connections):
            if connection.idle_too_long(loop.time()):
                connection.close()
        if any(connection.peer.peer_class != CLASS_NODE for connection in self._connections):
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)


class _ClientConnection(Connection):
    """The dialling end: checks the server's key and challenge, says hello."""

    def __init__(
        self,
        routes: Routes,
        *,
        expected_key: bytes | None,
        identity: Identity | None,
        peer_class: str,
        genesis_hash: bytes | None,
        on_lost: Callable[[Connection], None] | None,
    ) -> None:
        super().__init__(routes, on_lost=on_lost)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._expected_key = expected_key
        self._identity = identity
        self._peer_class = peer_class
        self._genesis_hash = genesis_hash
        self._certificate_key = b""

    def opened(self) -> None:
        try:
            self._certificate_key = server_key(self.transport.get_extra_info("ssl_object"))
            if self._expected_key is not None and self._certificate_key != self._expected_key:
                raise PeerUnreachable(
                    f"{self.peer.remote} has node key {self._certificate_key.hex()[:16]}, expected {self._expected_key.hex()[:16]}; "
                    "check the endpoint"
                )
        except PeerUnreachable as error:
            self._fail(error)
            return
        self.promote(
            PeerIdentity(CLASS_NODE, self._certificate_key, node_address(self._certificate_key), self.peer.remote)
        )

    def control_frame(self, frame: Frame) -> bool:
        if frame.request_id != 0:
            return False
        if frame.kind == KIND_NOTIFY and not self.ready.done():
            try:
                challenge = decode(frame.body, Challenge)
                check_challenge(challenge, genesis_hash=self._genesis_hash, certificate_key=self._certificate_key)
            except (WireError, PeerUnreachable) as error:
                self._fail(PeerUnreachable(str(error)))
                return True
            if self._identity is not None and self._peer_class != CLASS_GUEST:
                hello = make_hello(
                    challenge, identity=self._identity, peer_class=self._peer_class, genesis_hash=challenge.genesis_hash
                )
                self.send_frame(encode_frame(KIND_REQUEST, 0, encode(hello)))
            self.ready.set_result(None)
            return True
        if frame.kind == KIND_ERROR:
            self._fail(_refusal(frame.body))
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(PeerUnreachable(f"{self.peer.remote} closed the connection before its challenge"))
        super().connection_lost(exc)

    def _fail(self, error: RpcError) -> None:
        if not self.ready.done():
            self.ready.set_exception(error)
        else:
            _log.warning("server dropped the connection", remote=self.peer.remote, reason=str(error))
        calls, self._calls = self._calls, {}
        for future, _, timer in calls.values():
            timer.cancel()
            if not future.done():
                future.set_exception(error)
        self.abort()


def _refusal(body: bytes) -> RpcError:
    try:
        refusal = response_decoder(ErrorBody).decode(body)
    except msgspec.DecodeError:
        return PeerUnreachable("the server refused the connection with a malformed error")
    return RpcRefused(refusal.code, refusal.sentence)


async def dial(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext,
    expected_key: bytes | None,
    identity: Identity | None = None,
    peer_class: str = CLASS_GUEST,
    genesis_hash: bytes | None = None,
    routes: Routes | None = None,
    on_lost: Callable[[Connection], None] | None = None,
    timeout_seconds: float = CONNECT_SECONDS,
) -> Connection:
    """An open connection whose hello is on its way; raises PeerUnreachable or RpcRefused with one sentence."""
    loop = asyncio.get_running_loop()
    protocol: _ClientConnection | None = None

    def factory() -> _ClientConnection:
        nonlocal protocol
        protocol = _ClientConnection(
            routes or Routes(),
            expected_key=expected_key,
            identity=identity,
            peer_class=peer_class,
            genesis_hash=genesis_hash,
            on_lost=on_lost,
        )
        return protocol

    try:
        async with asyncio.timeout(timeout_seconds):
            await loop.create_connection(factory, host, port, ssl=tls, server_hostname="")
            assert protocol is not None
            await protocol.ready
    except TimeoutError as error:
        if protocol is not None:
            protocol.abort()
        raise PeerUnreachable(f"{host}:{port} did not open within {timeout_seconds:g} s; is the node up?") from error
    except (OSError, ssl.SSLError) as error:
        raise PeerUnreachable(f"cannot connect to {host}:{port}: {error.strerror or error}; is the node up?") from error
    return protocol


class RpcClient:
    """One dialled connection with calls. `async with RpcClient(...)` closes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext,
        expected_key: bytes | None,
        identity: Identity | None = None,
        peer_class: str = CLASS_GUEST,
        genesis_hash: bytes | None = None,
        timeout_seconds: float = CONNECT_SECONDS,
        on_lost: Callable[[Connection], None] | None = None,
    ) -> "RpcClient":
        """Dial a node. `identity` is a node key (class node) or a session key (class client); guests need none."""
        connection = await dial(
            host,
            port,
            tls=tls,
            expected_key=expected_key,
            identity=identity,
            peer_class=peer_class,
            genesis_hash=genesis_hash,
            timeout_seconds=timeout_seconds,
            on_lost=on_lost,
        )
        return cls(connection)

    @property
    def server_key(self) -> bytes:
        """The node key the server proved in TLS."""
        return self._connection.peer.public_key

    @property
    def closed(self) -> bool:
        """True once the connection is lost."""
        return self._connection.closed

    async def call(self, request: Struct, kind: type[R], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> R:
        """Ask and return the answer of type `kind`; raises RpcRefused, RpcTimeout, PeerUnreachable."""
        return await self._connection.call(request, kind, timeout_seconds=timeout_seconds)

    def notify(self, message: Struct) -> None:
        """Send a message without an answer."""
        self._connection.notify(message)

    async def close(self) -> None:
        """Close after sending what is queued."""
        await self._connection.closed_within(CLOSE_SECONDS)

    async def __aenter__(self) -> "RpcClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
