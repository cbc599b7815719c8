"""Rewards between being paid and being spent: immature, mature, withdrawn; and the debts that are taken first.

The money of both lies in the total-reward pool. A report writes one immature record per (epoch, wallet); its parts
name the node that earned them, so that a node that leaves early loses its own rewards and not those of other nodes of the
same wallet. Keys sort by epoch, then wallet, which is the order in which records mature. What a report paid is kept apart
and for ever (`PAID`), because records of immature rewards are spent by fees and forfeits.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from stratos.ledger import bank
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import IMMATURE, LedgerError
from stratos.ledger.events import event
from stratos.ledger.rules import Rules
from stratos.state import AmountTable, Branch, CounterTable, Reader, Table
from stratos.wire.block import Event
from stratos.wire.scalars import Address, Amount
from stratos.wire.txs import Withdraw

NO_NODE = b"\0" * 20
"""Node of a part that no registered node is named for."""

_MOST_ASKED = 20_000
"""Epochs that are asked for one by one; at 2,016 immature ones this is ten times the ordinary span."""


class RewardPart(Struct, frozen=True, array_like=True):
    """What one node earned for a wallet in one epoch."""

    node: Address
    mining_wei: Amount
    traffic_wei: Amount


class PaidReward(Struct, frozen=True, array_like=True):
    """What a report paid to one wallet."""

    mining_wei: Amount
    traffic_wei: Amount


LAST_EPOCH = CounterTable(b"pot/last_epoch")
IMMATURE_PARTS = Table(b"pot/immature/", tuple[RewardPart, ...])
IMMATURE_TOTAL = AmountTable(b"pot/immature_total/")
MATURE = AmountTable(b"pot/mature/")
PAID = Table(b"pot/paid/", PaidReward)
DEBT = AmountTable(b"pot/slashing/")


def epoch_key(epoch: int) -> bytes:
    """Key part of an epoch; sorts like the number."""
    return epoch.to_bytes(8, "big")


def record(state: Branch, epoch: int, parts_by_wallet: dict[bytes, list[RewardPart]]) -> None:
    """Write the immature and paid records of a report; the money is already in the pool."""
    for wallet, parts in sorted(parts_by_wallet.items()):
        mining = sum(int(part.mining_wei) for part in parts)
        traffic = sum(int(part.traffic_wei) for part in parts)
        key = epoch_key(epoch) + wallet
        PAID.set(state, key, PaidReward(str(mining), str(traffic)))
        if mining + traffic > 0:
            IMMATURE_PARTS.set(state, key, tuple(parts))
            IMMATURE_TOTAL.add(state, wallet, mining + traffic)


def paid_in_epoch(reader: Reader, epoch: int) -> Iterator[tuple[bytes, PaidReward]]:
    """(wallet, what the report of `epoch` paid to it) by wallet."""
    for key, paid in PAID.items(reader, epoch_key(epoch)):
        yield key[8:], paid


def settle_debt(state: Branch, wallet: bytes, pool: bytes, amount_wei: int) -> int:
    """Take the wallet's debt out of `amount_wei` lying in `pool`; returns what is left for the wallet (protocol 6)."""
    debt = DEBT.get(state, wallet)
    taken = min(debt, amount_wei)
    if taken > 0:
        DEBT.set(state, wallet, debt - taken)
        bank.move(state, pool, bank.COMMUNITY_POOL, taken)
    return amount_wei - taken


def mature_due(state: Branch, rules: Rules, owner_of: Callable[[bytes], bytes | None]) -> list[Event]:
    """Mature due epochs oldest first, wallets by address, at most `mature_per_block` records (protocol 5).

    `owner_of` gives the owner of a registered node: the debt of the rewarded wallet is taken first, then that of the
    owner of the node that earned the part.
    """
    due_epoch = LAST_EPOCH.get(state) - rules.mature_epoch
    if due_epoch < 0:
        return []
    due: list[tuple[bytes, tuple[RewardPart, ...]]] = []
    for key, parts in IMMATURE_PARTS.items(state):
        if int.from_bytes(key[:8], "big") > due_epoch or len(due) >= rules.mature_per_block:
            break
        due.append((key, parts))
    events = []
    for key, parts in due:
        wallet = key[8:]
        amount = 0
        kept = 0
        for part in parts:
            earned = int(part.mining_wei) + int(part.traffic_wei)
            left = settle_debt(state, wallet, bank.TOTAL_REWARD, earned)
            left = settle_debt(state, owner_of(part.node) or wallet, bank.TOTAL_REWARD, left)
            amount += earned
            kept += left
        IMMATURE_PARTS.delete(state, key)
        IMMATURE_TOTAL.add(state, wallet, -amount)
        MATURE.add(state, wallet, kept)
        epoch = int.from_bytes(key[:8], "big")
        events.append(event("reward_matured", epoch=epoch, wallet=wallet, amount=kept, slashed=amount - kept))
    return events


