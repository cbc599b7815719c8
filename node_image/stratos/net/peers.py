"""Who is at the other end of a connection, what its class may do, and the errors of a call.

Three classes share one port (node, client, guest). A class bounds what a connection can cost us: the size of a
frame, requests in flight, requests per second and the time it may be idle. Nodes are never idled out, because
consensus peers are silent between slow blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from stratos.wire.limits import MAX_CLIENT_FRAME_BYTES, MAX_FRAME_BYTES, MAX_GUEST_FRAME_BYTES
from stratos.wire.rpc import CLASS_CLIENT, CLASS_GUEST, CLASS_NODE

EVERYONE = frozenset({CLASS_NODE, CLASS_CLIENT, CLASS_GUEST})
CLIENTS = frozenset({CLASS_NODE, CLASS_CLIENT})
NODES = frozenset({CLASS_NODE})


class Identity(Protocol):
    """An ed25519 key that can prove itself: a node key or a session key (`stratos.crypto.keys.NodeKey`)."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, data: bytes, /) -> bytes: ...


class PeerIdentity(Struct, frozen=True):
    """The proven other end. Guests have no key (`public_key` and `address` empty); `remote` is their IP address."""

    peer_class: str
    public_key: bytes
    address: bytes
    remote: str


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """What one connection of a class may use."""

    frame_bytes: int
    in_flight: int
    requests_per_second: float
    burst: int
    idle_seconds: float


LIMITS: Mapping[str, ClassLimits] = {
    CLASS_NODE: ClassLimits(MAX_FRAME_BYTES, 1024, 1e9, 1_000_000, float("inf")),
    CLASS_CLIENT: ClassLimits(MAX_CLIENT_FRAME_BYTES, 256, 20_000.0, 40_000, 120.0),
    CLASS_GUEST: ClassLimits(MAX_GUEST_FRAME_BYTES, 8, 50.0, 100, 15.0),
}


class RpcError(Exception):
    """A call that did not give an answer."""


class RpcRefused(RpcError):
    """The other side answered with an error: machine-readable `code`, one `sentence` with the fix.

    Handlers raise it to refuse; callers receive the same error."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class RpcTimeout(RpcError):
    """No answer within the time allowed; the request may or may not have been done."""


class PeerUnreachable(RpcError):
    """No connection, a connection that ended, or one whose other end is not who it should be."""


class TokenBucket:
    """Allows `rate` per second with bursts; pure, time is passed in."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """True when one more is allowed at `now`."""
        self._tokens = min(float(self.burst), self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
