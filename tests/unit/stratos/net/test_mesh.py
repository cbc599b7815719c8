"""The mesh: one connection per pair, messages to all, and it heals by itself."""

from typing import Any

import pytest
from msgspec import Struct

from stratos.crypto.keys import NodeKey
from stratos.net import mesh as mesh_module
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger addresses soon dial for themselves."""
    monkeypatch.setattr(mesh_module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(mesh_module, "REFUSED_RETRY_SECONDS", 0.1)


async def two(smaller_knows: bool) -> tuple[Member, Member]:
    """(the one that knows the other's endpoint, the one that only knows its key), started."""
    small, large = sorted((Member(NodeKey.generate()) for _ in range(2)), key=lambda member: member.key.address)
    for member in (small, large):
        await member.start()
    return (small, large) if smaller_knows else (large, small)


@pytest.mark.parametrize("smaller_knows", [True, False])
@pytest.mark.usefixtures("impatient")
async def test_it_is_enough_that_one_of_a_pair_knows_the_other(smaller_knows: bool, until: Any) -> None:
    """A newcomer reaches members that know its key and not its endpoint, whichever address is the smaller, again and again."""
    newcomer, member = await two(smaller_knows)
    member.mesh.set_peers([MeshPeer(newcomer.key.public_key, "", 0)])
    newcomer.mesh.set_peers([member.peer])
    await until(lambda: bool(newcomer.mesh.up and member.mesh.up))
    member.mesh.notify(Word("welcome"))
    await until(lambda: newcomer.heard == [(member.key.address, "welcome")])
    port = newcomer.server.port
    await newcomer.stop()
    await until(lambda: not member.mesh.up)
    again = Member(newcomer.key)
    await again.start(port)
    again.mesh.set_peers([member.peer])
    await until(lambda: bool(again.mesh.up and member.mesh.up))
    await again.stop()
    await member.stop()


@pytest.mark.usefixtures("impatient")
async def test_when_both_dial_one_connection_stays(monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    """Two nodes that dial each other at once end with one connection, the same one for both."""
    monkeypatch.setattr(mesh_module, "PATIENCE_SECONDS", 0.0)
    one, other = await two(smaller_knows=True)
    one.mesh.set_peers([other.peer])
    other.mesh.set_peers([one.peer])
    await until(lambda: bool(one.mesh.up and other.mesh.up))
    await until(lambda: one.server.connections + other.server.connections == 1)
    one.mesh.notify(Word("a"))
    other.mesh.notify(Word("b"))
    await until(lambda: bool(one.heard and other.heard))
    assert one.server.connections + other.server.connections == 1
    await one.stop()
    await other.stop()


@pytest.mark.usefixtures("impatient")
async def test_a_newcomer_is_let_in_once_it_is_a_member(until: Any) -> None:
    """Refused while nobody knows it, a node that goes on dialling is connected as soon as it has become a member."""
    newcomer, member = await two(smaller_knows=False)
    member.mesh.set_peers([])
    newcomer.mesh.set_peers([member.peer])
    await until(lambda: bool(newcomer.mesh.up))
    assert member.mesh.up == ()
    member.mesh.set_peers([newcomer.peer])
    await until(lambda: member.mesh.up == (newcomer.key.address,))
    await newcomer.stop()
    await member.stop()


async def test_a_new_endpoint_keeps_the_connection_that_stands(until: Any) -> None:
    """What a register says about an endpoint never cuts a member off that has proved its key."""
    one, other = await two(smaller_knows=True)
    one.mesh.set_peers([other.peer])
    other.mesh.set_peers([one.peer])
    await until(lambda: bool(one.mesh.up and other.mesh.up))
    one.mesh.set_peers([MeshPeer(other.key.public_key, "127.0.0.1", 1, trusted=False)])
    other.mesh.set_peers([MeshPeer(one.key.public_key, "", 0)])
    one.mesh.notify(Word("still here"))
    await until(lambda: bool(other.heard))
    assert (one.downs, other.downs) == ([], [])
    await one.stop()
    await other.stop()
