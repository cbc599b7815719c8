"""Who belongs to the validators' mesh."""

from stratos.chain.members import MAX_FOLLOWERS, mesh_members
from stratos.crypto.keys import NodeKey
from stratos.ledger import staking
from stratos.ledger.distribution import VALIDATORS, ValidatorRecord
from stratos.net.mesh import MeshPeer
from stratos.state import Branch, MemoryStore
from stratos.wire.block import Validator
from stratos.wire.config import PeerEntry

OWN_HOST = "10.0.0.1"


class Register:
    """A state with hand-made validators."""

    def __init__(self) -> None:
        self.state = Branch(MemoryStore())

    def add(
        self, number: int, *, tokens: int = 1, voting: bool = True, announced: str = "", tombstoned: bool = False
    ) -> NodeKey:
        key = NodeKey(number.to_bytes(32, "big"))
        record = ValidatorRecord(
            address=key.address,
            public_key=key.public_key,
            operator=bytes(20),
            name=f"v{number}",
            commission_bp=0,
            start_height=0,
            tokens_wei=str(tokens),
            tombstoned=tombstoned,
        )
        VALIDATORS.set(self.state, key.address, record)
        if announced:
            staking.NETWORK_ADDRESSES.set(self.state, key.address, announced)
        if voting:
            voters = {one.address: one for one in staking.voters(self.state)}
            voters[key.address] = Validator(key.address, key.public_key, 1)
            staking.VOTERS.set(self.state, b"", tuple(voters[address] for address in sorted(voters)))
        return key

    def members(self, *configured: PeerEntry) -> dict[bytes, MeshPeer]:
        return {peer.address: peer for peer in mesh_members(self.state, configured, own_host=OWN_HOST)}


def entry(key: NodeKey, endpoint: str = "10.0.0.9:1") -> PeerEntry:
    return PeerEntry(name="peer", role="validator", public_key=key.public_key.hex(), endpoint=endpoint)


def test_configured_peers_are_the_way_in() -> None:
    """Without any state, the config decides, also about nodes that the chain does not know yet."""
    key = NodeKey(b"n" * 32)
    assert Register().members(entry(key)) == {key.address: MeshPeer(key.public_key, "10.0.0.9", 1)}


def test_a_voter_that_no_config_lists_is_dialled_where_it_says() -> None:
    """One with a usable announced endpoint is dialled there, warily; one without may come by itself."""
    register = Register()
    told, silent, wrong = (
        register.add(1, announced="10.0.0.7:26656"),
        register.add(2),
        register.add(3, announced="127.0.0.1:22"),
    )
    members = register.members()
    assert members[told.address] == MeshPeer(told.public_key, "10.0.0.7", 26656, trusted=False)
    assert members[silent.address] == MeshPeer(silent.public_key, "", 0, trusted=False)
    assert members[wrong.address] == MeshPeer(wrong.public_key, "", 0, trusted=False)


def test_the_config_knows_better_where_a_voter_is() -> None:
    """An announcement does not move a configured peer."""
    register = Register()
    key = register.add(1, announced="10.0.0.7:26656")
    assert register.members(entry(key))[key.address] == MeshPeer(key.public_key, "10.0.0.9", 1)


def test_validators_without_a_vote_may_follow_but_are_not_dialled() -> None:
    """A newcomer, a jailed one and one that left, listed or not; the smallest stakes fall out when there are too many."""
    register = Register()
    key = register.add(1, tokens=10**6, voting=False, announced="10.0.0.7:26656")
    assert register.members(entry(key)) == {key.address: MeshPeer(key.public_key, "", 0)}
    small = register.add(2, tokens=0, voting=False)
    for number in range(3, 3 + MAX_FOLLOWERS):
        register.add(number, voting=False)
    members = register.members(entry(small))
    assert len(members) == MAX_FOLLOWERS
    assert key.address in members
    assert small.address not in members


def test_who_signed_twice_is_out() -> None:
    """Whatever the config says."""
    register = Register()
    key = register.add(1, voting=False, tombstoned=True)
    assert register.members(entry(key)) == {}
