"""The ozone market (protocol 4)."""

from typing import Any

import pytest

STOS = 10**18
REPORT = {"do": "volume_report", "epoch": 1, "volumes": {"r1": "500000000"}}


def test_prepay_moves_money_and_ozone(run: Any, prepay: Any, ask: Any) -> None:
    """P grows by X, L falls by what was bought, and the price rises."""
    first, paid, second, state = run(ask("sds/noz_price"), prepay, ask("sds/noz_price"), ask("state"))
    assert first["result"] == "1000000.000000000000000000"
    assert second["result"] == "1050624.999999998358398438"
    assert int(state["result"]["L"]) == 400 * 10**12 - int(paid["bought"])
    assert state["result"]["P"] == str(10 * STOS)


def test_simulation_and_prepay_agree(run: Any, prepay: Any, ask: Any) -> None:
    """sim_prepay says what a prepay then buys."""
    simulated, paid = run(ask(f"sds/sim_prepay/{10 * STOS}"), prepay)
    assert simulated["result"] == paid["bought"]


def test_prepay_needs_the_money(run: Any, ask: Any) -> None:
    """A short balance is refused with `funds` and moves nothing."""
    refused, state = run({"do": "prepay", "from": "carol", "amount": "1"}, ask("state"))
    assert (refused["ok"], refused["code"]) == (False, "funds")
    assert (state["result"]["P"], state["result"]["L"]) == ("0", str(400 * 10**12))


def test_a_prepay_of_nothing_is_invalid(run: Any) -> None:
    """Zero is not an amount to prepay."""
    assert run({"do": "prepay", "from": "alice", "amount": "0"})[0]["code"] == "invalid"


@pytest.mark.parametrize("what", ["sds/noz_price", "sds/sim_prepay/1"])
def test_without_ozone_there_is_no_price(run: Any, ask: Any, what: str) -> None:
    """L = 0: price, simulation and prepay are refused by name."""
    query, paid = run(
        ask(what), {"do": "prepay", "from": "alice", "amount": "5"}, meta_nodes=[{"name": "m1", "deposit": "0"}]
    )
    assert (query["ok"], query["code"]) == (False, "ozone_limit")
    assert paid["code"] == "ozone_limit"


def test_only_sold_ozone_can_be_reported(run: Any, prepay: Any) -> None:
    """Y + L may reach trunc(S / r), not pass it."""
    paid, over, exact = run(
        prepay,
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "9756097560976"}},
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "9756097560975"}},
    )
    assert paid["bought"] == "9756097560975"
    assert over["code"] == "ozone_limit"
    assert exact["ok"]
    assert exact["L"] == str(400 * 10**12)


def test_what_the_limit_cannot_bear_is_owed_and_repaid_first(run: Any, ask: Any) -> None:
    """A suspension larger than L leaves L = 1; reports wait, and the return pays the deficit before L grows."""
    results = run(
        {"do": "prepay", "from": "alice", "amount": str(1000 * STOS)},
        ask("register/remaining_ozone_limit"),
        {"do": "suspend", "node": "r1"},
        ask("state"),
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "1"}},
        {"do": "unsuspend", "node": "r1"},
        ask("state"),
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "1"}},
        metas=1,
        resource_nodes=[{"name": "r1", "deposit": str(900 * STOS), "effective": str(900 * STOS)}],
    )
    limit = str(500 * 10**12)
    assert results[1]["result"] == limit
    assert (results[3]["result"]["L"], results[3]["result"]["S"]) == ("1", str(100 * STOS))
    assert results[4]["code"] == "ozone_limit"
    assert (results[6]["result"]["L"], results[6]["result"]["S"]) == (limit, str(1000 * STOS))
    assert results[7]["ok"]


def test_a_report_repays_the_deficit_before_the_limit_grows(run: Any, ask: Any) -> None:
    """While ozone is owed, reported ozone pays the debt: L stays."""
    results = run(
        {"do": "prepay", "from": "alice", "amount": str(1000 * STOS)},
        {"do": "suspend", "node": "r1"},
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "77"}},
        {"do": "unsuspend", "node": "r1"},
        ask("register/remaining_ozone_limit"),
        resource_nodes=[{"name": "r1", "deposit": str(600 * STOS), "effective": str(600 * STOS)}],
    )
    assert results[2]["L"] == "1"
    assert results[4]["result"] == str(500 * 10**12 + 77)


def test_when_deposits_return_from_nothing_the_limit_is_made_anew(run: Any, ask: Any) -> None:
    """S was 0: L = trunc(S / r) less the ozone that is sold and unspent."""
    results = run(
        {"do": "prepay", "from": "alice", "amount": str(STOS)},
        {"do": "suspend", "node": "r1"},
        ask("state"),
        {"do": "unsuspend", "node": "r1"},
        ask("state"),
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "7"}},
        meta_nodes=[{"name": "m1", "deposit": "0"}],
        resource_nodes=[{"name": "r1", "deposit": str(STOS), "effective": str(STOS)}],
    )
    assert (results[2]["result"]["S"], results[2]["result"]["L"]) == ("0", "1")
    assert results[4]["result"]["L"] == str(10**12 - int(results[0]["bought"]))
    assert results[5]["ok"]


def test_a_report_never_pays_more_than_the_pool_holds(run: Any) -> None:
    """R = min(rule, P): where the rule asks for more, all of P is the reward and dust remains."""
    *_, report = run(
        {"do": "prepay", "from": "alice", "amount": str(1000 * STOS)},
        {"do": "suspend", "node": "r1"},
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "1000000000"}},
        resource_nodes=[{"name": "r1", "deposit": str(600 * STOS), "effective": str(600 * STOS)}],
    )
    assert report["traffic_reward"] == f"{1000 * STOS}.{0:018d}"
    assert 0 <= int(report["P"]) < 10


def test_rounded_shares_cannot_overdraw_the_pool(run: Any) -> None:
    """Six shares of 0.166666666666666667 exceed 1; without tax the last payment is that much shorter."""
    rows = [[f"w{n}", "100000000"] for n in range(6)]
    *_, report = run(
        {"do": "prepay", "from": "alice", "amount": str(1000 * STOS)},
        {"do": "suspend", "node": "r1"},
        {"do": "volume_report", "epoch": 1, "volumes": rows},
        pot={"community_tax": "0"},
        resource_nodes=[{"name": "r1", "deposit": str(600 * STOS), "effective": str(600 * STOS)}],
    )
    assert report["paid"]["w0"]["traffic"] == "100000000000000000200"
    assert report["P"] == "0"
    assert sum(int(paid["traffic"]) for paid in report["paid"].values()) == 800 * STOS


def test_rewards_of_two_rows_accumulate_for_one_wallet(run: Any, prepay: Any, ask: Any) -> None:
    """A wallet listed twice is paid for each row, truncated each."""
    _, report, wallet = run(
        prepay,
        {"do": "volume_report", "epoch": 1, "volumes": [["r1", "300000000"], ["r1", "200000000"]]},
        ask("pot/rewards/wallet/r1"),
    )
    traffic = int(report["paid"]["r1"]["traffic"])
    assert traffic == 185330012545920 + 123553341697280
    assert wallet["result"]["immature"] == str(traffic + int(report["paid"]["r1"]["mining"]))
