"""Which meta nodes a resource node adds to those of its config."""

from typing import Any, cast

from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import NodeKey
from stratos.net.peers import RpcRefused
from stratos.resource.entry_points import learn_entry_points
from stratos.resource.metalink import MetaEndpoint, MetaLink
from stratos.resource.tokens import AuthorityTrust
from stratos.wire.block import Validator
from stratos.wire.peersrpc import Peer, Peers

KEYS = [NodeKey(bytes([number]) * 32) for number in range(1, 5)]


class Link(MetaLink):
    """A link that is answered by a list instead of a network."""

    def __init__(self, answer: Peers | Exception) -> None:
        super().__init__(
            [MetaEndpoint("m1", "10.0.0.1:8888", KEYS[0].public_key)],
            identity=NodeKey(b"i" * 32),
            genesis_hash=b"g" * 32,
        )
        self.answer = answer

    def call(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Trust:
    """The first three keys are authorities."""

    def current(self) -> ValidatorSet:
        return ValidatorSet([Validator(key.address, key.public_key, 1) for key in KEYS[:3]])


def learned(answer: Peers | Exception) -> tuple[int, int]:
    """How many were new, once and once more."""
    link, trust = Link(answer), cast(AuthorityTrust, Trust())
    return tuple(learn_entry_points(link, trust, own_host="10.0.0.9") for _ in range(2))  # type: ignore[return-value]


def test_authorities_that_can_be_reached_are_added_once() -> None:
    """Not the one that is known, not one at an address that no peer has, not a stranger."""
    told = Peers(
        (
            Peer(KEYS[0].public_key, "10.0.0.1:8888"),
            Peer(KEYS[1].public_key, "10.0.0.2:8888"),
            Peer(KEYS[2].public_key, "127.0.0.1:22"),
            Peer(KEYS[3].public_key, "10.0.0.4:8888"),
        )
    )
    assert learned(told) == (1, 0)


def test_meta_nodes_that_do_not_tell_change_nothing() -> None:
    """An older one refuses the question."""
    assert learned(RpcRefused("invalid", "unknown request")) == (0, 0)
