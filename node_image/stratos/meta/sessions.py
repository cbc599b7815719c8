"""Sessions: one ordered reservation, then thousands of transfers that need no ordering (protocol 7).

A session's noz is in three places: allotments (what one holder may serve, spent by its receipts), reservations of open
uploads, and the pool (the rest). Holders check their allotment against a proof, so the sum can never be overspent.
Closing (by session or wallet, or by expiry at the next epoch roll) returns the pool at once; the other two stay for
receipts signed until then, which are void at the end of the next epoch; then the session is finished and forgotten.
"""

from collections.abc import Callable

from blake3 import blake3
from msgspec import structs

from stratos.meta import ozone
from stratos.meta.context import BlockContext
from stratos.meta.errors import MetaError
from stratos.meta.holders import all_holders, get_holder, related
from stratos.meta.rooms import (
    ACTIVE,
    ALLOTMENT,
    CLOSING,
    DISPUTE,
    EXPIRING,
    LOCKED,
    SESSION,
    SESSION_HOLDERS,
    SESSION_UPLOADS,
    u64,
)
from stratos.state import Branch, Reader
from stratos.wire import limits
from stratos.wire.metalog import (
    SESSION_CLOSING,
    SESSION_OPEN,
    Allot,
    Allotment,
    CloseSession,
    OpenSession,
    Session,
)
from stratos.wire.receipts import EMPTY_CHAIN

FINISHED_PER_BLOCK = 200


def open_session(branch: Branch, context: BlockContext, wallet: bytes, body: OpenSession, name: bytes) -> None:
    """Reserve `max_noz` and allot `spread_noz` over the holders that may serve this wallet."""
    if body.max_noz == 0 or body.spread_noz > body.max_noz:
        raise MetaError(
            "invalid",
            f"a session of {body.max_noz} noz cannot spread {body.spread_noz}; reserve at least what is spread",
        )
    if body.expiry_ms <= context.time_ms:
        raise MetaError(
            "expired", f"expiry {body.expiry_ms} is not after block time {context.time_ms}; set a later one"
        )
    session_id = name[:16]
    if SESSION.get(branch, session_id) is not None:
        raise MetaError("duplicate", f"session {session_id.hex()} exists; sign again with a fresh nonce")
    ozone.reserve(branch, wallet, body.max_noz)
    pool = body.max_noz
    if body.spread_noz:
        addresses = [h.address for h in all_holders(branch) if h.status == ACTIVE and not related(branch, h, wallet)]
        if len(addresses) > limits.MAX_ALLOTMENTS:
            addresses.sort(key=lambda address: blake3(session_id + address).digest())
            del addresses[limits.MAX_ALLOTMENTS :]
        each = body.spread_noz // max(1, len(addresses))
        if each:
            for address in addresses:
                ALLOTMENT.set(branch, session_id + address, Allotment(each, 0, EMPTY_CHAIN, context.epoch))
            SESSION_HOLDERS.set(branch, session_id, tuple(sorted(addresses)))
            pool -= each * len(addresses)
    SESSION.set(
        branch,
        session_id,
        Session(session_id, wallet, body.session_key, body.max_noz, pool, body.expiry_ms, SESSION_OPEN, 0),
    )
    EXPIRING.set(branch, u64(body.expiry_ms) + session_id, 1)


def allot(branch: Branch, context: BlockContext, author: bytes, body: Allot) -> None:
    """Move noz from the pool to allotments of holders."""
    session = usable_session(branch, context, author, body.session)
    total = sum(noz for _, noz in body.allotments)
    if total > session.pool_noz:
        raise MetaError(
            "funds", f"session has {session.pool_noz} noz in its pool, {total} were to be allotted; open a larger one"
        )
    holders = set(SESSION_HOLDERS.get(branch, session.id) or ())
    for address, noz in body.allotments:
        if related(branch, get_holder(branch, address), session.wallet):
            raise MetaError(
                "self_traffic", f"node {address.hex()} is the payer's own and never serves it for reward; leave it out"
            )
        before = ALLOTMENT.get(branch, session.id + address) or Allotment(0, 0, EMPTY_CHAIN, context.epoch)
        ALLOTMENT.set(branch, session.id + address, structs.replace(before, allotted_noz=before.allotted_noz + noz))
        holders.add(address)
    if len(holders) > limits.MAX_ALLOTMENTS:
        raise MetaError(
            "invalid", f"a session allots to {limits.MAX_ALLOTMENTS} holders at most, not {len(holders)}; open another"
        )
    SESSION_HOLDERS.set(branch, session.id, tuple(sorted(holders)))
    SESSION.set(branch, session.id, structs.replace(session, pool_noz=session.pool_noz - total))


def close_session(
    branch: Branch, context: BlockContext, author: bytes, author_wallet: bytes, body: CloseSession
) -> None:
    """Close by the session's key or its wallet."""
    session = get_session(branch, body.session)
    if author != session.key and author_wallet != session.wallet:
        raise MetaError(
            "signature", f"session {body.session.hex()} is closed by its key or its wallet; sign with one of them"
        )
    if session.status != SESSION_OPEN:
        raise MetaError("session", f"session {body.session.hex()} is closed already")
    begin_closing(branch, session, context.epoch)


