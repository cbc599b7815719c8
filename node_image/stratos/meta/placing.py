"""Placing: an upload asks for holders, reserves what their copies will cost, and the lottery is drawn two blocks later.

`Place` reserves length x copies x (1 + repair share) from the session's pool and waits. In the block two heights later the
certificate of the block between them is known to everybody and was known to nobody before: it seeds the lottery
(`decide_placements`). What existing copies make unnecessary is given back at once. The table a lottery was drawn from is
kept for a while, so that anybody can draw it again (`why SLICE`).
"""

from collections.abc import Mapping

from msgspec import structs

from stratos.meta.context import BlockContext, copy_cost
from stratos.meta.errors import MetaError
from stratos.meta.holders import candidates, host_of
from stratos.meta.index import (
    add_references,
    has_pending_drop,
    live_holders,
)
from stratos.meta.placement import Lottery, placement_seed
from stratos.meta.rooms import (
    BEACON,
    CANDIDATES,
    PENDING,
    PLACEMENT,
    REFUSAL,
    SESSION_UPLOADS,
    SLICE,
    UPLOAD,
    UPLOAD_OPEN,
    Holder,
    PendingPlacement,
    Refusal,
    SliceRecord,
    Upload,
    u32,
    u64,
)
from stratos.meta.sessions import refund_pool, take_pool, usable_session
from stratos.meta.uploads import get_upload, least_copies, require_open, upload_slices
from stratos.state import Branch, Reader
from stratos.wire.metalog import Place, PlacedSlice, Placement, SliceSpec
from stratos.wire.metarpc import CandidateRow

PLACEMENT_DELAY = 2
"""Blocks between the order of a request and its lottery: the certificate of the block between them is the lot."""

KEPT_CANDIDATE_TABLES = 64
_OTHER_LENGTH = "slice {} is stored with another length or pieces root; hash it again"


def place(branch: Branch, context: BlockContext, author: bytes, body: Place) -> None:
    """Reserve for an upload's slices and queue them for the lottery."""
    session = usable_session(branch, context, author, body.session)
    upload = UPLOAD.get(branch, body.upload)
    if upload is None:
        upload = Upload(session.id, session.wallet, UPLOAD_OPEN, 0, 0, (), (), context.time_ms)
        SESSION_UPLOADS.set(branch, session.id, (*(SESSION_UPLOADS.get(branch, session.id) or ()), body.upload))
    require_open(upload, session.id, body.upload)
    end = body.first_index + len(body.slices)
    for first, count in upload.ranges:
        if body.first_index < first + count and first < end:
            raise MetaError(
                "duplicate",
                f"slices {body.first_index}..{end - 1} overlap {first}..{first + count - 1} of this upload; go on after them",
            )
    copies = body.copies or context.params.copies
    for spec in body.slices:
        _require_same(SLICE.get(branch, spec.digest), spec)
    hosts = Lottery(candidates(branch, context.params, wallet=session.wallet)).hosts(tier=body.tier)
    if hosts < least_copies(copies):
        raise MetaError(
            "holders",
            f"{copies} copies need at least {least_copies(copies)} active holders on different hosts, there are {hosts}; wait for nodes or ask for fewer copies",
        )
    cost = copies * sum(copy_cost(context.params, spec.length) for spec in body.slices)
    if cost > session.pool_noz:
        raise MetaError(
            "funds", f"session has {session.pool_noz} noz in its pool, {copies} copies cost {cost}; open a larger one"
        )
    take_pool(branch, session, cost)
    PENDING.set(
        branch,
        u64(context.height) + body.upload + u32(body.first_index),
        PendingPlacement(body, session.wallet, cost),
    )
    ranges = tuple(sorted((*upload.ranges, (body.first_index, len(body.slices)))))
    UPLOAD.set(branch, body.upload, structs.replace(upload, reserved_noz=upload.reserved_noz + cost, ranges=ranges))


def decide_placements(branch: Branch, context: BlockContext) -> None:
    """Draw the lottery of every request ordered two blocks ago (begin block)."""
    lotteries: dict[bytes, Lottery] = {}
    for key, pending in list(PENDING.items(branch)):
        ordered = int.from_bytes(key[:8], "big")
        if ordered + PLACEMENT_DELAY > context.height:
            break
        PENDING.delete(branch, key)
        lottery = lotteries.get(pending.wallet)
        if lottery is None:
            lottery = lotteries[pending.wallet] = Lottery(candidates(branch, context.params, wallet=pending.wallet))
        try:
            _decide(branch, context, pending, lottery)
        except MetaError as error:
            _refuse(branch, pending, error)
    for wallet, lottery in sorted(lotteries.items(), key=lambda pair: pair[0]):
        _keep_candidates(branch, context, wallet, lottery)


