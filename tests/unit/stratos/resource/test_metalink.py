"""Asking any of several meta nodes, with real connections: a silent one costs time, one that lags nothing, never the answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.net.peers import RpcRefused
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import server_context
from stratos.resource.metalink import MetaEndpoint, MetaLink
from stratos.wire.metarpc import Balance, FileAnswer, GetBalance, GetUpload, Stamp

NETWORK = b"n" * 32
WALLET = b"w" * 20
UPLOAD = b"u" * 16
ANSWER = Balance(Stamp(7, b"r" * 32, 1, 1), 5, 6)
FOUND = FileAnswer(ANSWER.stamp, None, b"", None, (), b"note", False)


class Metas:
    """Three meta nodes, a link to them, and which of them were asked for `WALLET` and `UPLOAD`, in order."""

    def __init__(self) -> None:
        self.keys = [NodeKey.generate() for _ in range(3)]
        self.servers: list[RpcServer] = []
        self.asked: list[int] = []
        self.silent: set[int] = set()
        self.lagging: set[int] = set()
        self.nobody_knows = False
        self.over = asyncio.Event()

    async def start(self) -> None:
        ports = []
        for index, key in enumerate(self.keys):
            routes = Routes()
            routes.on_request(GetBalance, lambda _peer, request, index=index: self._balance(index, request))
            routes.on_request(GetUpload, lambda _peer, _request, index=index: self._upload(index))
            server = RpcServer(identity=key, genesis_hash=NETWORK, tls=server_context(key), routes=routes)
            ports.append(await server.start("127.0.0.1", 0))
            self.servers.append(server)
        self.link = MetaLink(
            [
                MetaEndpoint(f"m{index}", f"127.0.0.1:{port}", self.keys[index].public_key)
                for index, port in enumerate(ports)
            ],
            identity=NodeKey.generate(),
            genesis_hash=NETWORK,
        )

    async def stop(self) -> None:
        self.over.set()
        self.link.close()
        for server in self.servers:
            await server.close()

    async def call(self, request: Any, kind: Any, **how: Any) -> Any:
        return await asyncio.to_thread(self.link.call, request, kind, **how)

    async def _balance(self, index: int, request: GetBalance) -> Balance:
        if request.wallet == WALLET:
            self.asked.append(index)
        if index in self.silent:
            await self.over.wait()
        return structs.replace(ANSWER, stamp=self._stamp(index))

    def _upload(self, index: int) -> FileAnswer:
        self.asked.append(index)
        if self.nobody_knows or index in self.lagging:
            raise RpcRefused("upload", "there is no such upload")
        return FOUND

    def _stamp(self, index: int) -> Stamp:
        return structs.replace(ANSWER.stamp, height=3) if index in self.lagging else ANSWER.stamp


@pytest.fixture
async def metas() -> AsyncIterator[Metas]:
    """Three nodes that know everything."""
    made = Metas()
    await made.start()
    yield made
    await made.stop()


async def first_asked(metas: Metas) -> int:
    """The node that this link asks first, which has then answered from height 7."""
    assert await metas.call(GetBalance(WALLET), Balance) == ANSWER
    return metas.asked.pop()


async def test_a_silent_node_leaves_time_to_ask_another(metas: Metas) -> None:
    """With a deadline shorter than the patience for one node the next one is asked in time, and first from then on."""
    first = await first_asked(metas)
    metas.silent.add(first)
    for _ in range(2):
        assert await metas.call(GetBalance(WALLET), Balance, deadline_seconds=8.0, try_seconds=12.0) == ANSWER
    assert metas.asked == [first, (first + 1) % 3, (first + 1) % 3]


async def test_a_refusal_of_a_node_that_lags_is_not_believed(metas: Metas) -> None:
    """Who does not know yet what this link has seen already is passed over; who does is believed."""
    first = await first_asked(metas)
    metas.lagging.add(first)
    assert await metas.call(GetUpload(UPLOAD), FileAnswer) == FOUND
    assert metas.asked == [first, (first + 1) % 3]
    metas.nobody_knows = True
    with pytest.raises(RpcRefused, match="no such upload"):
        await metas.call(GetUpload(UPLOAD), FileAnswer)
    assert first not in metas.asked[2:]