def begin_closing(branch: Branch, session: Session, epoch: int) -> None:
    """The pool returns, the session waits one epoch for late receipts."""
    ozone.release(branch, session.wallet, session.pool_noz)
    SESSION.set(branch, session.id, structs.replace(session, status=SESSION_CLOSING, closed_epoch=epoch, pool_noz=0))
    CLOSING.set(branch, u64(epoch) + session.id, 1)
    EXPIRING.set(branch, u64(session.expiry_ms) + session.id, 0)


def get_session(reader: Reader, session_id: bytes) -> Session:
    """The session; raises MetaError `session` when unknown or finished."""
    session = SESSION.get(reader, session_id)
    if session is None:
        raise MetaError("session", f"session {session_id.hex()} is unknown or finished; open a new one")
    return session


def own_session(reader: Reader, author: bytes, session_id: bytes) -> Session:
    """The session, when `author` is its key."""
    session = get_session(reader, session_id)
    if author != session.key:
        raise MetaError(
            "signature", f"entries of session {session_id.hex()} are signed by its session key; sign with that"
        )
    return session


def usable_session(reader: Reader, context: BlockContext, author: bytes, session_id: bytes) -> Session:
    """The author's own session, open and not expired."""
    session = own_session(reader, author, session_id)
    if session.status != SESSION_OPEN:
        raise MetaError("session", f"session {session_id.hex()} is closed; open a new one")
    if session.expiry_ms <= context.time_ms:
        raise MetaError("expired", f"session {session_id.hex()} expired at {session.expiry_ms}; open a new one")
    return session


def take_pool(branch: Branch, session: Session, noz: int) -> None:
    """Reserve noz of an open session's pool for an upload."""
    SESSION.set(branch, session.id, structs.replace(session, pool_noz=session.pool_noz - noz))


def refund_pool(branch: Branch, session_id: bytes, noz: int) -> None:
    """Noz an upload no longer reserves returns to the session's pool, or to the wallet when the session is closing."""
    if noz == 0:
        return
    session = get_session(branch, session_id)
    if session.status == SESSION_OPEN:
        SESSION.set(branch, session_id, structs.replace(session, pool_noz=session.pool_noz + noz))
    else:
        ozone.release(branch, session.wallet, noz)


def charge_skip(branch: Branch, session_id: bytes, wallet: bytes, noz: int) -> int:
    """A skipped holder's first piece: from the pool, else from the wallet's balance; returns what could be taken."""
    session = get_session(branch, session_id)
    from_pool = min(noz, session.pool_noz)
    if from_pool:
        SESSION.set(branch, session_id, structs.replace(session, pool_noz=session.pool_noz - from_pool))
        ozone.charge_reserve(branch, wallet, from_pool)
    return from_pool + ozone.charge_balance(branch, wallet, noz - from_pool)


def expire_sessions(branch: Branch, context: BlockContext) -> None:
    """At an epoch roll: begin closing what has expired."""
    now = u64(context.time_ms)
    for key, _ in list(EXPIRING.items(branch)):
        if key[:8] > now:
            break
        session = SESSION.get(branch, key[8:])
        EXPIRING.set(branch, key, 0)
        if session is not None and session.status == SESSION_OPEN:
            begin_closing(branch, session, context.epoch)


def finish_sessions(
    branch: Branch, context: BlockContext, abort_upload: Callable[[Branch, BlockContext, bytes], None]
) -> bool:
    """Finish sessions whose late receipts are void; True when more wait for the next block."""
    for done, (key, _) in enumerate(CLOSING.items(branch)):
        closed_epoch = int.from_bytes(key[:8], "big")
        if closed_epoch + 2 > context.epoch:
            return False
        if done == FINISHED_PER_BLOCK:
            return True
        _finish(branch, context, key[8:], abort_upload)
        CLOSING.set(branch, key, 0)
    return False


def _finish(
    branch: Branch,
    context: BlockContext,
    session_id: bytes,
    abort_upload: Callable[[Branch, BlockContext, bytes], None],
) -> None:
    for upload in SESSION_UPLOADS.get(branch, session_id) or ():
        abort_upload(branch, context, upload)
    session = get_session(branch, session_id)
    unspent = 0
    for address in SESSION_HOLDERS.get(branch, session_id) or ():
        allotment = ALLOTMENT.get(branch, session_id + address)
        if allotment is None:
            continue
        left = allotment.allotted_noz - allotment.charged_noz
        dispute = DISPUTE.get(branch, session_id + address)
        if dispute is not None:
            locked = min(left, dispute.step_noz) if dispute.until_ms > context.time_ms else 0
            if locked:
                LOCKED.set(branch, u64(dispute.until_ms) + session_id + address, (session.wallet, locked))
                left -= locked
            DISPUTE.delete(branch, session_id + address)
        unspent += left
        ALLOTMENT.delete(branch, session_id + address)
    ozone.release(branch, session.wallet, unspent)
    SESSION_HOLDERS.delete(branch, session_id)
    SESSION_UPLOADS.delete(branch, session_id)
    SESSION.delete(branch, session_id)
