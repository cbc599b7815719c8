"""Who belongs to the meta nodes' mesh."""

from stratos.crypto.keys import NodeKey
from stratos.meta.members import MAX_FOLLOWERS, mesh_members
from stratos.meta.rooms import AUTHORITY, Authority
from stratos.net.mesh import MeshPeer
from stratos.state import Branch, MemoryStore
from stratos.wire.config import PeerEntry


def known(state: Branch, number: int, *, active: bool, network_address: str = "10.0.0.7:8888") -> NodeKey:
    """A meta node in the log."""
    key = NodeKey(number.to_bytes(32, "big"))
    owner = bytes(20)
    AUTHORITY.set(
        state,
        key.address,
        Authority(key.address, key.public_key, owner, owner, f"m{number}", network_address, active, 0),
    )
    return key


def members(state: Branch, *configured: NodeKey) -> dict[bytes, MeshPeer]:
    entries = [
        PeerEntry(name="peer", role="meta", public_key=key.public_key.hex(), endpoint="10.0.0.9:1")
        for key in configured
    ]
    return {peer.address: peer for peer in mesh_members(state, entries, own_host="10.0.0.1")}


def test_authorities_are_dialled_at_the_configured_or_the_registered_endpoint() -> None:
    """One that no config lists is found by the register; an unusable registered endpoint is not dialled."""
    state = Branch(MemoryStore())
    listed, new, odd = (
        known(state, 1, active=True),
        known(state, 2, active=True),
        known(state, 3, active=True, network_address="[::1]:1"),
    )
    assert members(state, listed) == {
        listed.address: MeshPeer(listed.public_key, "10.0.0.9", 1),
        new.address: MeshPeer(new.public_key, "10.0.0.7", 8888, trusted=False),
        odd.address: MeshPeer(odd.public_key, "", 0, trusted=False),
    }


def test_a_peer_that_the_log_does_not_know_yet_is_dialled() -> None:
    """The config is the way in."""
    key = NodeKey(b"n" * 32)
    assert members(Branch(MemoryStore()), key) == {key.address: MeshPeer(key.public_key, "10.0.0.9", 1)}


def test_candidates_may_follow_but_are_not_dialled_and_not_without_bound() -> None:
    """Those that the config lists come first."""
    state = Branch(MemoryStore())
    keys = [known(state, number, active=False) for number in range(1, MAX_FOLLOWERS + 9)]
    found = members(state, keys[-1])
    assert len(found) == MAX_FOLLOWERS
    assert found[keys[-1].address] == MeshPeer(keys[-1].public_key, "", 0)
