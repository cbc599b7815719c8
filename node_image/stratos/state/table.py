"""Typed rooms of the state: a prefix, and how the values in it are written.

`Table` holds records as canonical msgpack, `AmountTable` integers of any size as decimal text (readable in proofs and
over REST), where absent and 0 are the same thing and 0 is never stored, so that one balance has one state.
`CounterTable` holds small counters. A table is a constant of its module; the branch or reader is an argument.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from stratos.state.branch import Branch, Reader
from stratos.wire.codec import encode

V = TypeVar("V")


class Table(Generic[V]):
    """Records of one type under `prefix`."""

    __slots__ = ("_decoder", "prefix")

    def __init__(self, prefix: bytes, kind: type[V]) -> None:
        self.prefix = prefix
        self._decoder: msgspec.msgpack.Decoder[V] = msgspec.msgpack.Decoder(kind)

    def get(self, reader: Reader, suffix: bytes) -> V | None:
        """The record under `suffix`, or None."""
        data = reader.get(self.prefix + suffix)
        return None if data is None else self._decoder.decode(data)

    def set(self, branch: Branch, suffix: bytes, record: V) -> None:
        """Store `record` under `suffix`."""
        branch.set(self.prefix + suffix, encode(record))

    def delete(self, branch: Branch, suffix: bytes) -> None:
        """Remove what is under `suffix`."""
        branch.delete(self.prefix + suffix)

    def items(self, reader: Reader, under: bytes = b"") -> Iterator[tuple[bytes, V]]:
        """(suffix, record) in key order, of suffixes that start with `under`."""
        skip = len(self.prefix)
        for key, data in reader.items(self.prefix + under):
            yield key[skip:], self._decoder.decode(data)


class AmountTable:
    """Non-negative integers under `prefix`; absent means 0."""

    __slots__ = ("prefix",)

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix

    def get(self, reader: Reader, suffix: bytes = b"") -> int:
        """The amount under `suffix`, 0 when absent."""
        data = reader.get(self.prefix + suffix)
        return 0 if data is None else int(data)

    def set(self, branch: Branch, suffix: bytes, amount: int) -> None:
        """Store a non-negative amount; 0 removes the key."""
        if amount > 0:
            branch.set(self.prefix + suffix, b"%d" % amount)
        elif amount == 0:
            branch.delete(self.prefix + suffix)
        else:
            raise ValueError(f"{self.prefix.decode()} would become {amount}; amounts are never negative")

    def add(self, branch: Branch, suffix: bytes, amount: int) -> int:
        """Add `amount` (may be negative, the result may not) and return the new amount."""
        after = self.get(branch, suffix) + amount
        self.set(branch, suffix, after)
        return after

    def items(self, reader: Reader, under: bytes = b"") -> Iterator[tuple[bytes, int]]:
        """(suffix, amount) in key order, of suffixes that start with `under`."""
        skip = len(self.prefix)
        for key, data in reader.items(self.prefix + under):
            yield key[skip:], int(data)


class CounterTable(AmountTable):
    """Counters under `prefix`; the same text form, named apart because they are not money."""

    __slots__ = ()
