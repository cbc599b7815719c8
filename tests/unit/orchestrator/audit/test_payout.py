"""The oracle's own arithmetic against published figures, before anything is compared with it."""

from fractions import Fraction

import pytest

from orchestrator.audit.market import Market
from orchestrator.audit.payout import MINED_CAP_WEI, STOS, Row, epoch_payout, stage_at
from orchestrator.audit.rational import decimal18, quotient, round18

META = [(bytes([n]) * 20, bytes([n]) * 20) for n in range(4)]


def golden_market() -> Market:
    market = Market.at_genesis(stake_wei=400 * STOS, rate_wei=10**6)
    assert market.buy(10 * STOS) == 9_756_097_560_975
    return market


def golden_payout(**changes: object):
    options: dict = {
        "epoch": 1,
        "rows": [Row(b"r" * 20, b"w" * 20, 500_000_000)],
        "meta_nodes": META,
        "withheld": frozenset(),
        "mined_wei": 0,
        "foundation_wei": MINED_CAP_WEI,
        "split_schedule": "network",
        "community_tax": Fraction("0.02"),
    }
    return epoch_payout(golden_market(), **(options | changes))


def test_the_published_epoch_is_reproduced_to_the_wei() -> None:
    """The worked epoch of protocol 5 gives its published reward, parts, payments, tax, P and L."""
    market, payout = golden_market(), golden_payout()
    assert market.limit_noz == 390_243_902_439_025
    assert decimal18(payout.traffic_reward).startswith("525311826944220.906917")
    assert payout.chain_traffic_wei == 105_062_365_388_844
    assert [share.traffic_wei for share in payout.shares] == [308_883_354_243_201] + [25_740_279_520_266] * 4
    assert [share.mining_wei for share in payout.shares] == [48 * STOS] + [4 * STOS] * 4
    assert payout.chain_mining_wei == 16 * STOS and payout.mined_wei == 80 * STOS
    assert payout.tax_wei == 8_404_989_231_107
    market.settle(volume_noz=payout.volume_noz, paid_wei=payout.paid_from_pool_wei)
    assert (market.pool_wei, market.limit_noz) == (9_999_474_688_173_055_784, 390_244_402_439_025)


@pytest.mark.parametrize(
    ("mined", "reward", "split"),
    [
        ("0", "80", (6000, 2000, 2000)),
        ("16819200", "40", (6200, 1800, 2000)),
        ("25228800", "20", (6400, 1600, 2000)),
        ("29433600", "10", (6600, 1400, 2000)),
        ("31536000", "5", (6800, 1200, 2000)),
        ("32587200", "2.5", (7000, 1000, 2000)),
    ],
)
def test_mining_stages_start_exactly_at_their_total(mined: str, reward: str, split: tuple[int, int, int]) -> None:
    """A stage applies from its total mined on, to the wei, with its own split."""
    start = int(mined) * STOS
    stage = stage_at(start, "network")
    assert (stage.reward_wei, (stage.resource_bp, stage.meta_bp, stage.chain_bp)) == (
        int(Fraction(reward) * STOS),
        split,
    )
    if start:
        assert stage_at(start - 1, "network").reward_wei > stage.reward_wei
    assert stage_at(start, "seed").resource_bp == 6000


def test_nothing_is_mined_past_the_cap_and_the_last_split_stays() -> None:
    """At 40,000,000 STOS mined the reward is 0 and traffic is still split 70/10/20."""
    stage = stage_at(MINED_CAP_WEI, "network")
    assert (stage.reward_wei, stage.resource_bp) == (0, 7000)


def test_a_withheld_meta_node_loses_its_share_and_nobody_gains_it() -> None:
    """The other meta nodes earn what they would have earned anyway (protocol 7, beacon)."""
    full, one_silent = golden_payout(), golden_payout(withheld=frozenset({META[0][0]}))
    assert [share for share in full.shares if share.node != META[0][0]] == list(one_silent.shares)


def test_rounding_is_half_to_even_at_the_18th_place() -> None:
    """Ties go to the even neighbour in both directions."""
    unit = Fraction(1, 10**18)
    assert round18(unit / 2) == 0
    assert round18(3 * unit / 2) == 2 * unit
    assert round18(5 * unit / 2) == 2 * unit
    assert decimal18(quotient(2, 3)) == "0.666666666666666667"


def test_a_leaving_deposit_never_takes_more_than_the_limit_has() -> None:
    """L keeps 1 noz, the rest is a deficit, and the next increase repays it first (protocol 4.6)."""
    market = Market.at_genesis(stake_wei=100 * STOS, rate_wei=10**6)
    market.buy(10**6 * STOS)
    left = market.limit_noz
    market.remove_stake(50 * STOS)
    assert (market.limit_noz, market.deficit_noz) == (1, 50 * 10**12 - left + 1)
    market.add_stake(50 * STOS)
    assert (market.limit_noz, market.deficit_noz) == (left, 0)


def test_a_report_never_pays_more_than_the_pool() -> None:
    """R = min(rule 4.4, P) (protocol 4.6)."""
    market = Market.at_genesis(stake_wei=100 * STOS, rate_wei=10**6)
    market.pool_wei = 5
    assert market.traffic_reward(10**9) == 5


def test_the_foundation_never_pays_more_than_it_has() -> None:
    """With 10 STOS left, 10 STOS are the epoch's mining reward, split as usual."""
    payout = golden_payout(foundation_wei=10 * STOS)
    assert (payout.mining_reward_wei, payout.mined_wei) == (10 * STOS, 10 * STOS)
    assert [share.mining_wei for share in payout.shares] == [6 * STOS] + [STOS // 2] * 4
