"""Entries that wait for a block: pure, bounded, in order of arrival, chain blocks first and by height.

Every entry here has a good signature and would have been accepted by the state when it came. `urgent` entries make a block
due at once; heartbeats and the like ride along with the next one (an idle network need not make blocks for
them). What was ordered lately is remembered, so gossip of it is no news.
"""

from collections import OrderedDict

from msgspec import Struct

from stratos.wire.metalog import ChainBlock, Entry

REMEMBERED = 50_000


class PooledEntry(Struct, frozen=True):
    """An entry with its hash and bytes as received. `lazy`: it may wait for the next block."""

    name: bytes
    raw: bytes
    entry: Entry
    lazy: bool = False

    @property
    def chain_height(self) -> int | None:
        """The chain height a bridge entry carries, None for all others."""
        body = self.entry.request.body
        return body.header.height if isinstance(body, ChainBlock) else None


class PoolFull(Exception):
    """No room for one more entry."""


class EntryPool:
    """See the module note."""

    def __init__(self, *, max_entries: int = 20_000, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, PooledEntry] = OrderedDict()
        self._seen: set[bytes] = set()
        self._seen_before: set[bytes] = set()
        self._urgent = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: bytes) -> bool:
        return name in self._entries

    @property
    def urgent(self) -> bool:
        """Whether something here should be ordered without waiting."""
        return self._urgent > 0

    def get(self, name: bytes) -> PooledEntry | None:
        """A waiting entry."""
        return self._entries.get(name)

    def seen(self, name: bytes) -> bool:
        """Whether the entry is here or was ordered lately."""
        return name in self._entries or name in self._seen or name in self._seen_before

    def has_chain_height(self, height: int) -> bool:
        """Whether a bridge entry of this chain height waits."""
        return any(pooled.chain_height == height for pooled in self._entries.values())

    def waiting(self) -> list[PooledEntry]:
        """Everything here, oldest first."""
        return list(self._entries.values())

    def add(self, pooled: PooledEntry) -> bool:
        """Add one; False when it is here or was ordered already. Raises PoolFull."""
        if self.seen(pooled.name):
            return False
        if len(self._entries) >= self._max_entries or self.bytes + len(pooled.raw) > self._max_bytes:
            raise PoolFull(f"{len(self._entries)} entries of {self.bytes} bytes wait already; try again later")
        self._entries[pooled.name] = pooled
        self.bytes += len(pooled.raw)
        self._urgent += not pooled.lazy
        return True

    def reap(self, *, max_bytes: int, max_entries: int) -> list[PooledEntry]:
        """What to try in the next block: chain blocks by height, then the rest in order of arrival. They stay here."""
        chosen: list[PooledEntry] = []
        size = 0
        everything = list(self._entries.values())
        chain = sorted((p for p in everything if p.chain_height is not None), key=lambda p: p.chain_height or 0)
        for pooled in [*chain, *(p for p in everything if p.chain_height is None)]:
            if len(chosen) == max_entries or size + len(pooled.raw) > max_bytes:
                break
            chosen.append(pooled)
            size += len(pooled.raw)
        return chosen

    def ordered(self, names: list[bytes]) -> None:
        """A block was committed with these."""
        for name in names:
            self.drop(name)
            self._seen.add(name)
        if len(self._seen) * 2 > REMEMBERED:
            self._seen_before, self._seen = self._seen, set()

    def drop(self, name: bytes) -> None:
        """Forget one that the state refuses."""
        pooled = self._entries.pop(name, None)
        if pooled is not None:
            self.bytes -= len(pooled.raw)
            self._urgent -= not pooled.lazy

    def drop_chain_up_to(self, height: int) -> list[PooledEntry]:
        """Forget bridge entries the log no longer wants; returns them."""
        stale = [p for p in self._entries.values() if p.chain_height is not None and p.chain_height <= height]
        for pooled in stale:
            self.drop(pooled.name)
        return stale
