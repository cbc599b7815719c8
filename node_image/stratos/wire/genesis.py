"""The genesis file: the one document a client needs to check everything else.

JSON on disk (sorted keys, two spaces), genesis hash = BLAKE3(canonical msgpack of the record). Both layers start
from it: the value layer runs it through the ledger's genesis, the meta layer computes its first ozone balances,
authorities and holders from the same ledger genesis.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from stratos.wire import limits
from stratos.wire.codec import encode
from stratos.wire.scalars import (
    Address,
    Amount,
    Count,
    Ed25519Public,
    Height,
    Name,
    TimeMs,
    Uint,
)

GENESIS_VERSION = 1
FIRST_RULES_VERSION = 1
UPGRADE_NOTICE_BLOCKS = 10
LATER_LEDGER_PARAMS = {"rules_version": FIRST_RULES_VERSION, "upgrade_notice_blocks": UPGRADE_NOTICE_BLOCKS}
"""Defaults of the ledger parameters that are left out of a genesis which has them."""
Decimal18 = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?$", max_length=32)]


class PotParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Proof-of-Traffic parameters (protocol 5)."""

    community_tax: Decimal18 = "0.02"
    mature_epoch: Uint = 2016
    mature_per_block: Count = 100
    split_schedule: Annotated[str, Meta(pattern="^(seed|network)$")] = "network"
    report_quorum: Annotated[str, Meta(pattern="^(strict|network)$")] = "strict"
    initial_total_supply: Amount = str(10**26)
    supply_restore_interval: Count = 10_000
    forfeit_on_early_exit: bool = True
    exit_migration_fee: bool = True
    base_proposer_reward: Decimal18 = "0.01"
    bonus_proposer_reward: Decimal18 = "0.04"


class RegisterParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registration parameters (protocol 6)."""

    min_deposit_wei: Amount = str(10**18)
    deposit_noz_rate: Amount = str(10**6)
    unbonding_days: Count = 14
    unbonding_threshold_days: Count = 180
    voting_days: Count = 7


class SdsParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ozone market parameters (protocol 4)."""

    settlement: Annotated[str, Meta(pattern="^(top80|all)$")] = "top80"


class StakingParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Validator parameters (protocol 6, last line)."""

    unbonding_days: Count = 21
    max_validators: Annotated[int, Meta(ge=1, le=limits.MAX_VALIDATORS)] = 100
    signed_blocks_window: Count = 10_000
    min_signed_per_window: Decimal18 = "0.05"
    downtime_jail_seconds: Count = 21_600
    slash_downtime: Decimal18 = "0.0002"
    slash_double_sign: Decimal18 = "0.05"
    power_unit_wei: Amount = str(10**15)
    """Voting weight = stake // power_unit_wei."""


class LedgerParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All ledger parameters.

    Parameters that came after the first networks are left out of the bytes while they have their default, so that the
    genesis hash of a network made before them stays what it is."""

    pot: PotParams = PotParams()
    register: RegisterParams = RegisterParams()
    sds: SdsParams = SdsParams()
    staking: StakingParams = StakingParams()
    gas_price_wei: Amount = str(10**9)
    day_seconds: Annotated[int, Meta(ge=1)] = 86_400
    rules_version: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET
    """Version of the ledger's rules from the first block on; left out: `FIRST_RULES_VERSION`."""
    upgrade_notice_blocks: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET
    """How far ahead the height of new rules must be when it is proposed; left out: `UPGRADE_NOTICE_BLOCKS`."""

    def __post_init__(self) -> None:
        for name, default in LATER_LEDGER_PARAMS.items():
            if getattr(self, name) == default:
                structs.force_setattr(self, name, UNSET)


class MetaParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Meta and resource layer parameters (protocol 3, 7)."""

    epoch_seconds: Annotated[float, Meta(gt=0)] = 600.0
    copies: Annotated[int, Meta(ge=1, le=limits.MAX_COPIES)] = 4
    slice_bytes: Annotated[int, Meta(ge=1, le=limits.SLICE_BYTES)] = limits.SLICE_BYTES
    status_seconds: Annotated[float, Meta(gt=0)] = 300.0
    offline_intervals: Count = 2
    repair_grace_intervals: Count = 1
    repair_reserve_bp: Count = 500
    request_window_seconds: Count = 600
    dispute_seconds: Annotated[float, Meta(gt=0)] = 600.0
    suspend_offline_seconds: Annotated[float, Meta(gt=0)] = 3_600.0
    remove_offline_seconds: Annotated[float, Meta(gt=0)] = 604_800.0
    score_start: Count = 5_000
    score_floor: Count = 1_000
    tier_wei: Annotated[tuple[Amount, ...], Meta(min_length=1, max_length=3)] = (
        str(800 * 10**18),
        str(1_600 * 10**18),
        str(3_200 * 10**18),
    )
    """Smallest effective deposit of tiers 1, 2, 3; below the first a node is tier 0."""


class ConsensusParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pace of one layer. `block_seconds`: an empty block is made this long after the last one; with entries waiting,
    `min_block_seconds` after the last one."""

    block_seconds: Annotated[float, Meta(gt=0)] = 5.0
    min_block_seconds: Annotated[float, Meta(ge=0)] = 0.0
    propose_timeout_seconds: Annotated[float, Meta(gt=0)] = 1.0
    vote_timeout_seconds: Annotated[float, Meta(gt=0)] = 0.5
    timeout_delta_seconds: Annotated[float, Meta(ge=0)] = 0.5
    clock_drift_seconds: Annotated[float, Meta(gt=0)] = 0.5
    message_delay_seconds: Annotated[float, Meta(gt=0)] = 10.0
    max_block_bytes: Annotated[int, Meta(ge=1024, le=limits.MAX_BLOCK_BYTES)] = limits.MAX_BLOCK_BYTES


class GenesisAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: Address
    balance_wei: Amount


class GenesisValidator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stake is new supply locked at genesis, delegated by `operator` to itself."""

    operator: Address
    node_public_key: Ed25519Public
    stake_wei: Amount
    commission_bp: Annotated[int, Meta(ge=0, le=10_000)] = 0
    name: Name = ""


class GenesisNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meta node (active from genesis) or a resource node (`effective_wei` "0": bonded and suspended)."""

    owner: Address
    beneficiary: Address
    node_public_key: Ed25519Public
    deposit_wei: Amount
    effective_wei: Amount = "0"
    name: Name = ""
    host: Name = ""
    network_address: Name = ""


class GenesisPrepay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A prepay executed at genesis, in order, after everything else exists."""

    sender: Address
    beneficiary: Address
    amount_wei: Amount


class Genesis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Count = GENESIS_VERSION
    network: Name
    time_ms: TimeMs
    initial_height: Height = 1
    ledger: LedgerParams = LedgerParams()
    meta: MetaParams = MetaParams()
    value_consensus: ConsensusParams = ConsensusParams()
    meta_consensus: ConsensusParams = ConsensusParams()
    foundation_wei: Amount = str(40_000_000 * 10**18)
    total_mined_wei: Amount = "0"
    accounts: tuple[GenesisAccount, ...] = ()
    validators: tuple[GenesisValidator, ...] = ()
    meta_nodes: tuple[GenesisNode, ...] = ()
    resource_nodes: tuple[GenesisNode, ...] = ()
    prepays: tuple[GenesisPrepay, ...] = ()


def genesis_hash(genesis: Genesis) -> bytes:
    """The 32 bytes that name a network: BLAKE3 of the canonical bytes of its genesis."""
    return blake3(encode(genesis)).digest()


class GenesisError(ValueError):
    """A genesis file cannot be used; the sentence names the file and the field."""


def load_genesis(path: Path) -> Genesis:
    """The genesis in a JSON file; raises GenesisError."""
    try:
        genesis = msgspec.json.decode(path.read_bytes(), type=Genesis)
    except OSError as error:
        raise GenesisError(f"cannot read {path}: {error.strerror}; copy the network's genesis file there") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GenesisError(f"{path} is not a valid genesis file: {error}") from error
    if genesis.version != GENESIS_VERSION:
        raise GenesisError(
            f"{path} has genesis version {genesis.version}, this program knows {GENESIS_VERSION}; use the matching program"
        )
    return genesis
