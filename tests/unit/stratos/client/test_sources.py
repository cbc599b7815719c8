"""Where a slice's bytes come from."""

import os
from pathlib import Path

import pytest

from stratos.client.errors import Environment
from stratos.client.sources import CHUNK_BYTES, FileSource, MemorySource
from stratos.resource.services import Buffers


def test_every_pass_gives_the_same_bytes(tmp_path: Path) -> None:
    """A part of a file and the same bytes in memory are the same slice, however often they are read."""
    data = os.urandom(2 * CHUNK_BYTES + 77)
    path = tmp_path / "f"
    path.write_bytes(b"before" + data + b"after")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for source in (MemorySource(data), FileSource(descriptor, 6, len(data), Buffers())):
            assert source.length == len(data)
            for _ in range(2):
                assert b"".join(bytes(chunk) for chunk in source.chunks()) == data
    finally:
        os.close(descriptor)


def test_a_file_that_shrinks_is_a_sentence(tmp_path: Path) -> None:
    """A file that becomes shorter while it is read raises Environment, it does not end silently."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(Environment, match="shorter"):
            list(FileSource(descriptor, 0, 200, Buffers()).chunks())
    finally:
        os.close(descriptor)
