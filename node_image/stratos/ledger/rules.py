"""Ledger parameters in the form handlers compute with: parsed once from genesis, never a constant in code.

Percentages become `Fixed`, amounts ints, days milliseconds of block time. `MiningStage` rows are the table of
protocol 5; the seed schedule keeps the first row's split for ever.
"""

from msgspec import Struct

from stratos.ledger.errors import INVALID, LedgerError
from stratos.ledger.fixed import ONE, Fixed
from stratos.wire.genesis import FIRST_RULES_VERSION, UPGRADE_NOTICE_BLOCKS, LedgerParams

STOS = 10**18
BASIS_POINTS = 10_000


class MiningStage(Struct, frozen=True):
    """While M (wei mined so far) is in [start, end): wei per epoch, and the split in basis points."""

    start_wei: int
    end_wei: int
    reward_wei: int
    resource_bp: int
    meta_bp: int
    chain_bp: int


MINING_STAGES = (
    MiningStage(0, 16_819_200 * STOS, 80 * STOS, 6000, 2000, 2000),
    MiningStage(16_819_200 * STOS, 25_228_800 * STOS, 40 * STOS, 6200, 1800, 2000),
    MiningStage(25_228_800 * STOS, 29_433_600 * STOS, 20 * STOS, 6400, 1600, 2000),
    MiningStage(29_433_600 * STOS, 31_536_000 * STOS, 10 * STOS, 6600, 1400, 2000),
    MiningStage(31_536_000 * STOS, 32_587_200 * STOS, 5 * STOS, 6800, 1200, 2000),
    MiningStage(32_587_200 * STOS, 40_000_000 * STOS, 25 * STOS // 10, 7000, 1000, 2000),
)
_LONGEST_MS = 2**50
"""About 35,000 years; keeps every date far inside what a record can hold."""
TOTAL_MINING_WEI = MINING_STAGES[-1].end_wei


class Rules(Struct, frozen=True, kw_only=True):
    """All ledger parameters, parsed."""

    community_tax: Fixed
    mature_epoch: int
    mature_per_block: int
    seed_split: bool
    strict_report_quorum: bool
    initial_supply_wei: int
    supply_restore_interval: int
    forfeit_on_early_exit: bool
    exit_migration_fee: bool
    base_proposer_reward: Fixed
    bonus_proposer_reward: Fixed
    min_deposit_wei: int
    deposit_noz_rate: int
    node_unbonding_ms: int
    node_threshold_ms: int
    voting_ms: int
    stake_unbonding_ms: int
    max_validators: int
    signed_blocks_window: int
    max_missed: int
    jail_ms: int
    slash_downtime: Fixed
    slash_double_sign: Fixed
    power_unit_wei: int
    gas_price_wei: int
    day_ms: int
    rules_version: int
    upgrade_notice_blocks: int

    @classmethod
    def parse(cls, params: LedgerParams) -> "Rules":
        """Rules of these parameters; LedgerError(invalid) naming the parameter that makes no sense."""
        pot, register, staking = params.pot, params.register, params.staking
        day_ms = params.day_seconds * 1000
        window = _positive("staking.signed_blocks_window", staking.signed_blocks_window)
        needed = (_share("staking.min_signed_per_window", staking.min_signed_per_window) * window).trunc()
        return cls(
            community_tax=_share("pot.community_tax", pot.community_tax),
            mature_epoch=pot.mature_epoch,
            mature_per_block=_positive("pot.mature_per_block", pot.mature_per_block),
            seed_split=pot.split_schedule == "seed",
            strict_report_quorum=pot.report_quorum == "strict",
            initial_supply_wei=int(pot.initial_total_supply),
            supply_restore_interval=_positive("pot.supply_restore_interval", pot.supply_restore_interval),
            forfeit_on_early_exit=pot.forfeit_on_early_exit,
            exit_migration_fee=pot.exit_migration_fee,
            base_proposer_reward=_share("pot.base_proposer_reward", pot.base_proposer_reward),
            bonus_proposer_reward=_share("pot.bonus_proposer_reward", pot.bonus_proposer_reward),
            min_deposit_wei=int(register.min_deposit_wei),
            deposit_noz_rate=_positive("register.deposit_noz_rate", int(register.deposit_noz_rate)),
            node_unbonding_ms=_span("register.unbonding_days", register.unbonding_days * day_ms),
            node_threshold_ms=_span("register.unbonding_threshold_days", register.unbonding_threshold_days * day_ms),
            voting_ms=_span("register.voting_days", register.voting_days * day_ms),
            stake_unbonding_ms=_span("staking.unbonding_days", staking.unbonding_days * day_ms),
            max_validators=staking.max_validators,
            signed_blocks_window=window,
            max_missed=window - needed,
            jail_ms=_span("staking.downtime_jail_seconds", staking.downtime_jail_seconds * 1000),
            slash_downtime=_share("staking.slash_downtime", staking.slash_downtime),
            slash_double_sign=_share("staking.slash_double_sign", staking.slash_double_sign),
            power_unit_wei=_positive("staking.power_unit_wei", int(staking.power_unit_wei)),
            gas_price_wei=int(params.gas_price_wei),
            day_ms=day_ms,
            rules_version=params.rules_version or FIRST_RULES_VERSION,
            upgrade_notice_blocks=params.upgrade_notice_blocks or UPGRADE_NOTICE_BLOCKS,
        )

    def stage(self, mined_wei: int) -> tuple[int, MiningStage]:
        """(mining reward of an epoch, stage whose split holds) when `mined_wei` have been mined (protocol 5)."""
        stage = MINING_STAGES[-1]
        reward = 0
        for row in MINING_STAGES:
            if row.start_wei <= mined_wei < row.end_wei:
                stage, reward = row, row.reward_wei
        return reward, MINING_STAGES[0] if self.seed_split else stage


def _share(name: str, text: str) -> Fixed:
    value = Fixed.parse(text)
    if value > ONE:
        raise LedgerError(INVALID, f"{name} is {text}; a share is between 0 and 1")
    return value


def _span(name: str, span_ms: int) -> int:
    if span_ms > _LONGEST_MS:
        raise LedgerError(INVALID, f"{name} is {span_ms} ms of block time; the longest span is {_LONGEST_MS}")
    return span_ms


def _positive(name: str, value: int) -> int:
    if value <= 0:
        raise LedgerError(INVALID, f"{name} is {value}; it must be at least 1")
    return value
