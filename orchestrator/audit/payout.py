"""What one epoch report must pay (protocol 5), in exact rationals.

`epoch_payout` is a pure function of the market before the report, the total mined so far, the rows and the meta nodes
that share. It returns every amount the chain must have moved: to each row, to each meta node, to the validators
together, and the tax. The schedule of mining rewards is written down here a second time on purpose.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

from msgspec import Struct, structs

from orchestrator.audit.market import Market
from orchestrator.audit.rational import product, quotient, trunc

STOS = 10**18
BASIS = 10_000
MINED_CAP_WEI = 40_000_000 * STOS


class Stage(Struct, frozen=True):
    """One line of the mining table: from which total mined on, reward per epoch, basis points per layer."""

    from_wei: int
    reward_wei: int
    resource_bp: int
    meta_bp: int
    chain_bp: int


STAGES = (
    Stage(0, 80 * STOS, 6000, 2000, 2000),
    Stage(16_819_200 * STOS, 40 * STOS, 6200, 1800, 2000),
    Stage(25_228_800 * STOS, 20 * STOS, 6400, 1600, 2000),
    Stage(29_433_600 * STOS, 10 * STOS, 6600, 1400, 2000),
    Stage(31_536_000 * STOS, 5 * STOS, 6800, 1200, 2000),
    Stage(32_587_200 * STOS, 5 * STOS // 2, 7000, 1000, 2000),
)
SEED_SPLIT = (6000, 2000, 2000)


class Row(Struct, frozen=True):
    """One row of a report: resource node, the wallet it pays, volume."""

    node: bytes
    wallet: bytes
    volume_noz: int


class Share(Struct, frozen=True):
    """What one node earned in one epoch."""

    node: bytes
    wallet: bytes
    role: str
    volume_noz: int
    mining_wei: int = 0
    traffic_wei: int = 0


class Purse:
    """What may still leave a pool: where rounded shares add up to more than it has, the last payments are shorter."""

    def __init__(self, available_wei: int) -> None:
        self.left_wei = available_wei

    def take(self, amount_wei: int) -> int:
        """As much of the amount as there is."""
        taken = min(amount_wei, self.left_wei)
        self.left_wei -= taken
        return taken


class EpochPayout(Struct, frozen=True):
    """Everything one report moves."""

    epoch: int
    volume_noz: int
    traffic_reward: Fraction
    mining_reward_wei: int
    chain_mining_wei: int
    chain_traffic_wei: int
    shares: tuple[Share, ...]
    tax_wei: int

    @property
    def mined_wei(self) -> int:
        """What left the foundation account."""
        return self.chain_mining_wei + sum(share.mining_wei for share in self.shares)

    @property
    def paid_from_pool_wei(self) -> int:
        """What left the unissued-prepay pool."""
        return self.chain_traffic_wei + self.tax_wei + sum(share.traffic_wei for share in self.shares)


def stage_at(mined_wei: int, split_schedule: str) -> Stage:
    """The line of the mining table at a total mined; past the cap it pays nothing and keeps the last split."""
    stage = next(stage for stage in reversed(STAGES) if mined_wei >= stage.from_wei)
    resource, meta, chain = (
        SEED_SPLIT if split_schedule == "seed" else (stage.resource_bp, stage.meta_bp, stage.chain_bp)
    )
    reward = 0 if mined_wei >= MINED_CAP_WEI else stage.reward_wei
    return Stage(stage.from_wei, reward, resource, meta, chain)


def part_of(reward: Fraction | int, basis_points: int) -> int:
    """part = trunc(reward * basis points / 10000)."""
    return trunc(quotient(product(reward, basis_points), BASIS))


def epoch_payout(
    market: Market,
    *,
    epoch: int,
    rows: Sequence[Row],
    meta_nodes: Sequence[tuple[bytes, bytes]],
    withheld: frozenset[bytes],
    mined_wei: int,
    foundation_wei: int,
    split_schedule: str,
    community_tax: Fraction,
) -> EpochPayout:
    """The payout of a report over `market` as it stands before it. `meta_nodes` are (node, wallet) of all active
    ones; those in `withheld` lose their share, which stays where it was. Paid in order: validators, rows, meta
    nodes by address, tax."""
    volume = sum(row.volume_noz for row in rows)
    if volume <= 0:
        raise ValueError(f"report of epoch {epoch} has no volume; the chain must refuse it")
    reward = market.traffic_reward(volume)
    stage = stage_at(mined_wei, split_schedule)
    mined = min(stage.reward_wei, foundation_wei)
    pool, foundation = Purse(market.pool_wei), Purse(foundation_wei)
    chain_traffic = pool.take(part_of(reward, stage.chain_bp))
    chain_mining = foundation.take(part_of(mined, stage.chain_bp))
    shares, tax = [], Fraction(0)
    for share, gross, mining in (
        *_row_shares(
            rows, volume, traffic=part_of(reward, stage.resource_bp), mining=part_of(mined, stage.resource_bp)
        ),
        *_meta_shares(
            meta_nodes, withheld, traffic=part_of(reward, stage.meta_bp), mining=part_of(mined, stage.meta_bp)
        ),
    ):
        taxed = product(gross, community_tax)
        tax += taxed
        shares.append(
            structs.replace(
                share, mining_wei=foundation.take(trunc(mining)), traffic_wei=pool.take(trunc(gross - taxed))
            )
        )
    return EpochPayout(
        epoch=epoch,
        volume_noz=volume,
        traffic_reward=reward,
        mining_reward_wei=mined,
        chain_mining_wei=chain_mining,
        chain_traffic_wei=chain_traffic,
        shares=tuple(shares),
        tax_wei=pool.take(trunc(tax)),
    )


def _row_shares(
    rows: Sequence[Row], volume: int, *, traffic: int, mining: int
) -> Iterator[tuple[Share, Fraction, Fraction]]:
    """(who, gross traffic, mining) of each row: by volume."""
    for row in rows:
        share = quotient(row.volume_noz, volume)
        who = Share(row.node, row.wallet, "resource", row.volume_noz)
        yield who, product(traffic, share), product(mining, share)


def _meta_shares(
    nodes: Sequence[tuple[bytes, bytes]], withheld: frozenset[bytes], *, traffic: int, mining: int
) -> Iterator[tuple[Share, Fraction, Fraction]]:
    """(who, gross traffic, mining) of each meta node that shares: equal among all active ones."""
    for node, wallet in sorted(nodes):
        if node not in withheld:
            yield Share(node, wallet, "meta", 0), quotient(traffic, len(nodes)), quotient(mining, len(nodes))