def _decide(branch: Branch, context: BlockContext, pending: PendingPlacement, lottery: Lottery) -> None:
    request = pending.place
    upload = get_upload(branch, request.upload)
    wanted = request.copies or context.params.copies
    beacon = BEACON.get(branch, u64(context.epoch)) or context.genesis_hash
    known: dict[bytes, Holder | None] = {}
    tried = dict(_assigned(branch, request.upload, upload))
    placed: list[PlacedSlice] = []
    already: list[tuple[bytes, ...]] = []
    moving = 0
    work = branch.branch()
    within: dict[bytes, tuple[bytes, ...]] = {}
    for spec in request.slices:
        if spec.digest in within:
            placed.append(PlacedSlice(spec, ()))
            already.append(within[spec.digest])
            add_references(work, spec.digest, 1)
            continue
        seed = placement_seed(
            digest=spec.digest,
            wallet=pending.wallet,
            session=request.session,
            certificate=context.last_commit_hash,
            beacon=beacon,
        )
        record = SLICE.get(work, spec.digest)
        if record is not None and record.spec != spec:
            raise MetaError("slice", _OTHER_LENGTH.format(spec.digest.hex()))
        if record is None:
            record = SliceRecord(
                spec, (), 0, wanted, request.tier, seed, context.height, pending.wallet, request.session, ()
            )
        live = live_holders(work, record, known)
        without = {*record.holders, *tried.get(spec.digest, ())}
        # A holder that still has to delete an earlier copy would delete the new one too.
        without.update(c.address for c in lottery.candidates if has_pending_drop(work, c.address, spec.digest))
        chosen = lottery.choose(
            seed,
            count=max(0, wanted - len(live)),
            length=spec.length,
            tier=request.tier,
            without=without,
            without_hosts={host_of(h) for address in live if (h := known.get(address)) is not None},
        )
        if len(live) + len(chosen) < least_copies(wanted):
            raise MetaError(
                "holders",
                f"only {len(live) + len(chosen)} of {wanted} copies of slice {spec.digest.hex()[:16]} have a place; "
                "wait for nodes with free disk",
            )
        moving += len(chosen) * copy_cost(context.params, spec.length)
        record = structs.replace(record, references=record.references + 1, copies=max(record.copies, wanted))
        if chosen:
            record = structs.replace(
                record,
                seed=seed,
                placed_height=context.height,
                wallet=pending.wallet,
                session=request.session,
                chosen=chosen,
            )
        SLICE.set(work, spec.digest, record)
        placed.append(PlacedSlice(spec, chosen))
        already.append(tuple(live))
        within[spec.digest] = (*live, *chosen)
    work.merge()
    PLACEMENT.set(
        branch,
        request.upload + u32(request.first_index),
        Placement(
            request.upload,
            request.session,
            pending.wallet,
            request.first_index,
            context.last_commit_hash,
            tuple(placed),
            tuple(already),
        ),
    )
    surplus = pending.reserved_noz - moving
    UPLOAD.set(branch, request.upload, structs.replace(upload, reserved_noz=upload.reserved_noz - surplus))
    refund_pool(branch, request.session, surplus)


def _refuse(branch: Branch, pending: PendingPlacement, why: MetaError) -> None:
    request = pending.place
    upload = get_upload(branch, request.upload)
    ranges = tuple(r for r in upload.ranges if r[0] != request.first_index)
    UPLOAD.set(
        branch,
        request.upload,
        structs.replace(upload, reserved_noz=upload.reserved_noz - pending.reserved_noz, ranges=ranges),
    )
    refund_pool(branch, request.session, pending.reserved_noz)
    name = request.upload + u32(request.first_index)
    REFUSAL.set(branch, name, Refusal(request.upload, why.code, why.sentence))


def _keep_candidates(branch: Branch, context: BlockContext, wallet: bytes, lottery: Lottery) -> None:
    """Keep the table these lots were drawn from, so that anybody can draw them again."""
    rows = tuple(CandidateRow(c.address, c.host, c.weight, c.tier, c.room) for c in lottery.candidates)
    CANDIDATES.set(branch, u64(context.height) + wallet, rows)
    kept = [key for key, _ in branch.items(CANDIDATES.prefix)]
    for key in kept[:-KEPT_CANDIDATE_TABLES]:
        branch.delete(key)


def _assigned(reader: Reader, name: bytes, upload: Upload) -> Mapping[bytes, set[bytes]]:
    """Digest -> holders that this upload was ever assigned."""
    assigned: dict[bytes, set[bytes]] = {}
    for _, placed in upload_slices(reader, name, upload):
        assigned.setdefault(placed.spec.digest, set()).update(placed.holders)
    return assigned


def _require_same(record: SliceRecord | None, spec: SliceSpec) -> None:
    if record is not None and record.spec != spec:
        raise MetaError("slice", _OTHER_LENGTH.format(spec.digest.hex()))
