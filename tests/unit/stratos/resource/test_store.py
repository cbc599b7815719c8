"""Slices on disk: whole and durable, or not there."""

import os
from pathlib import Path

import pytest
from bulk_net import spec_of
from hypothesis import given
from hypothesis import strategies as st

from stratos.resource.pieces import PIECE
from stratos.resource.store import (
    CorruptSlice,
    DiskFull,
    MissingSlice,
    SliceStore,
    StoreError,
    WrongBytes,
    file_bytes,
    slice_length,
)
from stratos.wire.file_head import UnknownVersion
from stratos.wire.limits import MIB


def save(store: SliceStore, data: bytes) -> bytes:
    digest = spec_of(data).digest
    writer = store.begin(digest, len(data))
    writer.write(memoryview(data))
    writer.finish()
    store.commit([writer])
    return digest


def load(store: SliceStore, digest: bytes) -> bytes:
    with store.open(digest) as reader:
        view = memoryview(bytearray(reader.length))
        done = 0
        while done < reader.length:
            done += reader.read_into(view[done:], done)
        return bytes(view)


def file_of(store: SliceStore, digest: bytes) -> Path:
    return store.root / "slices" / digest.hex()[:1] / digest.hex()


@given(st.integers(1, 40 * MIB))
def test_a_file_size_tells_the_length(length: int) -> None:
    """The length of a slice follows from the size of its file."""
    assert slice_length(file_bytes(length)) == length


