"""Builders for transport tests: keys, a small conversation, a server on a free port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct

from stratos.crypto.keys import NodeKey
from stratos.net.peers import CLIENTS, NODES, PeerIdentity, RpcRefused
from stratos.net.routes import Routes
from stratos.net.rpc import RpcClient, RpcServer
from stratos.net.tls import client_context, server_context

GENESIS = b"g" * 32


class Echo(Struct, frozen=True, array_like=True, tag="echo"):
    data: bytes


class Whoami(Struct, frozen=True, array_like=True, tag="whoami"):
    pass


class Name(Struct, frozen=True, array_like=True, tag="name"):
    peer_class: str
    public_key: bytes


class ClientsOnly(Struct, frozen=True, array_like=True, tag="clients_only"):
    pass


class NodesOnly(Struct, frozen=True, array_like=True, tag="nodes_only"):
    pass


class Hold(Struct, frozen=True, array_like=True, tag="hold"):
    """Answered when the test sets `gate`."""


class Fail(Struct, frozen=True, array_like=True, tag="fail"):
    pass


class Refuse(Struct, frozen=True, array_like=True, tag="refuse"):
    pass


class Note(Struct, frozen=True, array_like=True, tag="note"):
    text: str


class Conversation:
    """A server with a handler of each sort."""

    def __init__(self) -> None:
        self.key = NodeKey.generate()
        self.gate = asyncio.Event()
        self.held = 0
        self.notes: list[str] = []
        self.node_keys: set[bytes] = set()
        self.routes = Routes()
        self.routes.on_request(Echo, lambda _peer, request: request)
        self.routes.on_request(Whoami, lambda peer, _request: Name(peer.peer_class, peer.public_key))
        self.routes.on_request(ClientsOnly, lambda _peer, _request: Echo(b""), allow=CLIENTS)
        self.routes.on_request(NodesOnly, lambda _peer, _request: Echo(b""), allow=NODES)
        self.routes.on_request(Hold, self._hold)
        self.routes.on_request(Fail, self._fail)
        self.routes.on_request(Refuse, self._refuse)
        self.routes.on_notify(Note, lambda _peer, note: self.notes.append(note.text), allow=CLIENTS)
        self.server = RpcServer(
            identity=self.key,
            genesis_hash=GENESIS,
            tls=server_context(self.key),
            routes=self.routes,
            authorise=lambda peer_class, key: peer_class == "client" or key in self.node_keys,
        )

    async def client(self, peer_class: str = "guest", identity: NodeKey | None = None, **changes: Any) -> RpcClient:
        """A connection of a class."""
        if identity is None and peer_class != "guest":
            identity = NodeKey.generate()
        arguments: dict[str, Any] = {
            "tls": client_context(),
            "expected_key": self.key.public_key,
            "identity": identity,
            "peer_class": peer_class,
            "genesis_hash": GENESIS,
            **changes,
        }
        return await RpcClient.connect("127.0.0.1", self.server.port, **arguments)

    async def _hold(self, _peer: PeerIdentity, _request: Hold) -> Echo:
        self.held += 1
        await self.gate.wait()
        self.held -= 1
        return Echo(b"held")

    async def _fail(self, _peer: PeerIdentity, _request: Fail) -> Echo:
        raise RuntimeError("a secret detail")

    def _refuse(self, _peer: PeerIdentity, _request: Refuse) -> Echo:
        raise RpcRefused("funds", "there is not enough; add some")


@pytest.fixture
async def talk() -> AsyncIterator[Conversation]:
    """A running conversation."""
    conversation = Conversation()
    await conversation.server.start("127.0.0.1", 0)
    yield conversation
    await conversation.server.close()


async def eventually(condition: Callable[[], bool], *, seconds: float = 120.0) -> None:
    """Return when the condition holds; fails after the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition belongs to code without an event to wait on
            await asyncio.sleep(0.005)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """`await until(condition)`."""
    return eventually


@pytest.fixture
def records() -> Any:
    """The record types, for tests (test modules cannot import a conftest)."""
    import types

    return types.SimpleNamespace(
        Echo=Echo,
        Whoami=Whoami,
        Name=Name,
        ClientsOnly=ClientsOnly,
        NodesOnly=NodesOnly,
        Hold=Hold,
        Fail=Fail,
        Refuse=Refuse,
        Note=Note,
        GENESIS=GENESIS,
        Conversation=Conversation,
    )
