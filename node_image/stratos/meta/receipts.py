"""Receipts become traffic: each rule of protocol 7 that stands between two signatures and a payout.

A receipt is refused, with its own code, and earns nothing when a side has not signed (`unsigned`: silent giver or
taker), a signature is wrong or made for another network or session (`signature`), it is older than one epoch (`late`) or
from the future (`early`), its total is not what its tasks add up to (`inflated`), it was ordered before (`replayed`), its
digest chain does not continue the last one (`digest`), it exceeds the holder's allotment (`allowance`), the work was
never assigned (`unassigned`), or payer and earner are one (`self_traffic`). In a batch each receipt stands alone; the batch is
refused only when none is accepted. What is accepted is archived with the noz it added: the reports rest on that.
"""

from collections.abc import Callable, Iterable

from msgspec import structs

from stratos.meta import ozone
from stratos.meta.context import BlockContext
from stratos.meta.entries import receipt_message
from stratos.meta.errors import MetaError
from stratos.meta.holders import get_holder, related
from stratos.meta.placement import serving_order
from stratos.meta.rooms import (
    ACTIVE,
    ALLOTMENT,
    DISPUTE,
    EARNER,
    GONE,
    HOLDER,
    NOTE,
    RECEIPT,
    SHARE,
    SLICE,
    UPLOAD,
    Holder,
    Upload,
    UploadShare,
    u64,
)
from stratos.meta.scores import scored
from stratos.meta.sessions import charge_skip, get_session, own_session
from stratos.meta.uploads import charge_copy, complete_upload, get_upload, require_open, upload_slices
from stratos.state import Branch, Reader
from stratos.wire.limits import PROOF_PIECE_BYTES
from stratos.wire.metalog import (
    SESSION_OPEN,
    CompleteUpload,
    DownloadReceipts,
    HeldIndices,
    PlacedSlice,
    ServedTasks,
    Session,
    UploadReceipts,
)
from stratos.wire.metarpc import SettledReceipt
from stratos.wire.receipts import (
    DOWNLOAD,
    DownloadTask,
    Receipt,
    chain_digest,
    indices_digest,
)
from stratos.wire.receipts import (
    UPLOAD as UPLOAD_KIND,
)

NO_SHARE = UploadShare(0, ())


def check_receipt(
    context: BlockContext, receipt: Receipt, *, kind: int, giver: bytes, taker: bytes, closed_epoch: int | None = None
) -> None:
    """What holds for every receipt: kind, epoch window, both signatures. `giver` and `taker` are public keys."""
    body = receipt.body
    if body.kind != kind:
        raise MetaError("invalid", f"receipt of kind {body.kind} where kind {kind} belongs; send it in its own entry")
    if body.epoch + 1 < context.epoch:
        raise MetaError(
            "late",
            f"receipt of epoch {body.epoch} came in epoch {context.epoch}; receipts are void after one more epoch",
        )
    if body.epoch > context.epoch + 1 or (closed_epoch is not None and body.epoch > closed_epoch + 1):
        raise MetaError(
            "early",
            f"receipt of epoch {body.epoch} is ahead of the log's epoch {context.epoch}; use the epoch of a fresh stamp",
        )
    if len(receipt.giver_signature) != 64 or len(receipt.taker_signature) != 64:
        side = "giver" if len(receipt.giver_signature) != 64 else "taker"
        raise MetaError("unsigned", f"the {side} has not signed; only receipts of both sides are traffic")
    message = receipt_message(body, context.genesis_hash)
    for key, signature, side in ((giver, receipt.giver_signature, "giver"), (taker, receipt.taker_signature, "taker")):
        if not context.verify(key, message, signature):
            raise MetaError(
                "signature", f"the {side}'s signature is wrong; it must be by key {key.hex()[:16]} for this network"
            )


