"""RPC over real TLS on loopback: who may do what, what a bad caller gets, what a slow one costs."""

import asyncio
from typing import Any

import pytest

from stratos.crypto.keys import NodeKey
from stratos.crypto.signing import sign_bytes
from stratos.net.frames import encode_frame
from stratos.net.peers import LIMITS, PeerUnreachable, RpcRefused, RpcTimeout
from stratos.net.rpc import PortInUse, RpcServer, hello_body
from stratos.net.tls import server_context
from stratos.wire.codec import encode
from stratos.wire.rpc import KIND_REQUEST, PROTOCOL_VERSION, Challenge, Hello


async def test_each_class_is_what_it_proved(talk: Any, records: Any) -> None:
    """A guest has no key, a client and an authorised node are known by theirs."""
    node, client = NodeKey.generate(), NodeKey.generate()
    talk.node_keys.add(node.public_key)
    for peer_class, identity, key in (
        ("guest", None, b""),
        ("client", client, client.public_key),
        ("node", node, node.public_key),
    ):
        async with await talk.client(peer_class, identity) as connection:
            assert await connection.call(records.Whoami(), records.Name) == records.Name(peer_class, key)
            assert connection.server_key == talk.key.public_key


async def test_a_request_outside_the_class_is_refused_and_the_connection_goes_on(talk: Any, records: Any) -> None:
    """Guests and clients are told to say hello; their next allowed request is answered."""
    async with await talk.client() as guest:
        with pytest.raises(RpcRefused, match="say hello first"):
            await guest.call(records.ClientsOnly(), records.Echo)
        assert await guest.call(records.Echo(b"x"), records.Echo) == records.Echo(b"x")
    async with await talk.client("client") as client:
        with pytest.raises(RpcRefused, match="is for node connections"):
            await client.call(records.NodesOnly(), records.Echo)


async def test_a_key_that_is_not_registered_cannot_be_a_node(talk: Any, records: Any) -> None:
    """The hello is judged, not believed."""
    stranger = await talk.client("node", NodeKey.generate())
    with pytest.raises(RpcRefused, match="may not connect as node"):
        await stranger.call(records.NodesOnly(), records.Echo)


async def test_the_dialler_refuses_a_server_with_another_key_or_network(talk: Any) -> None:
    """Neither a wrong certificate key nor another genesis gets a single request."""
    with pytest.raises(PeerUnreachable, match="check the endpoint"):
        await talk.client(expected_key=NodeKey.generate().public_key)
    with pytest.raises(PeerUnreachable, match="use its genesis file"):
        await talk.client(genesis_hash=b"h" * 32)


@pytest.mark.parametrize("fault", ["nonce", "server", "network", "class", "version", "key"])
async def test_a_hello_made_for_another_connection_is_worth_nothing(talk: Any, records: Any, fault: str) -> None:
    """A hello whose signature covers another nonce, server, network, class, version or key is refused."""
    identity = NodeKey.generate()
    guest = await talk.client()
    connection = guest._connection
    challenge = Challenge(PROTOCOL_VERSION, records.GENESIS, talk.key.public_key, b"\0" * 32)
    if fault == "server":
        challenge = Challenge(PROTOCOL_VERSION, records.GENESIS, NodeKey.generate().public_key, challenge.nonce)
    genesis = b"h" * 32 if fault == "network" else records.GENESIS
    signed = sign_bytes(b"hello", genesis, hello_body(challenge, "node" if fault == "class" else "client"))
    hello = Hello(
        99 if fault == "version" else PROTOCOL_VERSION,
        "client",
        genesis,
        NodeKey.generate().public_key if fault == "key" else identity.public_key,
        identity.sign(signed),
    )
    connection.send_frame(encode_frame(KIND_REQUEST, 0, encode(hello)))
    with pytest.raises((RpcRefused, PeerUnreachable)):
        await guest.call(records.ClientsOnly(), records.Echo)


async def test_a_bug_in_a_handler_is_an_error_without_details(talk: Any, records: Any) -> None:
    """The caller learns that it failed, not why; the connection lives."""
    async with await talk.client("client") as client:
        with pytest.raises(RpcRefused, match="see its log") as failed:
            await client.call(records.Fail(), records.Echo)
        assert "secret" not in str(failed.value)
        with pytest.raises(RpcRefused, match="add some") as refused:
            await client.call(records.Refuse(), records.Echo)
        assert refused.value.code == "funds"
        assert await client.call(records.Echo(b"x"), records.Echo) == records.Echo(b"x")


async def test_an_unknown_request_is_refused_by_name(talk: Any, records: Any) -> None:
    """What the port does not answer is refused as invalid; the connection lives."""
    async with await talk.client("client") as client:
        with pytest.raises(RpcRefused, match="not a known message"):
            await client.call(records.Name("x", b""), records.Echo)
        assert await client.call(records.Echo(b"x"), records.Echo) == records.Echo(b"x")


