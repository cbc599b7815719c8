"""The one table of inventory variables: name, type, allowed values, where it may stand, what it sets.

Ansible merges variables; this table says what they mean. A row of reach TESTNET describes the whole testnet, so it
must have one value on every host (it belongs under `all: vars:`). A row of reach NODE describes one node and may
stand on a host, on a group, or on `all` as a default; set on a group or host of another role it is an error.
Rows with a `target` fill one field of the genesis records, whose own default is used when the variable is absent,
so a default is written in one place only. Amounts are STOS in decimal and become integers of wei here; a YAML
float is refused for them because it has lost digits before we see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from stratos.ledger.rulebook import NEWEST_RULES
from stratos.wire import limits

PREFIX: Final = "stratos_"
WEI_PER_STOS: Final = 10**18
ROLES: Final = ("validators", "meta", "resource")
"""Groups whose hosts are nodes, in start order."""
OTHER_GROUPS: Final = ("load", "monitor")

Value = int | float | str | bool


class Kind(NamedTuple):
    """How a value is read and what is allowed, in words. `parse` returns None when the value is not allowed."""

    parse: Callable[[object], Value | None]
    allowed: str


def integer(minimum: int, maximum: int) -> Kind:
    def parse(value: object) -> int | None:
        number = _whole(value)
        return number if number is not None and minimum <= number <= maximum else None

    return Kind(parse, f"an integer from {minimum} to {maximum}")


def seconds(minimum: float, maximum: float) -> Kind:
    def parse(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = float(value)
        except ValueError:
            return None
        return number if minimum <= number <= maximum else None

    return Kind(parse, f"seconds from {minimum:g} to {maximum:g}")


def decimal(minimum: float, maximum: float) -> Kind:
    """A plain number; 0 stands for "no limit"."""

    def parse(value: object) -> float | None:
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", str(value)):
            return None
        number = float(str(value))
        return number if number == 0 or minimum <= number <= maximum else None

    return Kind(parse, f"a number from {minimum:g} to {maximum:g}, or 0")


def share() -> Kind:
    """A number above 0, at most 1."""

    def parse(value: object) -> float | None:
        number = None if isinstance(value, bool) else seconds(0, 1).parse(value)
        return float(number) if number else None

    return Kind(parse, "a number above 0, at most 1")


def stos(minimum: str, maximum: int = 10**8) -> Kind:
    """An amount in STOS; parsed to wei."""
    lowest = int(Decimal(minimum) * WEI_PER_STOS)

    def parse(value: object) -> int | None:
        if isinstance(value, bool | float) or not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,18})?", text := str(value)):
            return None
        whole, _, fraction = text.partition(".")
        wei = int(whole) * WEI_PER_STOS + int(fraction.ljust(18, "0"))
        return wei if lowest <= wei <= maximum * WEI_PER_STOS else None

    return Kind(parse, f'STOS from {minimum} to {maximum}, at most 18 decimals (fractions in quotes: "0.5")')


def fraction() -> Kind:
    """A number from 0 to 1 with at most 18 places, kept as text."""

    def parse(value: object) -> str | None:
        text = "" if isinstance(value, bool | float) else str(value)
        return text if re.fullmatch(r"0(\.[0-9]{1,18})?|1(\.0{1,18})?", text) else None

    return Kind(parse, 'a fraction from 0 to 1 in quotes, at most 18 decimals ("0.02")')


def wei(minimum: int = 0) -> Kind:
    """An integer of wei as canonical decimal text."""

    def parse(value: object) -> str | None:
        number = _whole(value)
        return str(number) if number is not None and minimum <= number < 10**30 else None

    return Kind(parse, f"an integer of wei, at least {minimum}")


def choice(*values: str) -> Kind:
    return Kind(lambda value: str(value) if value in values else None, "one of " + ", ".join(values))


def boolean() -> Kind:
    return Kind(lambda value: bool(value) if isinstance(value, bool) or value in (0, 1) else None, "true or false")


def label(what: str, pattern: str = r"[a-z0-9]([a-z0-9._-]{0,62})") -> Kind:
    def parse(value: object) -> str | None:
        text = str(value)
        return text if isinstance(value, str | int) and re.fullmatch(pattern, text) else None

    return Kind(parse, what)


def size(minimum: int, maximum: int) -> Kind:
    """Bytes: an integer, or text like `512 MiB`."""
    units = {"": 1, "B": 1, "KiB": limits.KIB, "MiB": limits.MIB, "GiB": limits.GIB, "TiB": 1024 * limits.GIB}

    def parse(value: object) -> int | None:
        match = re.fullmatch(r"([0-9]{1,19})\s*(|B|KiB|MiB|GiB|TiB)", str(value))
        if isinstance(value, bool | float) or match is None:
            return None
        number = int(match[1]) * units[match[2]]
        return number if minimum <= number <= maximum else None

    return Kind(parse, f"bytes from {minimum} to {maximum}, units KiB MiB GiB TiB allowed")


def _whole(value: object) -> int | None:
    """The integer a YAML or INI value stands for; None for booleans, floats and other text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if re.fullmatch(r"-?[0-9]{1,40}", str(value)) else None