def archive(branch: Branch, context: BlockContext, receipt: Receipt, delta_noz: int) -> None:
    """Keep an accepted receipt; the report that takes the earner's volume rests on it."""
    earner = EARNER.get(branch, receipt.body.earner) or ozone.NEW_EARNER
    RECEIPT.set(
        branch,
        receipt.body.earner + u64(earner.next_seq),
        SettledReceipt(receipt, delta_noz, context.epoch),
    )
    EARNER.set(branch, receipt.body.earner, structs.replace(earner, next_seq=earner.next_seq + 1))


def each_alone(
    branch: Branch, context: BlockContext, items: Iterable[Callable[[Branch], None]]
) -> tuple[int, MetaError | None]:
    """Apply each in a branch of its own; (accepted, first refusal). Refusals become `receipt_refused` events."""
    accepted = 0
    first: MetaError | None = None
    for index, apply in enumerate(items):
        attempt = branch.branch()
        try:
            apply(attempt)
        except MetaError as error:
            first = first or error
            context.events("receipt_refused", (("index", str(index)), ("code", error.code), ("error", error.sentence)))
            continue
        attempt.merge()
        accepted += 1
    return accepted, first


def bump(branch: Branch, context: BlockContext, address: bytes, reason: str) -> None:
    """Change a holder's standing."""
    holder = HOLDER.get(branch, address)
    if holder is not None:
        HOLDER.set(branch, address, scored(branch, context, holder, reason))


# -- uploads ---------------------------------------------------------------------------------------------------------


def upload_receipts(branch: Branch, context: BlockContext, author: bytes, body: UploadReceipts) -> None:
    """Charge what holders made durable so far."""
    session = own_session(branch, author, body.session)
    upload = get_upload(branch, body.upload)
    require_open(upload, session.id, body.upload)
    accepted, refused = _held(branch, context, session, body.upload, upload, body.receipts)
    if refused is not None and accepted == 0:
        raise refused
    if body.progress:
        NOTE.set(branch, body.upload, body.progress)


def complete(branch: Branch, context: BlockContext, author: bytes, body: CompleteUpload) -> None:
    """The last receipts and the files. An upload without slices (empty files) need not exist before."""
    session = own_session(branch, author, body.session)
    upload = UPLOAD.get(branch, body.upload)
    if upload is None:
        if any(file.slices for file in body.files) or session.status != SESSION_OPEN:
            raise MetaError("upload", f"upload {body.upload.hex()} is unknown; place its slices first")
        upload = Upload(session.id, session.wallet, 0, 0, 0, (), (), context.time_ms)
    require_open(upload, session.id, body.upload)
    _, refused = _held(branch, context, session, body.upload, upload, body.receipts)
    upload = UPLOAD.get(branch, body.upload) or upload
    complete_upload(branch, context, name=body.upload, upload=upload, files=body.files, refused=refused)


def _held(
    branch: Branch, context: BlockContext, session: Session, name: bytes, upload: Upload, items: tuple[HeldIndices, ...]
) -> tuple[int, MetaError | None]:
    if not items:
        return 0, None
    slices = dict(upload_slices(branch, name, upload))
    return each_alone(
        branch,
        context,
        [
            lambda attempt, item=item: _held_by_one(attempt, context, session, name, item, slices)  # type: ignore[misc]
            for item in items
        ],
    )


