"""Asking any of several meta nodes, with real connections: a silent one costs time, and never the answer."""

import asyncio
from typing import Any

from stratos.crypto.keys import NodeKey
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import server_context
from stratos.resource.metalink import TRY_SECONDS, MetaEndpoint, MetaLink
from stratos.wire.metarpc import Balance, GetBalance, Stamp

NETWORK = b"n" * 32
ANSWER = Balance(Stamp(1, b"r" * 32, 1, 1), 5, 6)


async def test_a_silent_node_leaves_time_to_ask_another() -> None:
    """With a deadline shorter than the patience for one node the next one is asked in time, and first from then on."""
    asked: list[int] = []
    never = asyncio.Event()
    keys = [NodeKey.generate() for _ in range(3)]
    silent: set[int] = set()

    def node(index: int) -> RpcServer:
        async def answer(_peer: Any, _request: GetBalance) -> Balance:
            asked.append(index)
            if not silent:
                silent.add(index)
            if index in silent:
                await never.wait()
            return ANSWER

        routes = Routes()
        routes.on_request(GetBalance, answer)
        return RpcServer(identity=keys[index], genesis_hash=NETWORK, tls=server_context(keys[index]), routes=routes)

    servers = [node(index) for index in range(3)]
    ports = [await server.start("127.0.0.1", 0) for server in servers]
    link = MetaLink(
        [MetaEndpoint(f"m{index}", f"127.0.0.1:{port}", keys[index].public_key) for index, port in enumerate(ports)],
        identity=NodeKey.generate(),
        genesis_hash=NETWORK,
    )
    try:
        for _ in range(2):
            call = asyncio.to_thread(
                link.call, GetBalance(b"w" * 20), Balance, deadline_seconds=2 * TRY_SECONDS, try_seconds=3 * TRY_SECONDS
            )
            assert await call == ANSWER
    finally:
        never.set()
        link.close()
        for server in servers:
            await server.close()
    first = asked[0]
    assert asked == [first, (first + 1) % 3, (first + 1) % 3]