async def test_a_guest_frame_over_its_limit_ends_the_connection(talk: Any, records: Any) -> None:
    """A guest may not send what a client may."""
    body = records.Echo(bytes(LIMITS["guest"].frame_bytes + 1))
    async with await talk.client("client") as client:
        assert await client.call(body, records.Echo) == body
    guest = await talk.client()
    with pytest.raises((RpcRefused, PeerUnreachable)):
        await guest.call(body, records.Echo)


async def test_requests_over_the_in_flight_limit_wait_and_are_answered_in_the_end(
    talk: Any, records: Any, until: Any
) -> None:
    """A pipelining guest never has more handlers running than its class allows."""
    limit = LIMITS["guest"].in_flight
    async with await talk.client() as guest:
        calls = [asyncio.ensure_future(guest.call(records.Hold(), records.Echo)) for _ in range(3 * limit)]
        await until(lambda: talk.held == limit)
        for _ in range(20):
            await asyncio.sleep(0)
        assert talk.held == limit
        talk.gate.set()
        assert len(await asyncio.gather(*calls)) == 3 * limit


async def test_a_guest_that_asks_too_often_is_told_to_slow_down(talk: Any, records: Any) -> None:
    """Beyond burst and rate the answer is busy."""
    async with await talk.client() as guest:
        calls = [guest.call(records.Echo(b""), records.Echo) for _ in range(LIMITS["guest"].burst * 2)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    busy = [answer for answer in answers if isinstance(answer, RpcRefused) and answer.code == "busy"]
    assert busy
    assert len(answers) - len(busy) >= LIMITS["guest"].burst


async def test_a_call_without_an_answer_times_out_and_the_connection_goes_on(talk: Any, records: Any) -> None:
    """The late answer is dropped, the next call gets its own."""
    async with await talk.client("client") as client:
        with pytest.raises(RpcTimeout, match="no answer to Hold"):
            await client.call(records.Hold(), records.Echo, timeout_seconds=0.01)
        talk.gate.set()
        assert await client.call(records.Echo(b"mine"), records.Echo) == records.Echo(b"mine")


async def test_callers_learn_at_once_that_the_server_went_away(talk: Any, records: Any, until: Any) -> None:
    """Open calls fail when the connection ends; later ones fail without waiting."""
    client = await talk.client("client")
    call = asyncio.ensure_future(client.call(records.Hold(), records.Echo, timeout_seconds=60))
    await until(lambda: talk.held == 1)
    await talk.server.close()
    with pytest.raises(PeerUnreachable):
        await call
    with pytest.raises(PeerUnreachable):
        await client.call(records.Echo(b""), records.Echo)


async def test_notifications_arrive_in_order_and_only_from_those_allowed(talk: Any, records: Any, until: Any) -> None:
    """Clients may send notes here; a guest who does is cut off."""
    async with await talk.client("client") as client:
        for number in range(100):
            client.notify(records.Note(str(number)))
        await until(lambda: len(talk.notes) == 100)
    assert talk.notes == [str(number) for number in range(100)]
    guest = await talk.client()
    guest.notify(records.Note("no"))
    await until(lambda: guest.closed)
    assert len(talk.notes) == 100


async def test_large_answers_to_a_slow_reader_stop_its_reading(talk: Any, records: Any, until: Any) -> None:
    """A client that does not read is not read either, so its answers cannot pile up without bound."""
    client = await talk.client("client")
    client._connection.transport.pause_reading()
    body = records.Echo(bytes(1 << 20))
    calls = [asyncio.ensure_future(client.call(body, records.Echo, timeout_seconds=60)) for _ in range(24)]
    [server_side] = talk.server._connections
    await until(lambda: server_side.congested and server_side._reading_paused)
    assert server_side.transport.get_write_buffer_size() < 16 * (1 << 20)
    client._connection.transport.resume_reading()
    assert len(await asyncio.gather(*calls)) == 24


async def test_a_taken_port_is_one_sentence(talk: Any) -> None:
    """PortInUse names host, port and the fix."""
    other = NodeKey.generate()
    server = RpcServer(identity=other, genesis_hash=b"g" * 32, tls=server_context(other), routes=talk.routes)
    with pytest.raises(PortInUse, match="choose another port"):
        await server.start("127.0.0.1", talk.server.port)


async def test_guests_cannot_take_all_connections(records: Any, until: Any) -> None:
    """The share of guests is bounded; clients still get in."""
    small = records.Conversation()
    small.server._max_connections, small.server._max_guests = 6, 2
    await small.server.start("127.0.0.1", 0)
    guests = [await small.client() for _ in range(2)]
    with pytest.raises(PeerUnreachable):
        await small.client()
    await guests[0].close()
    await until(lambda: small.server.connections == 1)
    async with await small.client("client") as client:
        assert await client.call(records.Echo(b"x"), records.Echo) == records.Echo(b"x")
    await small.server.close()
