"""Overlays: a state that can be read, written, and thrown away.

A `Branch` remembers writes over a parent it never touches until `merge`. A block executes in one branch, every
transaction of it in a branch of that one, so a refused transaction leaves nothing behind and a block that was
executed but not committed costs nothing to forget. Deletion is remembered as None. Iteration is in key order and sees
the state as it was when the iteration started, so a handler may write while it walks.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol, cast


class Reader(Protocol):
    """Something keys can be read from."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, or None."""
        ...

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) with this prefix, in key order."""
        ...


class Branch:
    """Writes over a parent reader; see the module note."""

    __slots__ = ("_parent", "_writes")

    def __init__(self, parent: Reader) -> None:
        self._parent = parent
        self._writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of `key` as this branch sees it, or None."""
        writes = self._writes
        if key in writes:
            return writes[key]
        return self._parent.get(key)

    def set(self, key: bytes, value: bytes) -> None:
        """Write `value` under `key`."""
        self._writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove `key`; removing an absent key is allowed."""
        self._writes[key] = None

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) with this prefix, in key order, as of the call's first step."""
        local = sorted((key, value) for key, value in self._writes.items() if key.startswith(prefix))
        if not local:
            yield from self._parent.items(prefix)
            return
        position = 0
        end = len(local)
        for key, value in self._parent.items(prefix):
            while position < end and local[position][0] < key:
                written = local[position][1]
                if written is not None:
                    yield local[position][0], written
                position += 1
            if position < end and local[position][0] == key:
                written = local[position][1]
                if written is not None:
                    yield key, written
                position += 1
            else:
                yield key, value
        while position < end:
            written = local[position][1]
            if written is not None:
                yield local[position][0], written
            position += 1

    def branch(self) -> "Branch":
        """A branch of this branch."""
        return Branch(self)

    @property
    def parent(self) -> Reader:
        """What this branch was made from."""
        return self._parent

    def merge(self) -> None:
        """Write everything into the parent, which must be a branch, and start empty again."""
        parent = self._parent
        if not isinstance(parent, Branch):
            raise TypeError(
                f"only a branch of a branch can be merged, the parent is {type(parent).__name__}; commit it"
            )
        parent._writes.update(self._writes)
        self._writes.clear()

    def freeze(self) -> None:
        """From now on every write raises TypeError: the root of this branch has been told to others."""
        if isinstance(self._writes, dict):
            self._writes = cast(dict[bytes, bytes | None], MappingProxyType(self._writes))

    def changes(self) -> Mapping[bytes, bytes | None]:
        """What was written here, None for a deletion. Not a copy."""
        return self._writes