def _held_by_one(
    branch: Branch,
    context: BlockContext,
    session: Session,
    name: bytes,
    item: HeldIndices,
    slices: dict[int, PlacedSlice],
) -> None:
    receipt = item.receipt
    body = receipt.body
    if body.task != name:
        raise MetaError(
            "unassigned", f"receipt is for task {body.task.hex()}, not upload {name.hex()}; send it with its own upload"
        )
    holder = get_holder(branch, body.earner)
    closed = None if session.status == SESSION_OPEN else session.closed_epoch
    check_receipt(context, receipt, kind=UPLOAD_KIND, giver=session.key, taker=holder.public_key, closed_epoch=closed)
    _refuse_self_traffic(branch, holder, session.wallet)
    share = SHARE.get(branch, name + body.earner) or NO_SHARE
    new = grown_indices(share, item, "slices")
    lengths = 0
    for index in new:
        placed = slices.get(index)
        if placed is None or body.earner not in placed.holders:
            raise MetaError(
                "unassigned",
                f"slice {index} of upload {name.hex()} was not assigned to {body.earner.hex()}; only assigned bytes earn",
            )
        lengths += placed.spec.length
    if body.total_noz != share.total_noz + lengths:
        raise MetaError(
            "inflated", f"receipt says {body.total_noz} noz, its slices add up to {share.total_noz + lengths}"
        )
    upload = get_upload(branch, name)
    earned = 0
    for index in new:
        upload, noz = charge_copy(branch, context, upload, holder=body.earner, spec=slices[index].spec)
        earned += noz
    UPLOAD.set(branch, name, upload)
    SHARE.set(branch, name + body.earner, UploadShare(body.total_noz, tuple(sorted(item.indices))))
    archive(branch, context, receipt, earned)
    bump(branch, context, body.earner, "stored")


def grown_indices(share: UploadShare, item: HeldIndices, what: str) -> list[int]:
    """Indices that a cumulative receipt adds to what was ordered; raises MetaError `digest`, `replayed` or `inflated`."""
    indices = set(item.indices)
    if len(indices) != len(item.indices):
        raise MetaError("inflated", f"the receipt's {what} name an index twice; list each once")
    if indices_digest(item.indices) != item.receipt.body.digest:
        raise MetaError("digest", f"the receipt's digest is not that of its {what}; list exactly what was signed")
    before = set(share.indices)
    if not before <= indices:
        raise MetaError(
            "replayed",
            f"{what} {sorted(before - indices)[:4]} were ordered already; receipts are cumulative, send the newest",
        )
    new = sorted(indices - before)
    if not new:
        raise MetaError("replayed", f"all {len(indices)} {what} were ordered already")
    return new


# -- downloads -------------------------------------------------------------------------------------------------------


def download_receipts(branch: Branch, context: BlockContext, author: bytes, body: DownloadReceipts) -> None:
    """A holder's batch of what it served."""
    holder = get_holder(branch, author)
    accepted, refused = each_alone(
        branch,
        context,
        [
            lambda attempt, item=item: _served(attempt, context, holder, item)  # type: ignore[misc]
            for item in body.receipts
        ],
    )
    if refused is not None and accepted == 0:
        raise refused
    bump(branch, context, author, "served")


