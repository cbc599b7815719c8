"""Who belongs to the mesh of meta nodes, now: what the config lists, and whom the log knows.

The config is the way in: a node that has no state yet has nothing else. From then on the log decides, so one more meta
node changes no other node's files. Active authorities are dialled, at the endpoint in our config or at the registered one.
Candidates and those that left may connect and follow the log, a bounded number of them, but nobody dials them: a candidate
has caught up before it is admitted, so its admission costs the layer nothing.
"""

from collections.abc import Sequence

from stratos.meta.rooms import AUTHORITY
from stratos.net.endpoints import usable_endpoint
from stratos.net.mesh import MeshPeer
from stratos.state import Reader
from stratos.wire.config import PeerEntry, split_endpoint

MAX_FOLLOWERS = 64
"""Meta nodes without a vote that may be connected; configured ones first."""


def mesh_peer(entry: PeerEntry) -> MeshPeer:
    """A mesh member from its config entry."""
    host, port = split_endpoint(entry.endpoint)
    return MeshPeer(bytes.fromhex(entry.public_key), host, port)


def mesh_members(reader: Reader, configured: Sequence[PeerEntry], *, own_host: str) -> list[MeshPeer]:
    """Members of the meta layer's mesh by the committed state and the config of this node."""
    members = {peer.address: peer for peer in map(mesh_peer, configured)}
    silent = []
    for address, authority in AUTHORITY.items(reader):
        if not authority.active:
            silent.append((address not in members, address, authority.public_key))
        elif address not in members:
            host, port = usable_endpoint(authority.network_address, own_host=own_host) or ("", 0)
            members[address] = MeshPeer(authority.public_key, host, port, trusted=False)
    for place, (_, address, public_key) in enumerate(sorted(silent)):
        if place < MAX_FOLLOWERS:
            members[address] = MeshPeer(public_key, "", 0)
        else:
            members.pop(address, None)
    return list(members.values())
