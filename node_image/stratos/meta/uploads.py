"""Uploads: charging what became durable, completing, giving up.

Receipts charge copy by copy; `CompleteUpload` demands enough durable copies, enters the files and returns what is left of
the reservation; giving up returns it too. An upload's slices carry a reference each until it ends, so nothing is dropped
under it; copies that were assigned but never confirmed are dropped then and cost their holder standing.
"""

from collections.abc import Iterator

from msgspec import structs

from stratos.meta import ozone
from stratos.meta.context import BlockContext, copy_cost, repair_share
from stratos.meta.errors import MetaError
from stratos.meta.holders import candidates
from stratos.meta.index import (
    add_copy,
    drop_references,
    live_holders,
    order_drop,
    store_file,
)
from stratos.meta.placement import Lottery
from stratos.meta.rooms import (
    FINISHED,
    HOLDER,
    NOTE,
    PENDING,
    PLACEMENT,
    REFUSAL,
    SESSION_UPLOADS,
    SHARE,
    SHORT,
    SLICE,
    UPLOAD,
    UPLOAD_COMPLETE,
    UPLOAD_OPEN,
    Holder,
    Upload,
    u32,
    u64,
)
from stratos.meta.scores import scored
from stratos.meta.sessions import refund_pool, usable_session
from stratos.state import Branch, Reader
from stratos.wire.metalog import AbortUpload, FileRecord, PlacedSlice, SliceSpec, StoredFile

DEGRADED_COPIES = 3
"""Copies that are enough while fewer holders live than copies are wanted (protocol 7)."""


def least_copies(wanted: int) -> int:
    """Durable copies without which an upload is never acknowledged."""
    return min(wanted, DEGRADED_COPIES)


def upload_slices(reader: Reader, name: bytes, upload: Upload) -> Iterator[tuple[int, PlacedSlice]]:
    """(index, placed slice) of everything decided so far, in order of index."""
    for first, _ in upload.ranges:
        placement = PLACEMENT.get(reader, name + u32(first))
        if placement is not None:
            for offset, placed in enumerate(placement.slices):
                yield first + offset, placed


def get_upload(reader: Reader, name: bytes) -> Upload:
    """The upload; raises MetaError `upload`."""
    upload = UPLOAD.get(reader, name)
    if upload is None:
        raise MetaError("upload", f"upload {name.hex()} is unknown; place its slices first")
    return upload


def charge_copy(
    branch: Branch, context: BlockContext, upload: Upload, *, holder: bytes, spec: SliceSpec
) -> tuple[Upload, int]:
    """One copy became durable: pay the holder unless it had the slice already; returns the upload and the noz earned."""
    cost = copy_cost(context.params, spec.length)
    upload = structs.replace(upload, reserved_noz=upload.reserved_noz - cost)
    record = SLICE.get(branch, spec.digest)
    if record is None or holder in record.holders:
        refund_pool(branch, upload.session, cost)
        return upload, 0
    add_copy(branch, record, holder)
    ozone.charge(branch, upload.wallet, holder, spec.length)
    ozone.charge_reserve(branch, upload.wallet, repair_share(context.params, spec.length))
    return structs.replace(upload, charged_noz=upload.charged_noz + cost), spec.length


