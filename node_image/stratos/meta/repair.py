"""Repair: copies that are gone are made again, without anybody asking (protocol 7).

A holder past its grace (or leaving, or removed) no longer counts. Every round of the monitor looks at a bounded number
of slices that may lack a copy and goes on where the round before stopped. For those with too few copies left, fewest
first, a new holder is drawn by the placement lottery and gets an order: one per source and range of slices, bounded in
bytes, a bounded number open per target, so that readers keep their share of every node. Orders not carried out in time
expire, cost standing, and are drawn again. As soon as a slice has enough copies elsewhere, the lost holder is told to
drop its own, which is how surplus copies vanish when it returns. The new holder earns the bytes from the repair reserve,
which the leaver's fee refills.
"""

from bisect import bisect_right

from blake3 import blake3

from stratos.meta import ozone
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.holders import all_holders, candidates, get_holder, host_of, is_seen
from stratos.meta.index import add_copy, has_pending_drop, held_slices, live_holders, order_drop, remove_copy
from stratos.meta.placement import Lottery, placement_seed, serving_order
from stratos.meta.receipts import NO_SHARE, archive, bump, check_receipt, each_alone, grown_indices
from stratos.meta.rooms import (
    BEACON,
    HOLDER,
    MAINTENANCE,
    MIGRATED,
    NEWS,
    REMOVED,
    REPAIR,
    REPAIRING,
    SCANNED,
    SHARE,
    SHORT,
    SLICE,
    UNBONDING,
    Holder,
    SliceRecord,
    UploadShare,
    u64,
)
from stratos.state import Branch, Reader
from stratos.wire.limits import MAX_SLICES_PER_PLACEMENT, MIB
from stratos.wire.metalog import HeldIndices, RepairOrder, RepairReceipts, SliceSpec
from stratos.wire.receipts import REPAIR as REPAIR_KIND

ORDER_BYTES = 256 * MIB
ORDERS_PER_TARGET = 4
SCANNED_PER_ROUND = 4_096
SHORT_SCAN = b"short"
"""Stands for the list of short slices where a scan goes by lost holder."""
SLOWEST_BYTES_PER_SECOND = MIB
REPAIR_SESSION = b"repair" + b"\0" * 10


class _Draft:
    """An order being put together for one (target, source)."""

    def __init__(self, lost: bytes) -> None:
        self.lost = lost
        self.bytes = 0
        self.slices: list[SliceSpec] = []
        self.sources: list[tuple[bytes, ...]] = []


def plan(branch: Branch, context: BlockContext) -> None:
    """One round of the monitor: expire old orders, give copies of lost holders to new ones."""
    expire_orders(branch, context)
    known: dict[bytes, Holder | None] = {holder.address: holder for holder in all_holders(branch)}
    wanted = _wanted(branch, context, known)
    if not wanted:
        return
    lottery = Lottery(candidates(branch, context.params, wallet=None))
    open_orders: dict[bytes, int] = {}
    for _, order in REPAIR.items(branch):
        open_orders[order.target] = open_orders.get(order.target, 0) + 1
    drafts: dict[tuple[bytes, bytes], _Draft] = {}
    for _, digest, lost in sorted(wanted):
        record = SLICE.get(branch, digest)
        if record is not None:
            _assign(branch, context, record, lost, lottery, known, open_orders, drafts)
    for (target, source), draft in sorted(drafts.items()):
        _order(branch, context, target, source, draft)


def _wanted(branch: Branch, context: BlockContext, known: dict[bytes, Holder | None]) -> list[tuple[int, bytes, bytes]]:
    """(live copies, digest, lost holder) of slices that need a copy; slices that have enough leave the lost holder."""
    wanted: dict[bytes, tuple[int, bytes, bytes]] = {}
    for name, digest in _scan(branch, known):
        record = SLICE.get(branch, digest)
        live = live_holders(branch, record, known) if record is not None else []
        if record is None or len(live) >= record.copies:
            if name == SHORT_SCAN:
                SHORT.set(branch, digest, 0)
            elif record is not None:
                remove_copy(branch, context, record, name)
                order_drop(branch, context, name, digest)
        elif digest not in wanted and len(live) + len(REPAIRING.get(branch, digest) or ()) < record.copies:
            missed = (live or record.holders or (b"\0" * 20,))[0] if name == SHORT_SCAN else name
            wanted[digest] = (len(live), digest, missed)
    return list(wanted.values())


