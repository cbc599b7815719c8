"""Where the bytes of a slice come from: memory, or a part of a file that is read as often as needed.

A slice is passed over several times (hash tree, content names, sending, a second try), each time in chunks that fit the
processor's cache. Reading a cached file again is cheaper than keeping it whole in fresh memory, so uploading a file
of any size takes a few small buffers. A file that changes while it is uploaded is found out by the holders' hashes.
"""

import os
from collections.abc import Iterator
from typing import Protocol

from stratos.client.errors import Environment
from stratos.resource.services import Buffers
from stratos.wire.limits import KIB

CHUNK_BYTES = 256 * KIB


class SliceSource(Protocol):
    """Bytes of one slice; every pass gives the same bytes."""

    @property
    def length(self) -> int: ...

    def chunks(self) -> Iterator[memoryview]:
        """The bytes in order; a chunk is valid until the next one is asked for."""
        ...


class MemorySource:
    """A slice in memory that its owner does not change meanwhile."""

    __slots__ = ("_view",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")

    @property
    def length(self) -> int:
        """Bytes."""
        return len(self._view)

    def chunks(self) -> Iterator[memoryview]:
        """Views of the memory itself."""
        for start in range(0, len(self._view), CHUNK_BYTES):
            yield self._view[start : start + CHUNK_BYTES]


class FileSource:
    """`length` bytes of an open file from `offset`."""

    __slots__ = ("_buffers", "_descriptor", "_length", "_offset")

    def __init__(self, descriptor: int, offset: int, length: int, buffers: Buffers) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._length = length
        self._buffers = buffers

    @property
    def length(self) -> int:
        """Bytes."""
        return self._length

    def chunks(self) -> Iterator[memoryview]:
        """Chunks through a reused buffer; raises Environment when the file has become shorter."""
        with self._buffers.borrow() as buffer:
            done = 0
            while done < self._length:
                want = min(CHUNK_BYTES, self._length - done)
                filled = 0
                while filled < want:
                    count = os.preadv(self._descriptor, [buffer[filled:want]], self._offset + done + filled)
                    if count == 0:
                        raise Environment("the file became shorter while it was uploaded; leave it alone and try again")
                    filled += count
                yield buffer[:want]
                done += want


EMPTY = MemorySource(b"")