def has_due(reader: Reader, rules: Rules) -> bool:
    """Whether `mature_due` has anything to do, at the price of one look."""
    due_epoch = LAST_EPOCH.get(reader) - rules.mature_epoch
    if due_epoch < 0:
        return False
    oldest = next((int.from_bytes(key[:8], "big") for key, _ in IMMATURE_PARTS.items(reader)), None)
    return oldest is not None and oldest <= due_epoch


def take_immature(state: Branch, wallet: bytes, node: bytes, limit_wei: int | None) -> tuple[int, int]:
    """Remove up to `limit_wei` (None: all) of a node's immature rewards of a wallet, oldest epoch first.

    Within a record the mining part goes first. Parts that name no node count as this node's. Returns (mining, traffic)
    wei removed; the money stays in the pool for the caller to move.
    """
    mining_taken = traffic_taken = 0
    for key, parts in list(_of_wallet(state, wallet)):
        kept: list[RewardPart] = []
        for part in parts:
            if part.node not in (node, NO_NODE):
                kept.append(part)
                continue
            mining, traffic = int(part.mining_wei), int(part.traffic_wei)
            room = mining + traffic if limit_wei is None else limit_wei - mining_taken - traffic_taken
            from_mining = min(mining, room)
            from_traffic = min(traffic, room - from_mining)
            mining_taken += from_mining
            traffic_taken += from_traffic
            if mining + traffic > from_mining + from_traffic:
                kept.append(RewardPart(part.node, str(mining - from_mining), str(traffic - from_traffic)))
        if kept:
            IMMATURE_PARTS.set(state, key, tuple(kept))
        else:
            IMMATURE_PARTS.delete(state, key)
    IMMATURE_TOTAL.add(state, wallet, -(mining_taken + traffic_taken))
    return mining_taken, traffic_taken


def handle_withdraw(state: Branch, sender: bytes, message: Withdraw, context: BlockContext) -> list[Event]:
    """Pay matured rewards of the sender to a wallet."""
    amount = bank.positive(message.amount_wei, "the withdrawn amount")
    recipient = bank.recipient_wallet(message.recipient)
    mature = MATURE.get(state, sender)
    if amount > mature:
        raise LedgerError(
            IMMATURE,
            f"{amount} wei were asked for and {mature} are mature at height {context.height}; withdraw less, or wait",
        )
    MATURE.set(state, sender, mature - amount)
    bank.move(state, bank.TOTAL_REWARD, recipient, amount)
    return [event("withdrawn", wallet=sender, recipient=recipient, amount=amount)]


def _of_wallet(state: Branch, wallet: bytes) -> Iterator[tuple[bytes, tuple[RewardPart, ...]]]:
    """(key, parts) of a wallet, oldest epoch first: by asking for each epoch, or by walking where epochs have gaps."""
    if IMMATURE_TOTAL.get(state, wallet) == 0:
        return
    oldest = next((int.from_bytes(key[:8], "big") for key, _ in IMMATURE_PARTS.items(state)), 0)
    last = LAST_EPOCH.get(state)
    if last - oldest <= _MOST_ASKED:
        for epoch in range(oldest, last + 1):
            key = epoch_key(epoch) + wallet
            parts = IMMATURE_PARTS.get(state, key)
            if parts is not None:
                yield key, parts
        return
    for key, parts in IMMATURE_PARTS.items(state):
        if key[8:] == wallet:
            yield key, parts
