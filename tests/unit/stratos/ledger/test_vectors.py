"""The published figures, to the wei. `public.json` is carried over from the protocol's vectors."""

import json
from pathlib import Path
from typing import Any

import pytest

from stratos.bft.quorum import quorum
from stratos.ledger.rules import MINING_STAGES, STOS
from stratos.ledger.settlement import select_settlement

PUBLIC = json.loads((Path(__file__).parent / "public.json").read_text())


def test_the_first_epoch_of_the_public_devnet(run: Any, prepay: Any, ask: Any) -> None:
    """Prepay, report, split, payouts, tax, P and L are those of the golden epoch."""
    golden = PUBLIC["golden_epoch_1"]
    bought, before, report, price = run(
        prepay,
        ask("state"),
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": golden["report"]["Y"]}},
        ask("sds/noz_price"),
    )
    assert bought["bought"] == golden["prepay"]["bought"]
    assert before["result"]["L"] == golden["prepay"]["L"]
    assert report["split"] == {part: golden["report"][part] for part in ("chain", "resource", "meta")}
    assert report["traffic_reward"] == "525311826944220.906917233411949524"
    assert report["paid"]["r1"] == {"mining": str(48 * STOS), "traffic": golden["report"]["resource_paid"]}
    for name in ("m1", "m2", "m3", "m4"):
        assert report["paid"][name] == {"mining": str(4 * STOS), "traffic": golden["report"]["each_meta_paid"]}
    assert report["mining"]["chain"] == str(16 * STOS)
    assert (report["tax"], report["P"], report["L"]) == (
        golden["report"]["tax"],
        golden["report"]["P"],
        golden["report"]["L"],
    )
    assert price["result"] == "1050622.307778609972505117"


def test_the_price_after_four_epochs(run: Any, prepay: Any, ask: Any) -> None:
    """Four reports of 0.5, 1, 1.5 and 2 million kB lead to the sample price of the replay contract."""
    reports = [
        {"do": "volume_report", "epoch": epoch, "volumes": {"r1": str(epoch * 500_000_000)}} for epoch in (1, 2, 3, 4)
    ]
    assert run(prepay, *reports, ask("sds/noz_price"))[-1]["result"] == "1050598.078251776812024224"


@pytest.mark.parametrize("row", PUBLIC["stages"])
def test_each_stage_pays_and_splits_as_the_table_says(run: Any, prepay: Any, row: list[Any]) -> None:
    """At the first wei of a stage its reward and its split hold, for mining and traffic alike."""
    start, reward, resource, meta, chain = row
    _, report = run(
        prepay,
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "500000000"}},
        total_mined=str(int(start) * STOS),
    )
    reward_wei = int(float(reward) * 10) * STOS // 10
    assert report["mining"] == {
        "resource": str(reward_wei * resource // 10_000),
        "meta": str(reward_wei * meta // 10_000),
        "chain": str(reward_wei * chain // 10_000),
    }
    traffic = 525311826944220906917233411949524
    assert report["split"]["resource"] == str(traffic * resource // 10_000 // 10**18)


def test_the_last_wei_of_a_stage_still_belongs_to_it(run: Any, prepay: Any) -> None:
    """Stages are half open: M one wei below a border pays the stage below it."""
    for stage in MINING_STAGES:
        _, report = run(
            prepay,
            {"do": "volume_report", "epoch": 1, "volumes": {"r1": "500000000"}},
            total_mined=str(stage.end_wei - 1),
        )
        assert int(report["mining"]["chain"]) == stage.reward_wei // 5


@pytest.mark.parametrize(("asked", "returned"), PUBLIC["unbond_day"])
def test_deposits_return_on_the_published_day(run: Any, ask: Any, asked: int, returned: int) -> None:
    """Asked on day 150 -> back on day 194; asked on day 190 -> day 204."""
    results = run(
        {"day": asked, "do": "unbond", "node": "r1"},
        ask("bank/balances/r1", day=returned - 0.00001),
        ask("bank/balances/r1", day=returned),
        ask("register/resource_node/r1"),
    )
    assert results[0]["mature_day"] == str(returned)
    assert [results[1]["result"], results[2]["result"]] == ["0", str(STOS)]
    assert (results[3]["result"]["status"], results[3]["result"]["deposit"]) == ("unbonded", "0")


def test_approvals_needed() -> None:
    """floor(2n/3) + 1, everywhere."""
    assert {n: quorum(int(n)) for n in PUBLIC["approvals_needed"]} == PUBLIC["approvals_needed"]


@pytest.mark.parametrize("case", PUBLIC["settlement_top80"])
def test_settlement_takes_the_largest_until_eighty_percent_are_passed(case: dict[str, list[int]]) -> None:
    """The test comes before adding, so the provider that crosses the line is in."""
    volumes = [(bytes([index]), noz) for index, noz in enumerate(case["volumes"])]
    assert [noz for _, noz in select_settlement(volumes, "top80")] == case["settled"]


def test_settlement_breaks_ties_by_address_and_ignores_the_idle() -> None:
    """Equal volumes go by address; nobody without volume is listed; `all` lists the rest."""
    volumes = [(b"c", 10), (b"a", 10), (b"b", 10), (b"d", 0)]
    assert select_settlement(volumes, "top80") == [(b"a", 10), (b"b", 10), (b"c", 10)]
    assert select_settlement(reversed(volumes), "all") == [(b"a", 10), (b"b", 10), (b"c", 10)]
    assert select_settlement([], "top80") == []
    with pytest.raises(ValueError, match="settlement"):
        select_settlement(volumes, "most")