def _served(branch: Branch, context: BlockContext, holder: Holder, item: ServedTasks) -> None:
    receipt = item.receipt
    body = receipt.body
    if body.earner != holder.address:
        raise MetaError(
            "unassigned",
            f"receipt earns for {body.earner.hex()}, the entry is by {holder.address.hex()}; each node sends its own",
        )
    session = get_session(branch, body.task)
    closed = None if session.status == SESSION_OPEN else session.closed_epoch
    check_receipt(context, receipt, kind=DOWNLOAD, giver=holder.public_key, taker=session.key, closed_epoch=closed)
    _refuse_self_traffic(branch, holder, session.wallet)
    allotment = ALLOTMENT.get(branch, session.id + holder.address)
    if allotment is None:
        raise MetaError(
            "allowance",
            f"session {session.id.hex()} allots nothing to {holder.address.hex()}; let its client allot first",
        )
    if body.total_noz <= allotment.charged_noz:
        raise MetaError(
            "replayed", f"total {body.total_noz} is not over the {allotment.charged_noz} noz ordered already"
        )
    digest = allotment.digest
    total = allotment.charged_noz
    for task in item.tasks:
        digest = chain_digest(digest, task)
        total += task.length
    if total != body.total_noz:
        raise MetaError("inflated", f"receipt says {body.total_noz} noz, its tasks add up to {total}")
    if digest != body.digest:
        raise MetaError(
            "digest",
            "the tasks do not lead from the last ordered receipt to this one; send every task since then, in order",
        )
    if body.total_noz > allotment.allotted_noz:
        raise MetaError(
            "allowance",
            f"total {body.total_noz} is over the {allotment.allotted_noz} noz allotted; nobody paid for the rest",
        )
    dispute = DISPUTE.get(branch, session.id + holder.address)
    if dispute is not None and dispute.voided and body.total_noz > allotment.allotted_noz - dispute.step_noz:
        raise MetaError("disputed", f"{dispute.step_noz} noz of this step are void by a signed mismatch")
    epochs = range(min(body.epoch, max(allotment.since_epoch, body.epoch - 1)), body.epoch + 1)
    skipped = _check_tasks(branch, session, holder, item.tasks, epochs)
    earned = body.total_noz - allotment.charged_noz
    ozone.charge(branch, session.wallet, holder.address, earned)
    after = structs.replace(
        allotment,
        charged_noz=body.total_noz,
        digest=digest,
        since_epoch=max(allotment.since_epoch, min(body.epoch, context.epoch)),
    )
    ALLOTMENT.set(branch, session.id + holder.address, after)
    if skipped:
        charge_skip(branch, session.id, session.wallet, skipped)
    archive(branch, context, receipt, earned)


def _check_tasks(
    branch: Branch, session: Session, holder: Holder, tasks: tuple[DownloadTask, ...], epochs: range
) -> int:
    """Every task inside a slice this holder has; returns what skipping earlier holders costs the payer.

    A holder earlier in the serving order that could have served and was passed over costs the slice's first piece; one that
    is not active is passed over for free. Tasks of one read in a row count once. A receipt that spans an epoch roll may
    follow the order of either epoch."""
    cost = 0
    orders: dict[bytes, int] = {}
    last_slice = b""
    last_end = -1
    for task in tasks:
        record = SLICE.get(branch, task.slice_digest)
        holds = record is not None and holder.address in record.holders
        length = record.spec.length if record is not None and holds else _former_length(branch, holder, task)
        if task.length == 0 or task.offset + task.length > length:
            raise MetaError("inflated", f"task {task.offset}+{task.length} is outside the slice of {length} bytes")
        if record is not None and holds and (task.slice_digest != last_slice or task.offset != last_end):
            skips = orders.get(task.slice_digest)
            if skips is None:
                skips = orders[task.slice_digest] = min(
                    _skipped(branch, session.wallet, task.slice_digest, e, record.holders, holder.address)
                    for e in epochs
                )
            cost += skips * min(PROOF_PIECE_BYTES, length)
        last_slice = task.slice_digest
        last_end = task.offset + task.length
    return cost


def _former_length(reader: Reader, holder: Holder, task: DownloadTask) -> int:
    """Length of a slice this holder had until lately (removed, or moved elsewhere, after it served)."""
    gone = GONE.get(reader, task.slice_digest + holder.address)
    if gone is None:
        raise MetaError(
            "unassigned",
            f"slice {task.slice_digest.hex()} is not held by {holder.address.hex()}; only assigned bytes earn",
        )
    return gone[0]


def _skipped(
    reader: Reader, wallet: bytes, digest: bytes, epoch: int, holders: tuple[bytes, ...], earner: bytes
) -> int:
    skipped = 0
    for address in serving_order(wallet, digest, epoch, holders):
        if address == earner:
            return skipped
        other = HOLDER.get(reader, address)
        if other is not None and other.status == ACTIVE and not related(reader, other, wallet):
            skipped += 1
    return skipped


def _refuse_self_traffic(reader: Reader, holder: Holder, wallet: bytes) -> None:
    if related(reader, holder, wallet):
        raise MetaError(
            "self_traffic", f"node {holder.address.hex()} and the payer belong together; own traffic earns nothing"
        )
