"""Asking the meta layer from threads: which node is asked, and when the next one is."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from msgspec import Struct

from stratos.crypto.keys import NodeKey
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import server_context
from stratos.resource.metalink import MetaEndpoint, MetaLink, MetaUnreachable

GENESIS = b"g" * 32
SHORT_SECONDS = 0.5


class Question(Struct, frozen=True, array_like=True, tag="question"):
    pass


class Answer(Struct, frozen=True, array_like=True, tag="answer"):
    by: str


@pytest.fixture
def frozen() -> Iterator[int]:
    """The port of a node that is stopped: the kernel takes connections, nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


async def test_a_silent_node_is_asked_once_and_then_left(frozen: int) -> None:
    """Calls with less time than one node may take get through at the second try, whoever was asked first."""
    key = NodeKey.generate()
    routes = Routes()
    routes.on_request(Question, lambda _peer, _question: Answer("good"))
    server = RpcServer(identity=key, genesis_hash=GENESIS, tls=server_context(key), routes=routes)
    port = await server.start("127.0.0.1", 0)
    good = MetaEndpoint("good", f"127.0.0.1:{port}", key.public_key)
    silent = MetaEndpoint("silent", f"127.0.0.1:{frozen}", NodeKey.generate().public_key)

    def work(endpoints: list[MetaEndpoint]) -> list[str]:
        link = MetaLink(endpoints, identity=NodeKey(b"i" * 32), genesis_hash=GENESIS)
        got = []
        for _ in range(3):
            try:
                got.append(link.call(Question(), Answer, deadline_seconds=SHORT_SECONDS).by)
            except MetaUnreachable:
                got.append("")
        link.close()
        return got

    for order in ([good, silent], [silent, good]):
        assert (await asyncio.to_thread(work, order))[1:] == ["good", "good"]
    await server.close()
