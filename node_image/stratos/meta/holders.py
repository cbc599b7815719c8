"""Resource nodes as the log sees them: what the chain registered, what they report, and the status that follows.

Status is a function of facts (`derive_status`): removed, unbonding, suspended (by the chain, or not activated yet),
unavailable (no report in time), maintenance, active. Only active nodes get new work; `counts` says whose copies count
towards the wanted number, `related` who may not serve whom.
"""

from collections.abc import Iterator

from blake3 import blake3
from msgspec import structs

from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.placement import Candidate
from stratos.meta.rooms import (
    ACTIVE,
    HOLDER,
    MAINTENANCE,
    RELATED,
    REMOVED,
    SUSPENDED,
    UNAVAILABLE,
    UNBONDING,
    Holder,
)
from stratos.meta.scores import scored
from stratos.state import Branch, Reader
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import HolderInfo, NodeStatus

MAINTENANCE_DAYS_PER_MILLE = 3_650
"""Longest silence excused by maintenance: one per cent of a year (protocol 7), in thousandths of a day."""


def is_seen(holder: Holder, context: BlockContext) -> bool:
    """Whether the holder reported its status in time."""
    patience = milliseconds(context.params.status_seconds) * context.params.offline_intervals
    return holder.seen_ms > 0 and context.witness_ms - holder.seen_ms <= patience


def derive_status(holder: Holder, context: BlockContext) -> str:
    """The status word that follows from a holder's facts."""
    if holder.removed:
        return REMOVED
    if holder.unbonding:
        return UNBONDING
    if holder.suspended or holder.effective_wei == "0":
        return SUSPENDED
    if holder.maintenance and holder.seen_ms:
        excused = context.genesis.ledger.day_seconds * MAINTENANCE_DAYS_PER_MILLE
        if context.witness_ms - holder.seen_ms <= excused:
            return MAINTENANCE
    return ACTIVE if is_seen(holder, context) else UNAVAILABLE


def counts(holder: Holder | None) -> bool:
    """Whether this holder's copies count towards the wanted number (an unavailable one keeps them until the grace is over)."""
    if holder is None:
        return False
    return holder.status in (ACTIVE, MAINTENANCE) or (holder.status == UNAVAILABLE and not holder.repairing)


def live_count(reader: Reader, addresses: tuple[bytes, ...]) -> int:
    """How many of these holders' copies count."""
    return sum(counts(HOLDER.get(reader, address)) for address in addresses)


def host_of(holder: Holder) -> str:
    """The machine a holder runs on; a node without a label is a machine of its own."""
    return holder.host or holder.address.hex()


def tier_of(holder: Holder, params: MetaParams) -> int:
    """Tier by effective deposit (protocol 6)."""
    effective = int(holder.effective_wei)
    return sum(1 for least in params.tier_wei if effective >= int(least))


def related(reader: Reader, holder: Holder, wallet: bytes) -> bool:
    """Whether owner, beneficiary or host of this node are the wallet's own (protocol 7: never serves it for reward)."""
    if wallet in (holder.owner, holder.beneficiary):
        return True
    return RELATED.get(reader, wallet + _host_key(host_of(holder))) > 0


def all_holders(reader: Reader) -> Iterator[Holder]:
    """Every holder, by address."""
    for _, holder in HOLDER.items(reader):
        yield holder


def candidates(reader: Reader, params: MetaParams, *, wallet: bytes | None) -> list[Candidate]:
    """Active holders that may work for `wallet` (None: repairs, where nobody is paid by a wallet)."""
    return [
        Candidate(holder.address, host_of(holder), holder.score, tier_of(holder, params), holder.disk_free)
        for holder in all_holders(reader)
        if holder.status == ACTIVE and (wallet is None or not related(reader, holder, wallet))
    ]


def get_holder(reader: Reader, address: bytes) -> Holder:
    """The registered holder; raises MetaError `node`."""
    holder = HOLDER.get(reader, address)
    if holder is None:
        raise MetaError("node", f"{address.hex()} is not a registered resource node; register it on the chain first")
    return holder


def register(branch: Branch, holder: Holder) -> None:
    """Add a holder and remember which wallets it is related to."""
    HOLDER.set(branch, holder.address, holder)
    _relate(branch, holder, 1)


def unregister(branch: Branch, address: bytes) -> None:
    """Forget a holder that registers anew (its slices were dropped when it left)."""
    holder = HOLDER.get(branch, address)
    if holder is not None:
        _relate(branch, holder, -1)
        HOLDER.delete(branch, address)


def put(branch: Branch, context: BlockContext, holder: Holder) -> Holder:
    """Store a holder with the status that follows from its facts; notes the moment it was lost."""
    status = derive_status(holder, context)
    if status != holder.status:
        lost = holder.lost_ms
        repairing = holder.repairing
        if status == UNAVAILABLE:
            lost = context.witness_ms
            if holder.status != SUSPENDED and holder.seen_ms:
                holder = scored(branch, context, holder, "unavailable")
        elif status in (ACTIVE, MAINTENANCE):
            lost, repairing = 0, False
        elif status == SUSPENDED:
            repairing = True
        holder = structs.replace(holder, status=status, lost_ms=lost, repairing=repairing)
        context.events("holder_status", (("node", holder.address.hex()), ("status", status)))
    HOLDER.set(branch, holder.address, holder)
    return holder


def report_status(branch: Branch, context: BlockContext, author: bytes, body: NodeStatus) -> Holder:
    """A node's heartbeat."""
    holder = get_holder(branch, author)
    if holder.removed:
        raise MetaError("node", f"node {author.hex()} was removed; register it again before reporting")
    # Reporting more often than asked earns no standing.
    if is_seen(holder, context) and 4 * (context.witness_ms - holder.seen_ms) >= 3 * milliseconds(
        context.params.status_seconds
    ):
        holder = scored(branch, context, holder, "on_time")
    holder = structs.replace(
        holder,
        disk_free=body.disk_free,
        disk_used=body.disk_used,
        slices=body.slices,
        maintenance=body.maintenance,
        network_address=body.network_address or holder.network_address,
        degraded=body.degraded,
        last_status_ms=context.time_ms,
        seen_ms=context.witness_ms,
    )
    return put(branch, context, holder)


def holder_info(holder: Holder) -> HolderInfo:
    """The public record of a holder."""
    return HolderInfo(
        holder.address,
        holder.public_key,
        holder.owner,
        holder.beneficiary,
        host_of(holder),
        holder.name,
        holder.network_address,
        holder.status,
        holder.score,
        holder.disk_free,
        holder.slices,
        holder.last_status_ms,
    )


def _relate(branch: Branch, holder: Holder, change: int) -> None:
    key = _host_key(host_of(holder))
    for wallet in {holder.owner, holder.beneficiary}:
        RELATED.add(branch, wallet + key, change)


def _host_key(host: str) -> bytes:
    return blake3(host.encode()).digest()[:12]
