"""Where the voting nodes of a layer answer: what a node asks so that its ways into the network outlive its config.

An answer is a hint. Who asks keeps only those whose keys it can tell to be voters by itself, and the key is proved again in TLS.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire.scalars import Ed25519Public, Name


class GetPeers(Struct, frozen=True, array_like=True, tag="get_peers"):
    """The voters of the layer of the node asked, as far as it knows where they answer."""


class Peer(Struct, frozen=True, array_like=True):
    """A voter and its endpoint (host:port)."""

    public_key: Ed25519Public
    network_address: Name


class Peers(Struct, frozen=True, array_like=True, tag="peers"):
    peers: Annotated[tuple[Peer, ...], Meta(max_length=1024)]