def _scan(branch: Branch, known: dict[bytes, Holder | None]) -> list[tuple[bytes, bytes]]:
    """(list, digest) of what this round looks at: a stretch of every lost holder's slices and of the short ones.

    Each list goes on behind the digest it stopped at the round before and starts again at its end, so slices that
    cannot be helped now never hide the later ones. Lists too short for their part of the round leave the rest of it to
    the longer ones.
    """
    lists = [
        (name, digests)
        for name, holder in sorted(known.items())
        if holder is not None and holder.repairing and (digests := held_slices(branch, name))
    ]
    if short := [digest for digest, _ in SHORT.items(branch)]:
        lists.append((SHORT_SCAN, short))
    # A cursor outlives neither its list nor the absence of its holder: the room stays as small as what is missing.
    for name in sorted({name for name, _ in SCANNED.items(branch)} - {name for name, _ in lists}):
        SCANNED.delete(branch, name)
    scan: list[tuple[bytes, bytes]] = []
    for position, (name, digests) in enumerate(sorted(lists, key=lambda one: (len(one[1]), one[0]))):
        part = max(1, (SCANNED_PER_ROUND - len(scan)) // (len(lists) - position))
        start = bisect_right(digests, SCANNED.get(branch, name) or b"")
        looked = (digests[start:] + digests[:start])[:part]
        scan.extend((name, digest) for digest in looked)
        if len(looked) < len(digests):
            SCANNED.set(branch, name, looked[-1])
        else:
            SCANNED.delete(branch, name)
    return scan


def _assign(
    branch: Branch,
    context: BlockContext,
    record: SliceRecord,
    lost: bytes,
    lottery: Lottery,
    known: dict[bytes, Holder | None],
    open_orders: dict[bytes, int],
    drafts: dict[tuple[bytes, bytes], _Draft],
) -> None:
    digest = record.spec.digest
    live = live_holders(branch, record, known)
    planned = REPAIRING.get(branch, digest) or ()
    sources = [
        address
        for address in serving_order(lost, digest, context.epoch, record.holders)
        if (holder := known.get(address)) is not None and not holder.removed and is_seen(holder, context)
    ]
    if not sources:
        return
    busy = {address for address, count in open_orders.items() if count >= ORDERS_PER_TARGET}
    without = {*record.holders, *planned, *busy}
    without.update(c.address for c in lottery.candidates if has_pending_drop(branch, c.address, digest))
    chosen = lottery.choose(
        placement_seed(
            digest=digest,
            wallet=lost,
            session=REPAIR_SESSION,
            certificate=context.last_commit_hash,
            beacon=BEACON.get(branch, u64(context.epoch)) or context.genesis_hash,
        ),
        count=record.copies - len(live) - len(planned),
        length=record.spec.length,
        tier=record.tier,
        without=without,
        without_hosts={host_of(h) for address in (*live, *planned) if (h := known.get(address)) is not None},
    )
    for target in chosen:
        draft = drafts.get((target, sources[0]))
        if draft is None:
            draft = drafts[target, sources[0]] = _Draft(lost)
            open_orders[target] = open_orders.get(target, 0) + 1
        if draft.slices and (
            draft.bytes + record.spec.length > ORDER_BYTES or len(draft.slices) == MAX_SLICES_PER_PLACEMENT
        ):
            continue
        draft.bytes += record.spec.length
        draft.slices.append(record.spec)
        draft.sources.append(tuple(sources))
        REPAIRING.set(branch, digest, tuple(sorted((*(REPAIRING.get(branch, digest) or ()), target))))


def _order(branch: Branch, context: BlockContext, target: bytes, source: bytes, draft: _Draft) -> None:
    name = blake3(u64(context.height) + target + source).digest()[:16]
    patience = 4 * milliseconds(context.params.status_seconds) + draft.bytes * 1000 // SLOWEST_BYTES_PER_SECOND
    REPAIR.set(
        branch,
        name,
        RepairOrder(name, target, draft.lost, tuple(draft.slices), tuple(draft.sources), context.time_ms + patience),
    )
    NEWS.set(branch, target, context.height)
    context.events(
        "repair_order", (("target", target.hex()), ("lost", draft.lost.hex()), ("slices", str(len(draft.slices))))
    )


def expire_orders(branch: Branch, context: BlockContext) -> None:
    """Orders past their time are void; what they did not copy is drawn again."""
    for name, order in list(REPAIR.items(branch)):
        if order.expiry_ms < context.time_ms:
            _end(branch, order)
            REPAIR.delete(branch, name)
            target = HOLDER.get(branch, order.target)
            if target is not None and target.status != MAINTENANCE:  # maintenance is no failure (protocol 7)
                bump(branch, context, order.target, "repair_expired")


def _end(branch: Branch, order: RepairOrder) -> None:
    for spec in order.slices:
        _unplan(branch, spec.digest, order.target)
    SHARE.delete(branch, order.id + order.target)


def _unplan(branch: Branch, digest: bytes, target: bytes) -> None:
    planned = tuple(address for address in REPAIRING.get(branch, digest) or () if address != target)
    if planned:
        REPAIRING.set(branch, digest, planned)
    else:
        REPAIRING.delete(branch, digest)


def repair_receipts(branch: Branch, context: BlockContext, author: bytes, body: RepairReceipts) -> None:
    """A new holder's batch of what it copied."""
    accepted, refused = each_alone(
        branch,
        context,
        [lambda attempt, item=item: _repaired(attempt, context, author, item) for item in body.receipts],  # type: ignore[misc]
    )
    if refused is not None and accepted == 0:
        raise refused


def _repaired(branch: Branch, context: BlockContext, author: bytes, item: HeldIndices) -> None:
    body = item.receipt.body
    order = REPAIR.get(branch, body.task)
    if order is None or order.target != author or body.earner != author:
        raise MetaError(
            "unassigned",
            f"repair order {body.task.hex()} of {author.hex()} is unknown or over; ask for the current ones",
        )
    share = SHARE.get(branch, order.id + author) or NO_SHARE
    new = grown_indices(share, item, "slices")
    if new[-1] >= len(order.slices):
        raise MetaError("unassigned", f"the order has {len(order.slices)} slices, the receipt names {new[-1]}")
    lengths = sum(order.slices[index].length for index in new)
    if body.total_noz != share.total_noz + lengths:
        raise MetaError(
            "inflated", f"receipt says {body.total_noz} noz, its slices add up to {share.total_noz + lengths}"
        )
    _check_giver(branch, context, order, author, item, new)
    paid = 0
    for index in new:
        spec = order.slices[index]
        _unplan(branch, spec.digest, author)
        record = SLICE.get(branch, spec.digest)
        if record is None:
            order_drop(branch, context, author, spec.digest)
        elif author not in record.holders:
            _release_lost(branch, context, add_copy(branch, record, author), order.lost)
            paid += ozone.pay_repair(branch, author, spec.length)
            MIGRATED.add(branch, order.lost, spec.length)
    archive(branch, context, item.receipt, paid)
    bump(branch, context, author, "repaired")
    if len(item.indices) == len(order.slices):
        _end(branch, order)
        REPAIR.delete(branch, order.id)
    else:
        SHARE.set(branch, order.id + author, UploadShare(body.total_noz, tuple(sorted(item.indices))))


def _release_lost(branch: Branch, context: BlockContext, record: SliceRecord, lost: bytes) -> None:
    """The lost holder drops its copy once enough others count: at once, because it may be back before the next round."""
    others = [address for address in live_holders(branch, record, {}) if address != lost]
    if lost in record.holders and len(others) >= record.copies:
        remove_copy(branch, context, record, lost)
        order_drop(branch, context, lost, record.spec.digest)


def _check_giver(
    reader: Reader, context: BlockContext, order: RepairOrder, author: bytes, item: HeldIndices, new: list[int]
) -> None:
    """Both signatures; the giver is any source that all new slices of the receipt have in common."""
    target = get_holder(reader, author)
    common = [a for a in order.sources[new[0]] if all(a in order.sources[index] for index in new)]
    last = MetaError("unassigned", "no source of the order has all slices of the receipt; send one receipt per source")
    for address in common:
        giver = HOLDER.get(reader, address)
        if giver is None:
            continue
        try:
            check_receipt(context, item.receipt, kind=REPAIR_KIND, giver=giver.public_key, taker=target.public_key)
        except MetaError as error:
            last = error
            if error.code != "signature":
                raise
            continue
        return
    raise last


def is_migrated(reader: Reader, holder: Holder) -> bool:
    """Whether a leaving or removed holder has nothing left that others lack."""
    return holder.status in (UNBONDING, REMOVED) and not held_slices(reader, holder.address)


def forget_copy(branch: Branch, context: BlockContext, digest: bytes, holder: bytes) -> None:
    """A holder turned out not to have a slice: it no longer counts and a copy is made elsewhere."""
    record = SLICE.get(branch, digest)
    if record is not None and holder in record.holders:
        remove_copy(branch, context, record, holder)
        order_drop(branch, context, holder, digest)
        SHORT.set(branch, digest, 1)
