"""The mesh: one connection per pair, messages to all, and it heals by itself."""

from typing import Any

import pytest
from msgspec import Struct

from stratos.crypto.keys import NodeKey
from stratos.net.mesh import MeshPeer, PeerMesh
from stratos.net.peers import PeerIdentity, PeerUnreachable
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import client_context, server_context

GENESIS = b"g" * 32


class Word(Struct, frozen=True, array_like=True, tag="word"):
    text: str


class Member:
    """One node: server, mesh, and what it heard."""

    def __init__(self, key: NodeKey) -> None:
        self.key = key
        self.heard: list[tuple[bytes, str]] = []
        self.ups: list[bytes] = []
        self.downs: list[bytes] = []
        self.routes = Routes()
        self.routes.on_notify(Word, self._hear)
        self.routes.on_request(Word, lambda _peer, word: Word(word.text.upper()))
        self.server = RpcServer(
            identity=key,
            genesis_hash=GENESIS,
            tls=server_context(key),
            routes=self.routes,
            authorise=lambda _class, _key: True,
        )
        self.mesh = PeerMesh(
            identity=key,
            genesis_hash=GENESIS,
            server=self.server,
            routes=self.routes,
            tls=client_context(),
            on_peer_up=self.ups.append,
            on_peer_down=self.downs.append,
        )

    async def start(self, port: int = 0) -> None:
        await self.server.start("127.0.0.1", port)

    @property
    def peer(self) -> MeshPeer:
        return MeshPeer(self.key.public_key, "127.0.0.1", self.server.port)

    async def stop(self) -> None:
        await self.mesh.close()
        await self.server.close()

    def _hear(self, peer: PeerIdentity, word: Word) -> None:
        self.heard.append((peer.address, word.text))


async def meshed(count: int, until: Any) -> list[Member]:
    members = [Member(NodeKey.generate()) for _ in range(count)]
    for member in members:
        await member.start()
    for member in members:
        member.mesh.set_peers([other.peer for other in members])
    await until(lambda: all(len(member.mesh.up) == count - 1 for member in members))
    return members


async def test_every_pair_shares_one_connection_and_hears_each_other(until: Any) -> None:
    """A broadcast of each reaches all others, attributed to its sender; calls work in both directions."""
    members = await meshed(4, until)
    assert sum(member.server.connections for member in members) == 6
    for member in members:
        member.mesh.notify(Word(member.key.address.hex()))
    await until(lambda: all(len(member.heard) == 3 for member in members))
    for member in members:
        assert {text for _, text in member.heard} == {peer.hex() for peer in member.mesh.peers}
        assert all(sender.hex() == text for sender, text in member.heard)
        for address in member.mesh.up:
            assert await member.mesh.call(address, Word("a"), Word) == Word("A")
    for member in members:
        await member.stop()


async def test_a_restarted_member_is_connected_again(until: Any) -> None:
    """Both the dialling and the accepting side of a pair notice the loss and come back, whoever restarted."""
    members = await meshed(3, until)
    for index in range(3):
        old = members[index]
        port = old.server.port
        others = [member for member in members if member is not old]
        await old.stop()
        await until(lambda others=others, old=old: all(old.key.address not in member.mesh.up for member in others))
        members[index] = Member(old.key)
        await members[index].start(port)
        members[index].mesh.set_peers([member.peer for member in members])
        await until(lambda: all(len(member.mesh.up) == 2 for member in members))
        assert all(old.key.address in member.downs for member in others)
    for member in members:
        await member.stop()


async def test_members_may_change_while_running(until: Any) -> None:
    """A member left out is disconnected, a new one is connected, the others keep their connections."""
    members = await meshed(3, until)
    first, second, _ = members
    for member in (first, second):
        member.mesh.set_peers([first.peer, second.peer])
    await until(lambda: first.mesh.up == (second.key.address,) and second.mesh.up == (first.key.address,))
    assert not first.downs.count(second.key.address)
    for member in (first, second):
        member.mesh.set_peers([one.peer for one in members])
    await until(lambda: all(len(member.mesh.up) == 2 for member in members))
    for member in members:
        await member.stop()


async def test_strangers_are_not_adopted(until: Any) -> None:
    """A node that is authorised but no member gets no place in the mesh, and calls to it fail at once."""
    one, stranger = Member(NodeKey.generate()), Member(NodeKey.generate())
    await one.start()
    await stranger.start()
    stranger.mesh.set_peers([one.peer])
    one.mesh.set_peers([])
    if stranger.key.address < one.key.address:
        await until(lambda: bool(stranger.mesh.up))
    assert one.mesh.up == ()
    with pytest.raises(PeerUnreachable):
        await one.mesh.call(stranger.key.address, Word("a"), Word)
    await one.stop()
    await stranger.stop()
