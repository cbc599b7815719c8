"""The blocking client speaks the same protocol from threads."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from stratos.crypto.keys import NodeKey
from stratos.net import blocking
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import PeerUnreachable, RpcRefused, RpcTimeout


def connect(talk: Any, records: Any, **changes: Any) -> BlockingRpcClient:
    arguments = {
        "expected_key": talk.key.public_key,
        "identity": NodeKey.generate(),
        "peer_class": "client",
        "genesis_hash": records.GENESIS,
        **changes,
    }
    return BlockingRpcClient("127.0.0.1", talk.server.port, **arguments)


async def test_threads_share_one_client(talk: Any, records: Any) -> None:
    """Calls of many threads on one connection each get their own answer."""

    def work() -> None:
        with connect(talk, records) as client, ThreadPoolExecutor(4) as pool:
            bodies = [records.Echo(str(number).encode() * 1000) for number in range(64)]
            assert list(pool.map(lambda body: client.call(body, records.Echo), bodies)) == bodies
            with pytest.raises(RpcRefused, match="add some"):
                client.call(records.Refuse(), records.Echo)
            client.notify(records.Note("hello"))
            assert client.call(records.Whoami(), records.Name).peer_class == "client"

    await asyncio.to_thread(work)
    assert talk.notes == ["hello"]


async def test_a_timed_out_call_closes_the_connection(talk: Any, records: Any) -> None:
    """A late answer can never be taken for the next call's."""

    def work() -> None:
        client = connect(talk, records)
        with pytest.raises(RpcTimeout, match="no answer to Hold"):
            client.call(records.Hold(), records.Echo, timeout_seconds=0.05)
        assert client.closed
        with pytest.raises(PeerUnreachable, match="connect again"):
            client.call(records.Echo(b""), records.Echo)

    await asyncio.to_thread(work)
    talk.gate.set()


async def test_wrong_servers_are_refused(talk: Any, records: Any) -> None:
    """Another key, another network, nobody at all: PeerUnreachable with the reason."""

    def work() -> None:
        with pytest.raises(PeerUnreachable, match="check the endpoint"):
            connect(talk, records, expected_key=b"\1" * 32)
        with pytest.raises(PeerUnreachable, match="use its genesis file"):
            connect(talk, records, genesis_hash=b"\1" * 32)
        with pytest.raises(PeerUnreachable, match="is the node up"):
            BlockingRpcClient("127.0.0.1", 1, expected_key=None)

    await asyncio.to_thread(work)


async def test_time_that_runs_out_before_the_hello_is_an_unreachable_peer(
    talk: Any, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is overloaded the deadline may pass between challenge and hello; no duty may die of that."""
    real = blocking.check_challenge

    def slow(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        monkeypatch.setattr(blocking, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3_600))

    monkeypatch.setattr(blocking, "check_challenge", slow)

    def work() -> None:
        with pytest.raises(PeerUnreachable, match="took no hello: TimeoutError"):
            connect(talk, records)

    await asyncio.to_thread(work)
