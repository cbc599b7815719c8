"""What every conversation of a holder works with: one record of shared parts, and the reused transfer buffers."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stratos.crypto.keys import NodeKey
from stratos.resource.books import Books
from stratos.resource.link import LinkPool
from stratos.resource.store import SliceStore
from stratos.resource.tokens import TokenError, TokenVerifier
from stratos.wire.limits import KIB
from stratos.wire.metalog import Session
from stratos.wire.transfer import PlacementToken

BUFFER_BYTES = 256 * KIB
"""What is received, hashed, written and sent on in one go: small enough to stay in a core's own cache meanwhile."""
KNOWN_PLACEMENTS = 1024


class Buffers:
    """Reused transfer buffers: touching fresh pages costs more than moving the bytes."""

    def __init__(self, keep: int = 32, size: int = BUFFER_BYTES) -> None:
        self._keep = keep
        self._size = size
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[memoryview]:
        """A buffer for the length of a `with` block."""
        with self._lock:
            buffer = self._free.pop() if self._free else bytearray(self._size)
        try:
            yield memoryview(buffer)
        finally:
            with self._lock:
                if len(self._free) < self._keep:
                    self._free.append(buffer)


class Placements:
    """Verified placements, by upload: what this node may be sent. Thread-safe, bounded."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, int], tuple[PlacementToken, Session]] = OrderedDict()

    def learn(self, token: PlacementToken) -> None:
        """Verify a token and remember it; raises TokenError."""
        key = (token.placement.upload, token.placement.first_index)
        with self._lock:
            known = self._known.get(key)
        newest = known is None or token.evidence.header.time_ms > known[0].evidence.header.time_ms
        if known is not None and known[0].placement == token.placement and not newest:
            return  # the newest is kept, because it is what the next holder is shown
        _, session = self._verifier.placement(token)
        with self._lock:
            self._known[key] = (token, session)
            while len(self._known) > KNOWN_PLACEMENTS:
                self._known.popitem(last=False)

    def find(self, upload: bytes, index: int) -> tuple[PlacementToken, Session]:
        """The placement that slice `index` of an upload belongs to; raises TokenError when none was shown."""
        with self._lock:
            for (known_upload, first), found in reversed(self._known.items()):
                if known_upload == upload and first <= index < first + len(found[0].placement.slices):
                    return found
        raise TokenError(f"no placement of upload {upload.hex()} for slice {index} was shown; send its token", -6)


@dataclass
class Counters:
    """Totals since start, for /metrics and /status."""

    received_bytes: int = 0
    served_bytes: int = 0
    forwarded_bytes: int = 0
    repaired_bytes: int = 0
    refused: int = 0
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, amount: int) -> None:
        """Count; from any thread."""
        with self.lock:
            setattr(self, name, getattr(self, name) + amount)


@dataclass(frozen=True)
class Services:
    """Shared parts of one holder."""

    key: NodeKey
    genesis_hash: bytes
    store: SliceStore
    books: Books
    verifier: TokenVerifier
    placements: Placements
    links: LinkPool
    buffers: Buffers
    counters: Counters
    epoch: Callable[[], int]
    now_ms: Callable[[], int]
