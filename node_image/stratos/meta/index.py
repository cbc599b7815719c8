"""The index: wallet's file -> slices -> holders, with reference counts (protocol 7).

A slice is known by its BLAKE3 digest and stored once per holder, whoever uploads it; files and open uploads count as
references. The last reference gone, the slice is forgotten and every holder told to drop it. A drop stays listed until
the holder says it is done, and until then that holder gets no new copy of the same slice, so a late deletion can
never hit bytes that were stored again.
"""

from msgspec import structs

from stratos.meta.context import BlockContext
from stratos.meta.errors import MetaError
from stratos.meta.holders import counts
from stratos.meta.rooms import FILE, GONE, HOLDER, NEWS, SLICE, Holder, SliceRecord, drop_room, held_room
from stratos.state import Branch, Reader
from stratos.wire.metalog import RemoveFile, StoredFile

HELD = b"1"


def add_references(branch: Branch, digest: bytes, count: int) -> None:
    """A file or upload refers to a slice `count` more times."""
    record = SLICE.get(branch, digest)
    if record is None:
        raise MetaError("slice", f"slice {digest.hex()} is not stored; place it first")
    SLICE.set(branch, digest, structs.replace(record, references=record.references + count))


def drop_references(branch: Branch, context: BlockContext, digest: bytes, count: int) -> None:
    """A file or upload no longer refers to a slice; forgets the slice with its last reference."""
    record = SLICE.get(branch, digest)
    if record is None:
        return
    if record.references > count:
        SLICE.set(branch, digest, structs.replace(record, references=record.references - count))
        return
    for holder in record.holders:
        remove_copy(branch, context, record, holder)
        order_drop(branch, context, holder, digest)
    SLICE.delete(branch, digest)


def add_copy(branch: Branch, record: SliceRecord, holder: bytes) -> SliceRecord:
    """`holder` now has the slice durably."""
    after = structs.replace(record, holders=tuple(sorted((*record.holders, holder))))
    SLICE.set(branch, record.spec.digest, after)
    branch.set(held_room(holder) + record.spec.digest, HELD)
    return after


def remove_copy(branch: Branch, context: BlockContext, record: SliceRecord, holder: bytes) -> SliceRecord:
    """`holder` no longer counts as having the slice; what it has served until now may still be receipted."""
    after = structs.replace(record, holders=tuple(h for h in record.holders if h != holder))
    SLICE.set(branch, record.spec.digest, after)
    branch.delete(held_room(holder) + record.spec.digest)
    GONE.set(branch, record.spec.digest + holder, (record.spec.length, context.epoch))
    return after


def forget_gone(branch: Branch, context: BlockContext) -> None:
    """At an epoch roll: former copies whose receipts are void by now."""
    for key, (_, epoch) in list(GONE.items(branch)):
        if epoch + 2 <= context.epoch:
            GONE.delete(branch, key)


def held_slices(reader: Reader, holder: bytes) -> list[bytes]:
    """Digests of all slices a holder has, in order."""
    room = held_room(holder)
    return [key[len(room) :] for key, _ in reader.items(room)]


def order_drop(branch: Branch, context: BlockContext, holder: bytes, digest: bytes) -> None:
    """Ask a holder to delete a slice it should not have (any more)."""
    branch.set(drop_room(holder) + digest, b"%d" % context.height)
    NEWS.set(branch, holder, context.height)


def pending_drops(reader: Reader, holder: bytes) -> list[tuple[int, bytes]]:
    """(height, digest) of what a holder should delete, oldest first."""
    room = drop_room(holder)
    return sorted((int(height), key[len(room) :]) for key, height in reader.items(room))


def finish_drops(branch: Branch, holder: bytes, height: int) -> None:
    """The holder has deleted everything ordered up to `height`."""
    room = drop_room(holder)
    for ordered, digest in pending_drops(branch, holder):
        if ordered <= height:
            branch.delete(room + digest)


def has_pending_drop(reader: Reader, holder: bytes, digest: bytes) -> bool:
    """Whether the holder may still delete this slice."""
    return reader.get(drop_room(holder) + digest) is not None


def live_holders(reader: Reader, record: SliceRecord, known: dict[bytes, Holder | None]) -> list[bytes]:
    """Holders of a slice whose copies count; `known` caches holder records within one entry or block."""
    live = []
    for address in record.holders:
        if address not in known:
            known[address] = HOLDER.get(reader, address)
        if counts(known[address]):
            live.append(address)
    return live


def store_file(branch: Branch, context: BlockContext, wallet: bytes, stored: StoredFile) -> None:
    """Enter a file (again: the newer entry replaces the older one of the same name)."""
    key = wallet + stored.record.file_cid
    before = FILE.get(branch, key)
    for digest in stored.digests:
        add_references(branch, digest, 1)
    FILE.set(branch, key, stored)
    if before is not None:
        _unreference(branch, context, before)


def remove_file(branch: Branch, context: BlockContext, wallet: bytes, body: RemoveFile) -> None:
    """Delete a wallet's file."""
    key = wallet + body.file_cid
    stored = FILE.get(branch, key)
    if stored is None:
        raise MetaError("file", f"wallet has no file {body.file_cid.hex()}; list its files for the right name")
    FILE.delete(branch, key)
    _unreference(branch, context, stored)


def _unreference(branch: Branch, context: BlockContext, stored: StoredFile) -> None:
    for digest in stored.digests:
        drop_references(branch, context, digest, 1)