TESTNET: Final = "all"
NODE: Final = "group or host"


class Variable(NamedTuple):
    """One row. `default` is the parsed default; None means the genesis record's own default (see `target`)."""

    name: str
    kind: Kind
    default: Value | None
    where: str
    doc: str
    roles: tuple[str, ...] = ROLES
    target: tuple[str, ...] = ()


_LONG = 100 * 365 * 86_400
_NAME = "a name of lower-case letters, digits, '.', '_' and '-', starting with a letter or digit, at most 63 long"


def _genesis(name: str, kind: Kind, target: str, doc: str) -> Variable:
    return Variable(PREFIX + name, kind, None, TESTNET, doc, ROLES, tuple(target.split(".")))


_ROWS: tuple[Variable, ...] = (
    Variable("stratos_testnet", label(_NAME), "", TESTNET, "name of the testnet; default: the inventory file's name"),
    Variable(
        "stratos_runtime",
        choice("process", "docker", "machines"),
        "",
        TESTNET,
        "where nodes run: processes here, containers of one engine, machines over SSH; "
        "default: process when every connection is local, else machines",
    ),
    Variable(
        "stratos_image",
        label("an image NAME:TAG", r"[a-z0-9][a-z0-9._/-]{0,127}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
        "",
        TESTNET,
        "container image of the nodes; default: stratos-node with this version's tag",
    ),
    Variable(
        "stratos_spawn",
        choice("fork", "exec"),
        "fork",
        TESTNET,
        "fork nodes from a preloaded parent, or exec one program each",
    ),
    Variable("stratos_slice_transport", choice("tls", "plain"), "tls", TESTNET, "how slice bytes travel"),
    Variable(
        "stratos_port_base",
        integer(0, 65_000),
        0,
        TESTNET,
        "processes: first port of the block; 0: a free block outside the ephemeral range",
    ),
    Variable(
        "stratos_network",
        label("a path", r"[^\0\n]{1,4096}"),
        "",
        TESTNET,
        "folder with genesis.json and endpoints.json of a network run by others, that our nodes take part in; "
        "relative to the inventory",
    ),
    Variable("stratos_public_host", label(_NAME), "", TESTNET, "host of the inventory that serves the public files"),
    Variable(
        "stratos_metrics_ports",
        boolean(),
        False,
        TESTNET,
        "containers and machines: /metrics of validators (26660) and meta nodes (8890) at ports of their own, for operators only; "
        "needs an image that knows them",
    ),
    Variable("stratos_public_port", integer(1_024, 65_535), 8_080, TESTNET, "port at which it serves the public files"),
    Variable("stratos_user_stos", stos("0"), 100_000 * WEI_PER_STOS, TESTNET, "what the wallet `user` owns at genesis"),
    Variable(
        "stratos_user_prepay_stos",
        stos("0"),
        100 * WEI_PER_STOS,
        TESTNET,
        "what the wallet `user` has prepaid at genesis",
    ),
    Variable(
        "stratos_faucet_stos",
        stos("0"),
        10_000_000 * WEI_PER_STOS,
        TESTNET,
        "what the wallet `faucet` owns; it funds nodes added later",
    ),
    Variable(
        "stratos_faucet_open_stos",
        stos("0"),
        10 * WEI_PER_STOS,
        TESTNET,
        "what the faucet gives a wallet without a join ticket in 24 hours; 0: tickets only",
    ),
    Variable(
        "stratos_faucet_day_stos",
        stos("0"),
        200_000 * WEI_PER_STOS,
        TESTNET,
        "what the faucet gives all wallets together in 24 hours",
    ),
    Variable("stratos_faucet_total_stos", stos("0"), 5_000_000 * WEI_PER_STOS, TESTNET, "what the faucet ever gives"),
    Variable(
        "stratos_faucet_address_requests",
        integer(1, 1_000_000),
        20,
        TESTNET,
        "payments of the faucet to one network of source addresses (/24, or /64 of IPv6) in 24 hours",
    ),
    Variable(
        "stratos_owner_stos",
        stos("0"),
        1_000 * WEI_PER_STOS,
        TESTNET,
        "what each node's owner wallet owns beside its stake or deposit",
    ),
    Variable(
        "stratos_ready_seconds",
        seconds(1, 3_600),
        60.0,
        TESTNET,
        "how long `up` waits for readiness before it reports what is missing",
    ),
    Variable(
        "stratos_hardware_factor",
        share(),
        1.0,
        TESTNET,
        "share of the recommended hardware (protocol 9) that preflight asks for; small testnets need less",
    ),
    Variable(
        "stratos_preflight",
        choice("enforce", "warn", "off"),
        "",
        TESTNET,
        "what a failed measurement does to a machine: enforce leaves it out; default: enforce on machines, off elsewhere",
    ),
    Variable(
        "stratos_drain_seconds",
        seconds(1, 2_592_000),
        900.0,
        TESTNET,
        "how long `up` waits for a removed node to hand over its slices or votes before it reports that it still runs",
    ),
    # pace of the layers
    _genesis(
        "block_seconds",
        seconds(0.01, 3_600),
        "value_consensus.block_seconds",
        "an empty value-layer block is made this long after the last",
    ),
    _genesis(
        "min_block_seconds",
        seconds(0, 3_600),
        "value_consensus.min_block_seconds",
        "with transactions waiting: this long after the last",
    ),
    _genesis(
        "meta_block_seconds",
        seconds(0.01, 3_600),
        "meta_consensus.block_seconds",
        "the same for empty meta-layer blocks",
    ),
    _genesis(
        "meta_min_block_seconds",
        seconds(0, 3_600),
        "meta_consensus.min_block_seconds",
        "the same with entries waiting in the meta layer",
    ),
    _genesis(
        "propose_timeout_seconds",
        seconds(0.01, 600),
        "value_consensus.propose_timeout_seconds",
        "value layer: wait for a proposal in round 0",
    ),
    _genesis(
        "vote_timeout_seconds",
        seconds(0.01, 600),
        "value_consensus.vote_timeout_seconds",
        "value layer: wait for late votes in round 0",
    ),
    _genesis(
        "meta_propose_timeout_seconds",
        seconds(0.01, 600),
        "meta_consensus.propose_timeout_seconds",
        "meta layer: wait for a proposal in round 0",
    ),
    _genesis(
        "meta_vote_timeout_seconds",
        seconds(0.01, 600),
        "meta_consensus.vote_timeout_seconds",
        "meta layer: wait for late votes in round 0",
    ),
    # time (protocol 3)
    _genesis(
        "day_seconds",
        integer(1, 86_400),
        "ledger.day_seconds",
        "how long a protocol day lasts; smaller compresses locks and polls",
    ),
    _genesis("epoch_seconds", seconds(0.5, _LONG), "meta.epoch_seconds", "how long a Proof-of-Traffic epoch lasts"),
    _genesis(
        "status_seconds", seconds(0.1, 86_400), "meta.status_seconds", "how often a resource node reports its status"
    ),
    _genesis(
        "offline_intervals",
        integer(1, 1_000),
        "meta.offline_intervals",
        "missed status reports before a holder is unavailable",
    ),
    _genesis(
        "repair_grace_intervals",
        integer(0, 1_000),
        "meta.repair_grace_intervals",
        "further intervals before its copies are made again",
    ),
    _genesis(
        "request_window_seconds",
        integer(10, 86_400),
        "meta.request_window_seconds",
        "how long a signed request stays valid",
    ),
    _genesis(
        "dispute_seconds",
        seconds(0.5, _LONG),
        "meta.dispute_seconds",
        "how long a one-sided transfer step stays reserved",
    ),
    _genesis(
        "suspend_offline_seconds", seconds(1, _LONG), "meta.suspend_offline_seconds", "offline this long: suspended"
    ),
    _genesis("remove_offline_seconds", seconds(1, _LONG), "meta.remove_offline_seconds", "offline this long: removed"),
    # storage (protocol 7)
    _genesis("copies", integer(1, limits.MAX_COPIES), "meta.copies", "copies of every slice, never two on one host"),
    _genesis("slice_bytes", size(1, limits.SLICE_BYTES), "meta.slice_bytes", "size of a slice"),
    _genesis(
        "repair_reserve_bp",
        integer(0, 10_000),
        "meta.repair_reserve_bp",
        "share of an upload's price kept for repair, in 1/10000",
    ),
    _genesis("score_start", integer(1, 1_000_000), "meta.score_start", "score of a new resource node"),
    _genesis("score_floor", integer(0, 1_000_000), "meta.score_floor", "below this score a resource node is suspended"),
    # money (protocol 4, 5, 6)
    _genesis("gas_price_wei", wei(), "ledger.gas_price_wei", "flat fee of a transaction, in wei"),
    _genesis("mature_epoch", integer(0, 10**9), "ledger.pot.mature_epoch", "epochs until a reward can be withdrawn"),
    _genesis(
        "mature_per_block", integer(1, 100_000), "ledger.pot.mature_per_block", "wallets whose rewards mature per block"
    ),
    _genesis("community_tax", fraction(), "ledger.pot.community_tax", "tax on traffic rewards"),
    _genesis(
        "split_schedule",
        choice("network", "seed"),
        "ledger.pot.split_schedule",
        "mining split: by stage, or 60/20/20 for ever",
    ),
    _genesis("report_quorum", choice("strict", "network"), "ledger.pot.report_quorum", "who must sign a volume report"),
    _genesis(
        "initial_total_supply_wei",
        wei(10**18),
        "ledger.pot.initial_total_supply",
        "total supply kept by the restore rule, in wei",
    ),
    _genesis(
        "supply_restore_interval",
        integer(1, 10**9),
        "ledger.pot.supply_restore_interval",
        "blocks between supply restorations",
    ),
    _genesis(
        "forfeit_on_early_exit",
        boolean(),
        "ledger.pot.forfeit_on_early_exit",
        "a node that leaves early forfeits immature rewards",
    ),
    _genesis(
        "exit_migration_fee", boolean(), "ledger.pot.exit_migration_fee", "a leaving node pays for copying its slices"
    ),
    _genesis("settlement", choice("top80", "all"), "ledger.sds.settlement", "which providers a volume report lists"),
    _genesis("min_deposit_wei", wei(1), "ledger.register.min_deposit_wei", "smallest deposit of a node, in wei"),
    _genesis("deposit_noz_rate", wei(1), "ledger.register.deposit_noz_rate", "wei of deposit per noz of capacity"),
    _genesis("unbonding_days", integer(0, 36_500), "ledger.register.unbonding_days", "cooling-off of a leaving node"),
    _genesis(
        "unbonding_threshold_days", integer(0, 36_500), "ledger.register.unbonding_threshold_days", "lock of a new node"
    ),
    _genesis("voting_days", integer(1, 36_500), "ledger.register.voting_days", "how long an admission poll is open"),
    _genesis(
        "validator_unbonding_days", integer(0, 36_500), "ledger.staking.unbonding_days", "unbonding of delegated stake"
    ),
    _genesis(
        "max_validators",
        integer(1, limits.MAX_VALIDATORS),
        "ledger.staking.max_validators",
        "validators that vote, by stake",
    ),
    _genesis(
        "signed_blocks_window",
        integer(1, 10**9),
        "ledger.staking.signed_blocks_window",
        "blocks over which downtime is judged",
    ),
    _genesis(
        "downtime_jail_seconds",
        integer(0, 10**9),
        "ledger.staking.downtime_jail_seconds",
        "how long a validator that was down is jailed",
    ),
    # rules of the ledger
    _genesis(
        "rules_version",
        integer(1, NEWEST_RULES),
        "ledger.rules_version",
        "rules of the ledger that a new testnet begins with; a running one changes them by vote",
    ),
    _genesis(
        "upgrade_notice_blocks",
        integer(1, 10**9),
        "ledger.upgrade_notice_blocks",
        "how far ahead the height of new rules must be when it is proposed",
    ),
    # one node
    Variable(
        "stratos_faucet",
        boolean(),
        None,
        NODE,
        "whether this meta node serves the faucet and is given its key; default: the first one of the group does",
        ("meta",),
    ),
    Variable(
        "stratos_host",
        label(_NAME),
        "",
        NODE,
        "machine label: two copies of a slice never share one; default: the node's own name",
    ),
    Variable(
        "stratos_address",
        label("a host name or an address", r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252})"),
        "",
        NODE,
        "address at which others reach the node; default: ansible_host",
    ),
    Variable(
        "stratos_port_slot",
        integer(0, 99),
        -1,
        NODE,
        "containers and machines: ports are the public ones plus ten times this; default: the first free slot",
    ),
    Variable("stratos_cpus", decimal(0.05, 1_024), 0.0, NODE, "processors a node may use; 0: no limit"),
    Variable(
        "stratos_memory",
        size(64 * limits.MIB, 1024 * 1024 * limits.GIB),
        0,
        NODE,
        "memory a node may use; default: no limit",
    ),
    Variable(
        "stratos_bandwidth_mbit",
        integer(0, 1_000_000),
        0,
        NODE,
        "containers: Mbit/s a node may send and may receive; 0: no limit",
    ),
    Variable("stratos_region", label(_NAME), "", NODE, "region label: copies prefer different ones"),
    Variable("stratos_log_level", choice("debug", "info", "warning", "error"), "info", NODE, "how much the node logs"),
    Variable(
        "stratos_stake_stos",
        stos("1"),
        1_000_000 * WEI_PER_STOS,
        NODE,
        "stake of a validator at genesis",
        ("validators",),
    ),
    Variable(
        "stratos_commission_bp", integer(0, 10_000), 0, NODE, "commission of a validator, in 1/10000", ("validators",)
    ),
    Variable(
        "stratos_tier",
        integer(1, 3),
        1,
        NODE,
        "tier of a resource node; its deposit is 800, 1600 or 3200 STOS",
        ("resource",),
    ),
    Variable(
        "stratos_deposit_stos",
        stos("1"),
        0,
        NODE,
        "deposit; default: 100 STOS for a meta node, the tier's for a resource node",
        ("meta", "resource"),
    ),
    Variable(
        "stratos_disk",
        size(limits.MIB, 1024 * 1024 * limits.GIB),
        16 * limits.GIB,
        NODE,
        "space a resource node offers",
        ("resource",),
    ),
)
VARIABLES: Final[dict[str, Variable]] = {row.name: row for row in _ROWS}