def complete_upload(
    branch: Branch,
    context: BlockContext,
    *,
    name: bytes,
    upload: Upload,
    files: tuple[FileRecord, ...],
    refused: MetaError | None,
) -> None:
    """Enter the files and end the upload; raises MetaError `copies` (or why a receipt was refused) when copies are missing."""
    specs = {index: placed.spec for index, placed in upload_slices(branch, name, upload)}
    known: dict[bytes, Holder | None] = {}
    hosts: int | None = None
    for file in files:
        digests = []
        size = 0
        for index in file.slices:
            spec = specs.get(index)
            if spec is None:
                raise MetaError(
                    "invalid",
                    f"file {file.name!r} names slice {index}, which this upload has not placed; place it first",
                )
            record = SLICE.get(branch, spec.digest)
            live = len(live_holders(branch, record, known)) if record is not None else 0
            wanted = record.copies if record is not None else context.params.copies
            if live < wanted:
                if hosts is None:
                    hosts = Lottery(candidates(branch, context.params, wallet=upload.wallet)).hosts()
                if live < least_copies(wanted) or hosts >= wanted:
                    raise refused or MetaError(
                        "copies",
                        f"slice {index} has {live} durable copies of {wanted}; send the receipts of the others or place it again",
                    )
                SHORT.set(branch, spec.digest, 1)
                context.events("degraded", (("slice", spec.digest.hex()), ("copies", str(live))))
            digests.append(spec.digest)
            size += spec.length
        if not file.video and not file.tag and size != file.size:
            raise MetaError(
                "invalid",
                f"file {file.name!r} has {file.size} bytes but its slices {size}; list every slice once, in order",
            )
        store_file(branch, context, upload.wallet, StoredFile(file, tuple(digests), name, context.time_ms))
    ended = structs.replace(upload, status=UPLOAD_COMPLETE, files=tuple(file.file_cid for file in files))
    _end(branch, context, name, ended)
    UPLOAD.set(branch, name, structs.replace(ended, reserved_noz=0, ranges=()))
    FINISHED.set(branch, u64(context.epoch) + name, 1)
    context.events("upload_complete", (("upload", name.hex()), ("charged_noz", str(upload.charged_noz))))


def forget_finished(branch: Branch, context: BlockContext) -> None:
    """At an epoch roll: uploads completed an epoch ago can no longer be asked for by their id."""
    for key, _ in list(FINISHED.items(branch)):
        if int.from_bytes(key[:8], "big") + 2 > context.epoch:
            break
        FINISHED.set(branch, key, 0)
        UPLOAD.delete(branch, key[8:])


def abort_upload(branch: Branch, context: BlockContext, name: bytes) -> None:
    """Forget an upload: what no receipt charged returns, slices that nothing else refers to are dropped."""
    upload = get_upload(branch, name)
    _end(branch, context, name, upload)
    UPLOAD.delete(branch, name)


def abort_by_session(branch: Branch, context: BlockContext, author: bytes, body: AbortUpload) -> None:
    """AbortUpload entry."""
    session = usable_session(branch, context, author, body.session)
    require_open(get_upload(branch, body.upload), session.id, body.upload)
    abort_upload(branch, context, body.upload)


def _end(branch: Branch, context: BlockContext, name: bytes, upload: Upload) -> None:
    """Release the reservation and the upload's references; copies nobody confirmed are dropped and cost standing."""
    refund_pool(branch, upload.session, upload.reserved_noz)
    involved: set[bytes] = set()
    silent: set[bytes] = set()
    for _, placed in upload_slices(branch, name, upload):
        record = SLICE.get(branch, placed.spec.digest)
        for holder in placed.holders:
            involved.add(holder)
            if record is None or holder not in record.holders:
                silent.add(holder)
                order_drop(branch, context, holder, placed.spec.digest)
    for _, placed in upload_slices(branch, name, upload):
        drop_references(branch, context, placed.spec.digest, 1)
    if any(PLACEMENT.get(branch, name + u32(first)) is None for first, _ in upload.ranges):
        for key, _ in list(PENDING.items(branch)):
            if key[8:24] == name:
                PENDING.delete(branch, key)
    for first, _ in upload.ranges:
        PLACEMENT.delete(branch, name + u32(first))
        REFUSAL.delete(branch, name + u32(first))
    for holder in involved:
        SHARE.delete(branch, name + holder)
    NOTE.delete(branch, name)
    uploads = SESSION_UPLOADS.get(branch, upload.session) or ()
    SESSION_UPLOADS.set(branch, upload.session, tuple(other for other in uploads if other != name))
    if upload.status == UPLOAD_COMPLETE:
        for address in sorted(silent):
            record_holder = HOLDER.get(branch, address)
            if record_holder is not None:
                HOLDER.set(branch, address, scored(branch, context, record_holder, "undelivered"))


def require_open(upload: Upload, session: bytes, name: bytes) -> None:
    if upload.session != session:
        raise MetaError("upload", f"upload {name.hex()} belongs to another session; choose a fresh random upload id")
    if upload.status != UPLOAD_OPEN:
        raise MetaError("upload", f"upload {name.hex()} is complete; start a new one")