@pytest.mark.parametrize("length", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
def test_what_was_written_is_read(tmp_path: Path, length: int) -> None:
    """A slice of any length comes back byte for byte, also from a store opened anew."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    data = os.urandom(length)
    digest = save(store, data)
    assert load(store, digest) == data
    store.close()
    again = SliceStore(tmp_path, limit_bytes=10 * MIB)
    assert (len(again), again.length(digest), again.used_bytes) == (1, length, file_bytes(length))
    assert load(again, digest) == data
    again.close()


def test_wrong_bytes_never_become_a_slice(tmp_path: Path) -> None:
    """Too few, too many or other bytes are refused, and leave no file and no reservation."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    data = os.urandom(100_000)
    digest = spec_of(data).digest
    for sent in (data[:-1], b"x" + data[1:]):
        writer = store.begin(digest, len(data))
        writer.write(memoryview(sent))
        with pytest.raises(WrongBytes):
            writer.finish()
        writer.discard()
    writer = store.begin(digest, len(data))
    with pytest.raises(WrongBytes, match="more than the announced"):
        writer.write(memoryview(data + b"x"))
    writer.discard()
    assert digest not in store
    assert store.used_bytes == 0
    assert list((tmp_path / "incoming").iterdir()) == []
    store.close()


def test_partial_uploads_are_gone_after_a_restart(tmp_path: Path) -> None:
    """What was being written when a node died is removed at start."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    writer = store.begin(b"d" * 32, 1000)
    writer.write(memoryview(b"x" * 500))
    os.close(writer.descriptor)
    store.close()
    again = SliceStore(tmp_path, limit_bytes=10 * MIB)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert again.used_bytes == 0
    again.close()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["bit", "hashes", "footer", "truncated", "cut to pieces", "gone"])
def test_damage_is_found_set_aside_and_reported(tmp_path: Path, damage: str) -> None:
    """A flipped bit, a cut or missing file is found on reading: quarantined, reported once, never handed out."""
    found: list[tuple[bytes, str]] = []
    store = SliceStore(tmp_path, limit_bytes=10 * MIB, on_corrupt=lambda *what: found.append(what))
    digest = save(store, os.urandom(3 * PIECE + 5))
    path = file_of(store, digest)
    size = path.stat().st_size
    if damage == "bit":
        _flip(path, PIECE + 17)
    elif damage == "hashes":
        _flip(path, 3 * PIECE + 5 + 40)
    elif damage == "footer":
        _flip(path, size - 1)
    elif damage == "truncated":
        os.truncate(path, size - 1)
    elif damage == "cut to pieces":
        os.truncate(path, 2 * PIECE)
    else:
        path.unlink()
    store.close()
    again = SliceStore(tmp_path, limit_bytes=10 * MIB, on_corrupt=lambda *what: found.append(what))
    with pytest.raises((CorruptSlice, MissingSlice)):
        load(again, digest)
    assert digest not in again
    if damage != "gone":
        assert [each for each, _ in found] == [digest]
        assert len(list((tmp_path / "quarantine").iterdir())) == 1
    with pytest.raises(MissingSlice):
        again.open(digest)
    assert again.used_bytes == 0
    again.close()


def test_the_node_limit_is_a_clear_refusal(tmp_path: Path) -> None:
    """A slice over the node's limit is refused before a byte is written, and room comes back with a drop."""
    store = SliceStore(tmp_path, limit_bytes=file_bytes(1000) + 100)
    first = save(store, b"a" * 1000)
    with pytest.raises(DiskFull, match="no room for 1000 bytes"):
        store.begin(b"x" * 32, 1000)
    assert store.drop(first)
    assert not store.drop(first)
    save(store, b"b" * 1000)
    store.close()


def test_two_writers_of_one_slice_leave_one_slice(tmp_path: Path) -> None:
    """When two uploads of the same slice race, both may commit and it is counted once."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    data = b"race" * 1000
    digest = spec_of(data).digest
    writers = [store.begin(digest, len(data)) for _ in range(2)]
    for writer in writers:
        writer.write(memoryview(data))
        writer.finish()
        store.commit([writer])
    assert len(store) == 1
    assert store.used_bytes == file_bytes(len(data))
    assert load(store, digest) == data
    store.close()


def test_a_batch_is_committed_together(tmp_path: Path) -> None:
    """Many small slices commit in one round and are all there after a restart."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    writers = []
    for number in range(40):
        data = f"object {number}".encode()
        digest = spec_of(data).digest
        writer = store.begin(digest, len(data))
        writer.write(memoryview(data))
        writer.finish()
        writers.append(writer)
    store.commit(writers)
    digests = store.digests()
    store.close()
    again = SliceStore(tmp_path, limit_bytes=10 * MIB)
    assert again.digests() == digests
    assert len(digests) == 40
    again.close()


def test_a_dropped_slice_becomes_the_next_ones_file(tmp_path: Path) -> None:
    """A spare file is reused for a shorter slice without a trace of what was in it, and survives a restart."""
    store = SliceStore(tmp_path, limit_bytes=100 * MIB)
    old = save(store, os.urandom(3 * MIB))
    store.drop(old)
    assert (store.spares, store.used_bytes) == (1, 0)
    store.close()
    store = SliceStore(tmp_path, limit_bytes=100 * MIB)
    assert store.spares == 1
    data = os.urandom(2 * MIB)
    digest = save(store, data)
    assert store.spares == 0
    assert file_of(store, digest).stat().st_size == file_bytes(len(data))
    assert load(store, digest) == data
    store.close()


def test_a_slice_dropped_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    """A reader keeps its file: dropping does not change bytes under it, and no damage is reported."""
    found: list[str] = []
    store = SliceStore(tmp_path, limit_bytes=100 * MIB, on_corrupt=lambda _digest, why: found.append(why))
    data = os.urandom(2 * MIB)
    digest = save(store, data)
    with store.open(digest) as reader:
        store.drop(digest)
        save(store, os.urandom(2 * MIB))
        view = memoryview(bytearray(len(data)))
        assert reader.read_into(view, 0) == len(data)
    assert view == data
    assert found == []
    store.close()


def test_a_spare_written_ahead_takes_the_next_slice(tmp_path: Path) -> None:
    """`add_spare` prepares a file that the next large slice is written into."""
    store = SliceStore(tmp_path, limit_bytes=1000 * MIB)
    assert store.add_spare(2 * MIB)
    assert store.spares == 1
    digest = save(store, os.urandom(MIB + 3))
    assert store.spares == 0
    assert len(load(store, digest)) == MIB + 3
    store.close()


def test_a_batch_that_cannot_be_committed_leaves_nothing(tmp_path: Path) -> None:
    """When one slice of a batch finds no place, none of them is there, on disk or in the count; a known one stays."""
    store = SliceStore(tmp_path, limit_bytes=10 * MIB)
    known = save(store, b"known")
    used = store.used_bytes
    batch = {spec_of(data).digest: data for data in (b"known", *(b"slice %d" % number for number in range(40)))}
    last = max(batch, key=lambda digest: digest.hex()[:1] != known.hex()[:1])
    (store.root / "slices" / last.hex()[:1]).write_bytes(b"in the way")
    writers = []
    for digest in sorted(batch, key=lambda digest: digest.hex()[:1] == last.hex()[:1]):
        writer = store.begin(digest, len(batch[digest]))
        writer.write(memoryview(batch[digest]))
        writer.finish()
        writers.append(writer)
    with pytest.raises(StoreError, match="cannot write"):
        store.commit(writers)
    assert (store.digests(), store.used_bytes) == ([known], used)
    assert [path.name for path in store.root.glob("slices/*/*")] == [known.hex()]
    assert load(store, known) == b"known" and not list((store.root / "incoming").iterdir())
    store.close()


def test_the_store_says_its_version(tmp_path: Path) -> None:
    """A new store writes it; one from before versions gets it and keeps its slices."""
    digest = save(SliceStore(tmp_path, limit_bytes=MIB), b"slice")
    assert (tmp_path / "version").read_text() == "2\n"
    (tmp_path / "version").unlink()
    assert load(SliceStore(tmp_path, limit_bytes=MIB), digest) == b"slice"
    assert (tmp_path / "version").read_text() == "2\n"


def test_a_store_of_another_version_is_refused_untouched(tmp_path: Path) -> None:
    """Slices of another format would pass for damaged ones and land in quarantine."""
    store = SliceStore(tmp_path, limit_bytes=MIB)
    digest = save(store, b"slice")
    file_of(store, digest).write_bytes(b"of another format")
    (tmp_path / "version").write_text("3\n")
    with pytest.raises(UnknownVersion, match=r"the slice store\) has version '3' and this program reads '2'; start it"):
        SliceStore(tmp_path, limit_bytes=MIB)
    assert file_of(store, digest).read_bytes() == b"of another format"
