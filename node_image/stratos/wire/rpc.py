"""Bodies of control frames that every connection knows: challenge, hello, error, ping.

A frame is u32 big-endian length | u8 kind | u32 request id | msgpack body (`stratos.net.frames`); the length counts
everything after itself. The rooms declare their own requests as tagged array records and register handlers for
them; the four records here are the ones the transport itself speaks.

The server opens with `Challenge`. A caller who wants to be more than a guest answers with `Hello` as its first
frame. The Hello signature covers the nonce and the key of the server's TLS certificate, so it proves the caller's key
on this very channel and is worth nothing on another one.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire.scalars import (
    Count,
    Ed25519Public,
    Ed25519Signature,
    ErrorText,
    Hash32,
    ShortText,
    TimeMs,
)

PROTOCOL_VERSION = 1
TAG_HELLO = b"hello"

KIND_REQUEST = 1
KIND_RESPONSE = 2
KIND_ERROR = 3
KIND_NOTIFY = 4

CLASS_NODE = "node"
CLASS_CLIENT = "client"
CLASS_GUEST = "guest"

PeerClass = Annotated[str, Meta(pattern="^(node|client|guest)$")]


class Challenge(Struct, frozen=True, array_like=True, tag="challenge"):
    """First frame of the server: protocol version, its genesis hash, its node key and a fresh nonce."""

    version: Count
    genesis_hash: Hash32
    server_key: Ed25519Public
    nonce: Hash32


class Hello(Struct, frozen=True, array_like=True, tag="hello"):
    """First frame of a caller that is a node or a client. `signature` covers sign_bytes(b"hello", genesis hash,
    nonce || server key || class)."""

    version: Count
    peer_class: PeerClass
    genesis_hash: Hash32
    public_key: Ed25519Public
    signature: Ed25519Signature


class Ping(Struct, frozen=True, array_like=True, tag="ping"):
    """Answered by every server with a Pong; any class may send it."""


class Pong(Struct, frozen=True, array_like=True, tag="pong"):
    """Answer to Ping: the server's wall clock."""

    time_ms: TimeMs


class ErrorBody(Struct, frozen=True, array_like=True, tag="error"):
    """A refused request: a machine-readable code and one sentence with the fix."""

    code: ShortText
    sentence: ErrorText
