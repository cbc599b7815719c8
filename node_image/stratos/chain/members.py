"""Who belongs to the mesh of validators, now: what the config lists, and what the chain's register says.

The config is the way in: a node that has no state yet has nothing else. From then on the state decides, so one more
validator changes no other node's files. Voters are dialled, at the endpoint in our config or at the one they have
announced; other registered validators (a newcomer without weight yet, a jailed one, one that leaves) may connect and
follow, but nobody dials them. One that signed twice is out, whatever the config says.
"""

from collections.abc import Sequence

from stratos.ledger import staking
from stratos.ledger.distribution import VALIDATORS
from stratos.net.endpoints import usable_endpoint
from stratos.net.mesh import MeshPeer
from stratos.state import Reader
from stratos.wire import txs
from stratos.wire.config import PeerEntry, split_endpoint

MAX_FOLLOWERS = 64
"""Registered validators beyond the voters that may be connected, the largest stakes first."""
MEMBERSHIP_MESSAGES = (
    txs.AnnounceValidator,
    txs.CreateValidator,
    txs.Delegate,
    txs.Undelegate,
    txs.DoubleSignEvidence,
)
"""After these, and after nothing else, `mesh_members` may have another answer."""


def mesh_peer(entry: PeerEntry) -> MeshPeer:
    """A mesh member from its config entry."""
    host, port = split_endpoint(entry.endpoint)
    return MeshPeer(bytes.fromhex(entry.public_key), host, port)


def mesh_members(reader: Reader, configured: Sequence[PeerEntry], *, own_host: str) -> list[MeshPeer]:
    """Members of the validators' mesh by the committed state and the config of this node."""
    members = {peer.address: peer for peer in map(mesh_peer, configured)}
    followers = MAX_FOLLOWERS
    voting = {voter.address for voter in staking.voters(reader)}
    registered = sorted(VALIDATORS.items(reader), key=lambda item: (-int(item[1].tokens_wei), item[0]))
    for address, record in registered:
        if record.tombstoned:
            members.pop(address, None)
        elif address in voting:
            if address not in members:
                announced = staking.NETWORK_ADDRESSES.get(reader, address) or ""
                host, port = usable_endpoint(announced, own_host=own_host) or ("", 0)
                members[address] = MeshPeer(record.public_key, host, port, trusted=False)
        elif followers:
            followers -= 1
            members[address] = MeshPeer(record.public_key, "", 0)
        else:
            members.pop(address, None)
    return list(members.values())
