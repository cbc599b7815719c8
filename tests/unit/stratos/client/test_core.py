"""What all operations of a client share: which meta nodes are asked, and whose word counts."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stratos.client.core import Core
from stratos.client.errors import NotFound
from stratos.client.records import Endpoints, MetaEndpoint
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.net.peers import RpcRefused
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import server_context
from stratos.wire.genesis import Genesis, GenesisNode, genesis_hash
from stratos.wire.metarpc import FileAnswer, GetUpload, Stamp

UPLOAD = b"u" * 16
KEYS = [NodeKey(bytes([number]) * 32) for number in (1, 2, 3, 4)]
OWNER = b"\1" * 20
GENESIS = Genesis(
    network="asked",
    time_ms=1,
    meta_nodes=tuple(
        GenesisNode(owner=OWNER, beneficiary=OWNER, node_public_key=key.public_key, deposit_wei="1") for key in KEYS
    ),
)
FOUND = FileAnswer(Stamp(7, b"r" * 32, 1, 1), None, b"", None, (), b"note", False)


async def asked(knows: Callable[[int], bool], work: Callable[[Core], None]) -> list[int]:
    """Let `work` use a client of four meta nodes, of which some know the upload; which of them were asked, in order."""
    order: list[int] = []

    def node(index: int) -> RpcServer:
        def answer(_peer: Any, _request: GetUpload) -> FileAnswer:
            order.append(index)
            if not knows(index):
                raise RpcRefused("upload", "there is no such upload")
            return FOUND

        routes = Routes()
        routes.on_request(GetUpload, answer)
        key = KEYS[index]
        return RpcServer(identity=key, genesis_hash=genesis_hash(GENESIS), tls=server_context(key), routes=routes)

    servers = [node(index) for index in range(4)]
    ports = [await server.start("127.0.0.1", 0) for server in servers]
    rows = [
        MetaEndpoint(name=f"m{index}", rpc=f"127.0.0.1:{port}", public_key=KEYS[index].public_key.hex())
        for index, port in enumerate(ports)
    ]

    def use() -> None:
        core = Core(GENESIS, Endpoints(meta=tuple(rows)), WalletKey.generate(), ledger_dir=None, deadline_seconds=60.0)
        try:
            work(core)
        finally:
            core.close()

    try:
        await asyncio.to_thread(use)
    finally:
        for server in servers:
            await server.close()
    return order


async def test_a_node_that_lags_does_not_hide_what_others_know() -> None:
    """Not found is believed of no single node: what any of them knows is found, and that node is asked first from then on."""
    seen: list[int] = []

    def knows(index: int) -> bool:
        seen.append(index)
        return index != seen[0]

    def work(core: Core) -> None:
        for _ in range(2):
            assert core.find(GetUpload(UPLOAD), FileAnswer) == FOUND

    order = await asked(knows, work)
    lagging = order[0]
    assert order == [lagging, (lagging + 1) % 4, (lagging + 1) % 4]


async def test_what_no_node_knows_is_not_found() -> None:
    """Each of four nodes is asked once before the answer is believed."""

    def work(core: Core) -> None:
        with pytest.raises(NotFound, match="no such upload"):
            core.find(GetUpload(UPLOAD), FileAnswer)

    assert sorted(await asked(lambda _: False, work)) == [0, 1, 2, 3]
