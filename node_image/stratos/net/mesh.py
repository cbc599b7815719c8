"""The nodes of one layer, connected in pairs: one connection per pair, dialled by the node with the smaller address.

The accepting side takes the connection over from the RPC server once its hello proved a member's key. Redialling backs
off from 20 ms to half a second with jitter, so that a layer of processes started together is meshed within a few
tens of milliseconds and a dead peer costs next to nothing. Messages are notifications, registered in the `Routes` that server
and mesh share; they are lost when the peer is down, and the consensus core repairs losses.

Members come and go while the node runs (`members` says who they are). A pair may know each other one-sidedly: a newcomer's
config lists everybody, nobody's config lists the newcomer. So the larger address dials too, when it has waited in vain
for the smaller one, and when both did it the smaller one's connection stays. A member without an endpoint is only
waited for. Endpoints that others have put into a register are dialled ever more rarely while nobody is there, because
whoever wrote them decides where the whole layer knocks.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from msgspec import Struct

from stratos.crypto.keys import node_address
from stratos.net.connection import CALL_TIMEOUT_SECONDS, Connection, notify_frame
from stratos.net.guard import guard
from stratos.net.peers import Identity, PeerUnreachable, RpcError
from stratos.net.routes import Routes
from stratos.net.rpc import CLOSE_SECONDS, RpcServer, dial
from stratos.wire.rpc import CLASS_NODE

R = TypeVar("R")
FIRST_RETRY_SECONDS = 0.02
LAST_RETRY_SECONDS = 0.5
REGISTER_RETRY_SECONDS = 15.0
"""Longest pause between two dials of an endpoint that is not from our own config."""
REFUSED_RETRY_SECONDS = 1.5
"""Longest pause after a refused hello: this node is not registered yet, or is no longer."""
PATIENCE_SECONDS = 1.0
"""How long the node with the larger address waits to be dialled before it dials itself."""
RACE_SECONDS = 0.4
"""A second connection that comes this soon was dialled at the same time; later, the first must be dead at its other end."""

_log = structlog.get_logger("stratos.net.mesh")


class MeshPeer(Struct, frozen=True):
    """A member to keep a connection with: its identity key and where its port answers (no host: it will dial us).
    `trusted`: the endpoint is from our own config."""

    public_key: bytes
    host: str
    port: int
    trusted: bool = True

    @property
    def address(self) -> bytes:
        """The member's 20-byte node address."""
        return node_address(self.public_key)


