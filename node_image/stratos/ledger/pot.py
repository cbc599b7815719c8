"""Proof-of-Traffic: one volume report settles one epoch (protocol 5).

Traffic reward R leaves the prepay pool, the mining reward leaves the foundation; both are split alike into a chain, a
resource and a meta part. The chain part goes to the fee collector for validators, the others to the reward pool as
immature rewards; tax on traffic goes to the community pool. The order of the fixed-point operations is that of the
protocol and of the public network, because each of them rounds. Two bounds the formulas do not give by themselves are
kept here: R is at most P and mining at most what the foundation holds, and where rounded shares add up to a few wei
more than the pool has, the last payments are that much shorter.
"""

from msgspec import Struct

from stratos.ledger import bank, register, rewards, sds
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import EPOCH, OZONE_LIMIT, ZERO_VOLUME, LedgerError
from stratos.ledger.events import REPORT_INCLUDED, event
from stratos.ledger.fixed import Fixed
from stratos.ledger.rewards import LAST_EPOCH, NO_NODE, RewardPart, epoch_key
from stratos.ledger.rules import BASIS_POINTS, MiningStage, Rules
from stratos.state import AmountTable, Branch, Reader, Table
from stratos.wire.block import Event
from stratos.wire.scalars import Address, Amount, Hash32, Height
from stratos.wire.txs import VolumeReport

MINED = AmountTable(b"pot/total_mined")


class ReportRecord(Struct, frozen=True, kw_only=True):
    """What the chain keeps of an accepted report. Amounts are what the split assigned, `tax_wei` what was moved."""

    volume_noz: Amount
    rows: int
    receipts_root: Hash32
    height: Height
    reporter: Address
    traffic_reward: str
    traffic_chain_wei: Amount
    traffic_resource_wei: Amount
    traffic_meta_wei: Amount
    mining_chain_wei: Amount
    mining_resource_wei: Amount
    mining_meta_wei: Amount
    traffic_paid_wei: Amount
    """All that left the prepay pool: chain part, rewards, tax."""
    mining_paid_wei: Amount
    """All that left the foundation: chain part and rewards."""
    tax_wei: Amount


REPORTS = Table(b"pot/report/", ReportRecord)


class Split(Struct, frozen=True):
    """One reward in three parts, wei."""

    chain: int
    resource: int
    meta: int

    @classmethod
    def of(cls, reward: Fixed, stage: MiningStage) -> "Split":
        """part = trunc(reward * basis points / 10000)."""
        return cls(
            (reward * stage.chain_bp / BASIS_POINTS).trunc(),
            (reward * stage.resource_bp / BASIS_POINTS).trunc(),
            (reward * stage.meta_bp / BASIS_POINTS).trunc(),
        )


class _Purse:
    """What may still leave a pool in this report."""

    __slots__ = ("left", "spent")

    def __init__(self, available: int) -> None:
        self.left = available
        self.spent = 0

    def take(self, amount: int) -> int:
        taken = min(amount, self.left)
        self.left -= taken
        self.spent += taken
        return taken


class _Settlement:
    """Pays the rows of one report out of two purses and remembers tax and parts."""

    def __init__(self, rules: Rules, traffic: _Purse, mining: _Purse) -> None:
        self.rules = rules
        self.traffic = traffic
        self.mining = mining
        self.tax = Fixed(0)
        self.parts: dict[bytes, list[RewardPart]] = {}

    def pay(self, wallet: bytes, node: bytes, *, mining_wei: int, gross: Fixed) -> None:
        """Pay one row: mining untaxed, traffic gross less community tax, truncated."""
        tax = gross * self.rules.community_tax
        self.tax = self.tax + tax
        part = RewardPart(node, str(self.mining.take(mining_wei)), str(self.traffic.take((gross - tax).trunc())))
        self.parts.setdefault(wallet, []).append(part)

    @property
    def rewards_wei(self) -> tuple[int, int]:
        """(mining, traffic) paid to wallets."""
        parts = [part for of_wallet in self.parts.values() for part in of_wallet]
        return sum(int(part.mining_wei) for part in parts), sum(int(part.traffic_wei) for part in parts)


