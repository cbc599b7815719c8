"""One-sided ends: a step of which one side has gone silent (protocol 7).

The side that is left says so in the log, signed. That pays nobody: the session closes, the step's noz stays reserved until
the dispute time-out, so that a receipt both have signed may still arrive, and the silent side's standing falls (the
holder's score, or the wallet's count of complaints). A signed mismatch goes further: the taker shows that the bytes do not
have the digest it pre-signed for, and the step can no longer be earned at all.
"""

from stratos.meta import ozone
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.holders import get_holder
from stratos.meta.rooms import ALLOTMENT, DISPUTE, HOLDER, LOCKED, STANDING, DisputeRecord
from stratos.meta.scores import scored
from stratos.meta.sessions import begin_closing, get_session
from stratos.state import Branch
from stratos.wire.metalog import SESSION_OPEN, Dispute


def dispute(branch: Branch, context: BlockContext, author: bytes, body: Dispute) -> None:
    """By the session's key (the holder was silent or sent wrong bytes) or the holder's (the client was)."""
    session = get_session(branch, body.session)
    holder = get_holder(branch, body.holder)
    by_holder = author == holder.public_key
    if not by_holder and author != session.key:
        raise MetaError(
            "signature", f"a dispute about session {body.session.hex()} is signed by its key or the holder's"
        )
    if len(body.mismatch_digest) not in (0, 32) or (by_holder and body.mismatch_digest):
        raise MetaError(
            "invalid",
            "a mismatch is the 32-byte BLAKE3 of the bytes received, told by the taker; leave it empty otherwise",
        )
    allotment = ALLOTMENT.get(branch, session.id + holder.address)
    left = allotment.allotted_noz - allotment.charged_noz if allotment is not None else 0
    if body.step_noz == 0 or body.step_noz > left:
        raise MetaError(
            "allowance", f"a step of {body.step_noz} noz is not part of the {left} noz left with {holder.address.hex()}"
        )
    key = session.id + holder.address
    if DISPUTE.get(branch, key) is not None:
        raise MetaError("duplicate", f"session {session.id.hex()} has a dispute with {holder.address.hex()} already")
    until = context.time_ms + milliseconds(context.params.dispute_seconds)
    DISPUTE.set(branch, key, DisputeRecord(body.step_noz, until, by_holder, bool(body.mismatch_digest)))
    if by_holder:
        STANDING.add(branch, session.wallet, 1)
    else:
        HOLDER.set(branch, holder.address, scored(branch, context, holder, "dispute"))
    if session.status == SESSION_OPEN:
        begin_closing(branch, session, context.epoch)


def release_locked(branch: Branch, context: BlockContext) -> None:
    """Steps whose time-out is over return to their wallets (at epoch rolls)."""
    for key, (wallet, noz) in list(LOCKED.items(branch)):
        if int.from_bytes(key[:8], "big") > context.time_ms:
            break
        LOCKED.delete(branch, key)
        ozone.release(branch, wallet, noz)
