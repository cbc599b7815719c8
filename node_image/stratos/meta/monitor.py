"""The monitor: what follows from silence, by rule and for everybody alike (protocol 6, 7).

On the witness clock (see rooms.Clock): `offline_intervals` without a status make a holder unavailable; one grace interval
later its copies are made again; after `suspend_offline_seconds` it is suspended on the chain; after
`remove_offline_seconds` it is removed and charged for the copying (`leave`). A score below the floor suspends too. A holder that is
heard again in time, with a good score, is activated or unsuspended at once. Leaving nodes are migrated; those that go
before the cooling-off is over count as not completed. All holders are looked at twice per status interval; a status
report looks at its own sender at once.
"""

from msgspec import structs

from stratos.bft.quorum import quorum
from stratos.meta import holders, outbox, repair
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.rooms import (
    ACTIVE,
    AUTHORITY,
    HOLDER,
    MIGRATED,
    POSSESSION,
    REMOVED,
    SLICE,
    SUSPENDED,
    UNAVAILABLE,
    UNBONDING,
    Holder,
    u64,
)
from stratos.meta.scores import scored
from stratos.state import Branch
from stratos.wire.genesis import Genesis
from stratos.wire.metalog import PossessionFailure
from stratos.wire.txs import Leave, SetEffectiveDeposit, Suspend, Unsuspend


def round_ms(context: BlockContext) -> int:
    """Time between two rounds of the monitor."""
    return max(1, milliseconds(context.params.status_seconds) // 2)


def run(branch: Branch, context: BlockContext) -> None:
    """One round: statuses, actions, repairs."""
    for holder in list(holders.all_holders(branch)):
        consider(branch, context, holders.put(branch, context, holder))
    repair.plan(branch, context)


def consider(branch: Branch, context: BlockContext, holder: Holder) -> None:
    """Draw the consequences for one holder."""
    since = holder.seen_ms or holder.lost_ms
    silent_ms = context.witness_ms - since if since else 0
    if holder.status == UNAVAILABLE and not holder.repairing:
        grace = milliseconds(context.params.status_seconds) * context.params.repair_grace_intervals
        if context.witness_ms - holder.lost_ms >= grace:
            holder = structs.replace(holder, repairing=True)
            HOLDER.set(branch, holder.address, holder)
    if holder.status in (UNAVAILABLE, SUSPENDED) and silent_ms >= milliseconds(context.params.remove_offline_seconds):
        holder = holders.put(branch, context, structs.replace(holder, removed=True, repairing=True))
    if not outbox.may_act(branch, context, holder.address):
        return
    _act(branch, context, holder, silent_ms)


def _act(branch: Branch, context: BlockContext, holder: Holder, silent_ms: int) -> None:
    action_id = outbox.next_action_id(branch)
    seen = holders.is_seen(holder, context)
    healthy = seen and holder.score >= context.params.score_floor
    node = holder.address
    if holder.status == SUSPENDED and healthy and int(holder.deposit_wei) > 0:
        if holder.effective_wei == "0":
            message = SetEffectiveDeposit(action_id, node, holder.deposit_wei, ())
            outbox.decide(branch, context, message, node=node)
        else:
            outbox.decide(branch, context, Unsuspend(action_id, node, ()), node=node)
    elif holder.status == ACTIVE and int(holder.deposit_wei) > int(holder.effective_wei):
        outbox.decide(branch, context, SetEffectiveDeposit(action_id, node, holder.deposit_wei, ()), node=node)
    elif (holder.status == ACTIVE and not healthy) or (
        holder.status == UNAVAILABLE and silent_ms >= milliseconds(context.params.suspend_offline_seconds)
    ):
        outbox.decide(branch, context, Suspend(action_id, node, ()), node=node)
    elif holder.status in (UNBONDING, REMOVED) and not holder.left:
        _leave(branch, context, holder, seen=seen)


def cooling_off_left_ms(holder: Holder, genesis: Genesis, at_ms: int) -> int:
    """How much longer a node that unbonds has to stay (on the witness clock, heard until `at_ms`) to forfeit nothing.

    Decided a little early, because the deposit that pays for its leaving is returned when the cooling-off ends.
    """
    if not holder.unbonding or holder.left:
        return 0
    cooling_ms = genesis.ledger.register.unbonding_days * genesis.ledger.day_seconds * 1000
    return max(0, -(-cooling_ms * 98 // 100) - (at_ms - holder.lost_ms))


def _leave(branch: Branch, context: BlockContext, holder: Holder, *, seen: bool) -> None:
    """Charge a leaver once, when its slices are elsewhere and it is known whether it stayed for the cooling-off."""
    if not repair.is_migrated(branch, holder):
        return
    heard_until_ms = context.witness_ms if seen else holder.seen_ms
    completed = holder.unbonding and not cooling_off_left_ms(holder, context.genesis, heard_until_ms)
    gone = holder.status == REMOVED or (
        not seen and context.witness_ms - holder.seen_ms >= milliseconds(context.params.suspend_offline_seconds)
    )
    if not completed and not gone:
        return
    message = Leave(
        outbox.next_action_id(branch), holder.address, str(MIGRATED.get(branch, holder.address)), completed, ()
    )
    outbox.decide(branch, context, message, node=holder.address)
    MIGRATED.set(branch, holder.address, 0)
    HOLDER.set(branch, holder.address, structs.replace(holder, left=True))


def possession_failure(branch: Branch, context: BlockContext, author: bytes, body: PossessionFailure) -> None:
    """One authority's finding; a quorum of them within an epoch takes the copy away and costs standing."""
    authority = AUTHORITY.get(branch, author)
    if authority is None or not authority.active:
        raise MetaError("authority", f"{author.hex()} is not an active meta node; only authorities judge possession")
    record = SLICE.get(branch, body.slice_digest)
    if record is None or body.holder not in record.holders:
        raise MetaError(
            "slice", f"slice {body.slice_digest.hex()} is not held by {body.holder.hex()}; nothing to prove"
        )
    key = u64(context.epoch) + body.holder + body.slice_digest
    found = POSSESSION.get(branch, key) or ()
    if author in found:
        raise MetaError("duplicate", f"{author.hex()} has reported this failure in epoch {context.epoch} already")
    found = tuple(sorted((*found, author)))
    if len(found) < quorum(len(outbox.authorities(branch))):
        POSSESSION.set(branch, key, found)
        return
    POSSESSION.delete(branch, key)
    holder = holders.get_holder(branch, body.holder)
    HOLDER.set(branch, holder.address, scored(branch, context, holder, "possession"))
    repair.forget_copy(branch, context, body.slice_digest, body.holder)


def forget_findings(branch: Branch, context: BlockContext) -> None:
    """At an epoch roll: findings of past epochs that never reached a quorum."""
    for key, _ in list(branch.items(POSSESSION.prefix)):
        if int.from_bytes(key[len(POSSESSION.prefix) :][:8], "big") < context.epoch:
            branch.delete(key)
