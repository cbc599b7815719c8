"""Dialling the bulk port of a holder, and keeping idle connections for the next transfer.

The caller checks that the node is who it should be (its key in the TLS certificate, or its signature over a fresh
challenge on plain transport; here both, always) and proves its own key with a signature bound to that challenge.
`LinkPool` keeps a few idle links per holder: a TLS handshake costs more than moving a small slice.
"""

import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Protocol

from stratos.crypto.keys import node_address, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.net.peers import Identity, PeerUnreachable
from stratos.net.tls import client_context, server_key
from stratos.resource.frames import BulkSocket, FrameError, LinkBroken, RefusedByPeer
from stratos.wire.config import ConfigError, split_endpoint
from stratos.wire.rpc import PROTOCOL_VERSION
from stratos.wire.transfer import TAG_BULK_CHALLENGE, TAG_BULK_HELLO, BulkChallenge, BulkHello

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
IDLE_LINKS_PER_HOLDER = 4
IDLE_SECONDS = 20.0
"""Younger idle links are reused without a thought; nodes close theirs after a longer time."""

TRANSFER_ERRORS = (LinkBroken, FrameError, RefusedByPeer, PeerUnreachable)
"""Everything that can go wrong with one holder without being our own fault."""


class Monotonic(Protocol):
    def __call__(self) -> float: ...


class BulkLink(BulkSocket):
    """A dialled connection to one holder. `tokens` remembers which tokens the holder has already been shown on it."""

    def __init__(self, raw: socket.socket, *, address: bytes, timeout: float) -> None:
        super().__init__(raw, timeout=timeout)
        self.address = address
        self.tokens: set[tuple[bytes, int]] = set()
        self.idle_since = 0.0


def challenge_body(nonce: bytes) -> bytes:
    """What a node's BulkChallenge signs beyond tag, genesis hash and version."""
    return nonce


def hello_body(nonce: bytes, server_public_key: bytes) -> bytes:
    """What a caller's BulkHello signs beyond tag, genesis hash and version."""
    return nonce + server_public_key


def dial(
    endpoint: str,
    *,
    address: bytes,
    identity: Identity,
    genesis_hash: bytes,
    tls: ssl.SSLContext | None,
    connect_timeout: float = CONNECT_SECONDS,
    timeout: float = SILENCE_SECONDS,
) -> BulkLink:
    """An open link to the holder with this node address; raises PeerUnreachable. `tls` None: plain transport."""
    try:
        host, port = split_endpoint(endpoint)
        raw = socket.create_connection((host, port), timeout=connect_timeout)
    except (OSError, ConfigError) as error:
        raise PeerUnreachable(f"cannot connect to holder {endpoint}: {error}; is the node up?") from error
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proved = None
        if tls is not None:
            raw = tls.wrap_socket(raw, server_hostname=None)
            proved = server_key(raw)
        link = BulkLink(raw, address=address, timeout=connect_timeout)
        challenge = link.expect(BulkChallenge)
        signed = sign_bytes(TAG_BULK_CHALLENGE, genesis_hash, challenge_body(challenge.nonce))
        if (proved is not None and proved != challenge.public_key) or node_address(challenge.public_key) != address:
            raise PeerUnreachable(f"{endpoint} is not holder {address.hex()}; look its address up again")
        if not verify_node(challenge.public_key, signed, challenge.signature):
            raise PeerUnreachable(f"{endpoint} did not prove its key for this network; check the genesis file")
        body = sign_bytes(TAG_BULK_HELLO, genesis_hash, hello_body(challenge.nonce, challenge.public_key))
        hello = BulkHello(PROTOCOL_VERSION, genesis_hash, identity.public_key, identity.sign(body))
        link.send(hello, flush=False)
        link.set_timeout(timeout)
        return link
    except (FrameError, RefusedByPeer, OSError) as error:
        raw.close()
        raise PeerUnreachable(f"holder {endpoint} did not open a bulk connection: {error}") from error
    except BaseException:
        raw.close()
        raise


class LinkPool:
    """Idle links by holder. `get` dials when there is none; `put` gives a healthy link back."""

    def __init__(
        self,
        *,
        identity: Identity,
        genesis_hash: bytes,
        transport: str,
        now: Monotonic,
        timeout: float = SILENCE_SECONDS,
    ) -> None:
        self._identity = identity
        self._genesis_hash = genesis_hash
        self._tls = client_context() if transport == "tls" else None
        self._timeout = timeout
        self._now = now
        self._lock = threading.Lock()
        self._idle: dict[bytes, list[BulkLink]] = {}
        self._closed = False

    def get(self, address: bytes, endpoint: str) -> BulkLink:
        """A link to this holder; raises PeerUnreachable."""
        stale: list[BulkLink] = []
        found = None
        with self._lock:
            idle = self._idle.get(address, [])
            while idle and found is None:
                link = idle.pop()
                if self._now() - link.idle_since > IDLE_SECONDS:
                    stale.append(link)
                else:
                    found = link
        for link in stale:
            link.close()
        # An idle link has nothing to say: bytes (or an end) waiting on it mean that the holder gave it up.
        if found is not None and found.readable():
            found.close()
            found = None
        if found is not None:
            return found
        return dial(
            endpoint,
            address=address,
            identity=self._identity,
            genesis_hash=self._genesis_hash,
            tls=self._tls,
            timeout=self._timeout,
        )

    def put(self, link: BulkLink) -> None:
        """Keep a link whose last conversation ended well."""
        link.idle_since = self._now()
        with self._lock:
            idle = self._idle.setdefault(link.address, [])
            if not self._closed and len(idle) < IDLE_LINKS_PER_HOLDER:
                idle.append(link)
                return
        link.close()

    def close(self) -> None:
        """Close every idle link; links given back later are closed at once."""
        with self._lock:
            self._closed = True
            links = [link for idle in self._idle.values() for link in idle]
            self._idle.clear()
        for link in links:
            link.close()

    @property
    def idle(self) -> Mapping[bytes, int]:
        """Idle links per holder."""
        with self._lock:
            return {address: len(links) for address, links in self._idle.items()}
