"""The committed state of a machine: values for reading, the authenticated map for the root.

A block is executed on `fork()`, `preview` gives the root its header must carry, `commit` makes it the state. The map
computed by `preview` is kept until `commit`, so the hashing happens once per block on every path (own proposal,
verified proposal, catch-up). Several forks may be previewed at the same height (rounds of consensus); only one is
committed. `extra` records (the block, its certificate) change together with the state, but are not under its root.
This class keeps everything in memory; `durable.DurableState` is the same thing on disk.
"""

from collections.abc import Callable, Iterator, Mapping

from stratos.state.authmap import AuthMap, StateProof
from stratos.state.branch import Branch
from stratos.state.memory import MemoryStore

_KEPT_PREVIEWS = 8


class StateError(Exception):
    """The state was used against its rules, or its file is not what it should be."""


class State:
    """Committed keys with their root."""

    get: Callable[[bytes], bytes | None]
    """The committed value of a key, or None."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.get = self._store.get
        self._map = AuthMap()
        self._height = 0
        self._extra: dict[bytes, bytes] = {}
        self._previews: dict[int, tuple[Branch, AuthMap]] = {}

    def __len__(self) -> int:
        return len(self._store)

    @property
    def root(self) -> bytes:
        """Root of the committed state."""
        return self._map.root

    @property
    def height(self) -> int:
        """Height given with the last commit, 0 before the first."""
        return self._height

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All committed (key, value) with this prefix, in key order."""
        return self._store.items(prefix)

    def prove(self, key: bytes) -> StateProof:
        """Proof of the key's committed value or absence against `root`."""
        return self._map.prove(key)

    def extra(self, key: bytes) -> bytes | None:
        """A record committed beside the state, or None."""
        return self._extra.get(key)

    def fork(self) -> Branch:
        """A branch to execute a block on."""
        return Branch(self)

    def preview(self, branch: Branch) -> bytes:
        """The root the state would have after `branch`; freezes the branch and remembers the map for `commit`."""
        return self._preview(branch).root

    def commit(self, branch: Branch, height: int, extra: Mapping[bytes, bytes] | None = None) -> bytes:
        """Make `branch` the state at `height`, store `extra` with it, and return the new root."""
        after = self._preview(branch)
        self._persist(branch, height=height, root=after.root, extra=extra or {})
        self._store.apply(branch.changes())
        self._map = after
        self._height = height
        self._previews.clear()
        return after.root

    def _persist(self, branch: Branch, *, height: int, root: bytes, extra: Mapping[bytes, bytes]) -> None:
        self._extra.update(extra)

    def _preview(self, branch: Branch) -> AuthMap:
        if branch.parent is not self:
            raise StateError("this branch was not forked from this state; merge it into one that was, or fork again")
        known = self._previews.get(id(branch))
        if known is not None:
            return known[1]
        branch.freeze()
        after = self._map.update(branch.changes())
        while len(self._previews) >= _KEPT_PREVIEWS:
            del self._previews[next(iter(self._previews))]
        self._previews[id(branch)] = (branch, after)
        return after