class PeerMesh:
    """Keeps one connection to every member that is up. Callbacks get the member's 20-byte address."""

    def __init__(
        self,
        *,
        identity: Identity,
        genesis_hash: bytes,
        server: RpcServer,
        routes: Routes,
        tls: ssl.SSLContext,
        on_peer_up: Callable[[bytes], None] | None = None,
        on_peer_down: Callable[[bytes], None] | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.address = node_address(identity.public_key)
        self.on_peer_up = on_peer_up
        self.on_peer_down = on_peer_down
        self._identity = identity
        self._genesis_hash = genesis_hash
        self._routes = routes
        self._tls = tls
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads redials, guards nothing
        self._peers: dict[bytes, MeshPeer] = {}
        self._connections: dict[bytes, Connection] = {}
        self._dialling: dict[bytes, asyncio.Task[None]] = {}
        self._closed = False
        self._changed = asyncio.Event()
        server.on_node(self._accepted)

    def set_peers(self, peers: Iterable[MeshPeer]) -> None:
        """The members from now on; connections to others are closed, new ones dialled when it is our turn to dial."""
        wanted = {peer.address: peer for peer in peers if peer.address != self.address}
        for address, before in list(self._peers.items()):
            now = wanted.get(address)
            if now is None:
                self._forget(address)
            elif now != before:
                self._redial(address)  # it answers elsewhere from now on; a connection that stands proves its key
        self._peers = wanted
        for address, peer in wanted.items():
            if peer.host and address not in self._dialling and not self._closed:
                self._dialling[address] = guard(f"dial {peer.host}:{peer.port}", self._keep_dialled(peer))

    def is_member(self, address: bytes) -> bool:
        """Whether this address belongs to the mesh (use it in the server's `authorise`)."""
        return address in self._peers

    @property
    def peers(self) -> tuple[bytes, ...]:
        """Addresses of all members but this node, sorted."""
        return tuple(sorted(self._peers))

    @property
    def endpoints(self) -> tuple[MeshPeer, ...]:
        """The members that are dialled, by address."""
        return tuple(peer for _, peer in sorted(self._peers.items()) if peer.host)

    @property
    def up(self) -> tuple[bytes, ...]:
        """Addresses of the members that are connected, sorted."""
        return tuple(sorted(self._connections))

    def notify(self, message: Struct, *, to: bytes | None = None) -> None:
        """Send to one member, or to all that are up; encoded once."""
        self.send_frame(notify_frame(message), to=to)

    def send_frame(self, frame: bytes, *, to: bytes | None = None) -> None:
        """Send an encoded notification (`connection.notify_frame`) to one member or to all that are up."""
        if to is None:
            for connection in self._connections.values():
                connection.send_frame(frame)
        else:
            one = self._connections.get(to)
            if one is not None:
                one.send_frame(frame)

    def congested(self, address: bytes) -> bool:
        """True when the member is down or reads slower than we write: no bulk (gossip, catch-up) now."""
        connection = self._connections.get(address)
        return connection is None or connection.congested

    def when_drained(self, address: bytes, callback: Callable[[], None]) -> None:
        """Call once the member reads again; never when it is down."""
        connection = self._connections.get(address)
        if connection is not None:
            connection.when_drained(callback)

    async def call(
        self, address: bytes, request: Struct, kind: type[R], *, timeout_seconds: float = CALL_TIMEOUT_SECONDS
    ) -> R:
        """Ask one member; raises RpcRefused, RpcTimeout, PeerUnreachable."""
        connection = self._connections.get(address)
        if connection is None:
            raise PeerUnreachable(f"node {address.hex()} is not connected; try another")
        return await connection.call(request, kind, timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        """Close all connections and stop dialling."""
        self._closed = True
        connections = list(self._connections.values())
        for address in list(self._peers):
            self._forget(address)
        self._peers = {}
        await asyncio.gather(*(connection.closed_within(CLOSE_SECONDS) for connection in connections))

    def _redial(self, address: bytes) -> None:
        task = self._dialling.pop(address, None)
        if task is not None:
            task.cancel()

    def _forget(self, address: bytes) -> None:
        self._redial(address)
        connection = self._connections.get(address)
        if connection is not None:
            connection.close()

    def _accepted(self, connection: Connection) -> None:
        address = connection.peer.address
        if address not in self._peers or self._closed:
            return
        standing = self._connections.get(address)
        now = asyncio.get_running_loop().time()
        if address > self.address and standing is not None and now - standing.data < RACE_SECONDS:
            connection.close()  # both have dialled, and the connection of the smaller address stays
            return
        connection.watch_loss(self._lost)
        self._adopt(connection)

    def _adopt(self, connection: Connection) -> None:
        address = connection.peer.address
        old = self._connections.get(address)
        connection.data = asyncio.get_running_loop().time()
        self._connections[address] = connection
        if old is not None:
            # Both have dialled; or the peer restarted before we noticed that its old connection is dead.
            old.abort()
            self._tell(self.on_peer_down, address)
        self._tell(self.on_peer_up, address)
        self._wake()

    def _lost(self, connection: Connection) -> None:
        address = connection.peer.address
        if self._connections.get(address) is connection:
            del self._connections[address]
            self._tell(self.on_peer_down, address)
            self._wake()

    def _wake(self) -> None:
        """Let the dialling tasks look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell(self, callback: Callable[[bytes], None] | None, address: bytes) -> None:
        if callback is not None and not self._closed:
            callback(address)

    async def _keep_dialled(self, peer: MeshPeer) -> None:
        delay = FIRST_RETRY_SECONDS
        while True:
            longest = LAST_RETRY_SECONDS if peer.trusted else REGISTER_RETRY_SECONDS
            await self._until_alone(peer.address)
            lost = asyncio.Event()

            def gone(connection: Connection, lost: asyncio.Event = lost) -> None:
                self._lost(connection)
                lost.set()

            try:
                connection = await dial(
                    peer.host,
                    peer.port,
                    tls=self._tls,
                    expected_key=peer.public_key,
                    identity=self._identity,
                    peer_class=CLASS_NODE,
                    genesis_hash=self._genesis_hash,
                    routes=self._routes,
                    on_lost=gone,
                )
            except RpcError as error:
                _log.debug("peer not reached", peer=f"{peer.host}:{peer.port}", reason=str(error))
            else:
                opened = asyncio.get_running_loop().time()
                if self.address > peer.address and peer.address in self._connections:
                    connection.close()  # it has dialled meanwhile
                elif not connection.closed:
                    self._adopt(connection)
                    await lost.wait()
                # A server that refuses our hello closes at once: keep backing off then.
                if asyncio.get_running_loop().time() - opened > LAST_RETRY_SECONDS:
                    delay = FIRST_RETRY_SECONDS
                longest = max(longest, REFUSED_RETRY_SECONDS)
            await asyncio.sleep(delay * self._jitter.uniform(0.5, 1.0))
            delay = min(delay * 1.6, longest)

    async def _until_alone(self, address: bytes) -> None:
        """Until the member is not connected; for the larger address of a pair, until it has not been for a while."""
        while True:
            while address in self._connections:
                await self._changed.wait()
            if self.address < address:
                return
            try:
                async with asyncio.timeout(PATIENCE_SECONDS * self._jitter.uniform(0.5, 1.0)):
                    while address not in self._connections:
                        await self._changed.wait()
            except TimeoutError:
                return