def handle_volume_report(
    state: Branch, rules: Rules, sender: bytes, message: VolumeReport, context: BlockContext
) -> list[Event]:
    """Settle an epoch; the quorum has been checked."""
    volume = _checked_volume(state, rules, message)
    market = sds.market(state)
    reward = min(sds.traffic_reward(market, volume), Fixed.of(market.prepay_wei))
    stage_reward, stage = rules.stage(MINED.get(state))
    mined = min(stage_reward, bank.balance(state, bank.FOUNDATION))
    traffic, mining = Split.of(reward, stage), Split.of(Fixed.of(mined), stage)

    settlement = _Settlement(rules, _Purse(market.prepay_wei), _Purse(bank.balance(state, bank.FOUNDATION)))
    chain_traffic = settlement.traffic.take(traffic.chain)
    chain_mining = settlement.mining.take(mining.chain)
    _pay_resource(state, settlement, message, volume, traffic_wei=traffic.resource, mining_wei=mining.resource)
    _pay_meta(state, settlement, message, traffic_wei=traffic.meta, mining_wei=mining.meta)
    rewards_mining, rewards_traffic = settlement.rewards_wei
    tax = settlement.traffic.take(settlement.tax.trunc())

    bank.move(state, bank.UNISSUED_PREPAY, bank.FEE_COLLECTOR, chain_traffic)
    bank.move(state, bank.FOUNDATION, bank.FEE_COLLECTOR, chain_mining)
    bank.move(state, bank.UNISSUED_PREPAY, bank.TOTAL_REWARD, rewards_traffic)
    bank.move(state, bank.FOUNDATION, bank.TOTAL_REWARD, rewards_mining)
    bank.move(state, bank.UNISSUED_PREPAY, bank.COMMUNITY_POOL, tax)
    MINED.add(state, b"", settlement.mining.spent)
    sds.settle(state, volume)
    LAST_EPOCH.set(state, b"", message.epoch)
    rewards.record(state, message.epoch, settlement.parts)
    record = ReportRecord(
        volume_noz=str(volume),
        rows=len(message.rows),
        receipts_root=message.receipts_root,
        height=context.height,
        reporter=sender,
        traffic_reward=str(reward),
        traffic_chain_wei=str(traffic.chain),
        traffic_resource_wei=str(traffic.resource),
        traffic_meta_wei=str(traffic.meta),
        mining_chain_wei=str(mining.chain),
        mining_resource_wei=str(mining.resource),
        mining_meta_wei=str(mining.meta),
        traffic_paid_wei=str(settlement.traffic.spent),
        mining_paid_wei=str(settlement.mining.spent),
        tax_wei=str(tax),
    )
    REPORTS.set(state, epoch_key(message.epoch), record)
    return [_included_event(message, record, sds.market(state))]


def report_of(reader: Reader, epoch: int) -> ReportRecord | None:
    """The accepted report of `epoch`, or None."""
    return REPORTS.get(reader, epoch_key(epoch)) if 0 <= epoch < 2**63 else None


def _checked_volume(state: Branch, rules: Rules, message: VolumeReport) -> int:
    last = LAST_EPOCH.get(state)
    if message.epoch <= last:
        raise LedgerError(
            EPOCH, f"epoch {message.epoch} is not after the last reported epoch {last}; report a later one"
        )
    volume = sum(int(row.volume_noz) for row in message.rows)
    if volume == 0:
        raise LedgerError(
            ZERO_VOLUME, f"the report of epoch {message.epoch} has no volume; report when traffic was paid"
        )
    market = sds.market(state)
    total = sds.total_limit(rules, market.deposits_wei)
    claimed = volume + market.limit_noz + market.deficit_noz
    if claimed > total:
        raise LedgerError(
            OZONE_LIMIT,
            f"{volume} noz of traffic with {market.limit_noz} unsold and {market.deficit_noz} owed exceed the "
            f"{total} that deposits back; only sold ozone can be reported",
        )
    return volume


def _pay_resource(
    state: Branch, settlement: _Settlement, message: VolumeReport, volume: int, *, traffic_wei: int, mining_wei: int
) -> None:
    for row in message.rows:
        share = Fixed.of(int(row.volume_noz)) / volume
        node = row.node if register.RESOURCE.get(state, row.node) is not None else NO_NODE
        settlement.pay(
            row.wallet, node, mining_wei=(Fixed.of(mining_wei) * share).trunc(), gross=Fixed.of(traffic_wei) * share
        )


def _pay_meta(
    state: Branch, settlement: _Settlement, message: VolumeReport, *, traffic_wei: int, mining_wei: int
) -> None:
    authorities = register.active_meta(state)
    for node in authorities:
        if node.address in message.withheld:
            continue
        settlement.pay(
            node.beneficiary,
            node.address,
            mining_wei=(Fixed.of(mining_wei) / len(authorities)).trunc(),
            gross=Fixed.of(traffic_wei) / len(authorities),
        )


def _included_event(message: VolumeReport, record: ReportRecord, after: sds.Market) -> Event:
    return event(
        REPORT_INCLUDED,
        epoch=message.epoch,
        volume=record.volume_noz,
        receipts_root=message.receipts_root,
        traffic_reward=record.traffic_reward,
        traffic_chain=record.traffic_chain_wei,
        traffic_resource=record.traffic_resource_wei,
        traffic_meta=record.traffic_meta_wei,
        mining_chain=record.mining_chain_wei,
        mining_resource=record.mining_resource_wei,
        mining_meta=record.mining_meta_wei,
        tax=record.tax_wei,
        prepay_pool=after.prepay_wei,
        remaining_limit=after.limit_noz,
    )
