"""Maturity, debts and withdrawal of rewards (protocol 5, 6)."""

from typing import Any

STOS = 10**18


def _report(epoch: int, *names: str) -> dict[str, Any]:
    return {"do": "volume_report", "epoch": epoch, "volumes": dict.fromkeys(names or ("r1",), "100000000")}


def test_a_reward_matures_with_the_report_that_is_mature_epoch_later(run: Any, prepay: Any, ask: Any) -> None:
    """Epoch e is immature until a report >= e + mature_epoch was accepted, gaps included."""
    results = run(
        prepay,
        _report(1),
        _report(2),
        ask("pot/rewards/wallet/r1"),
        _report(5),
        ask("pot/rewards/wallet/r1"),
        pot={"mature_epoch": 3},
    )
    early, late = results[3]["result"], results[5]["result"]
    assert early["mature"] == "0"
    earned = [sum(map(int, results[index]["paid"]["r1"].values())) for index in (1, 2, 4)]
    assert late == {"mature": str(earned[0] + earned[1]), "immature": str(earned[2])}


def test_epochs_only_grow(run: Any, prepay: Any) -> None:
    """A report of the last epoch or an earlier one is refused; gaps are allowed."""
    _, first, same, gap, back = run(prepay, _report(3), _report(3), _report(9), _report(8))
    assert [first["ok"], gap["ok"]] == [True, True]
    assert [same["code"], back["code"]] == ["epoch", "epoch"]


def test_an_empty_report_is_refused(run: Any, prepay: Any) -> None:
    """Y = 0 has a code of its own."""
    refused = run(prepay, {"do": "volume_report", "epoch": 1, "volumes": {"r1": "0"}})[1]
    assert refused["code"] == "zero_volume"


def test_maturing_is_spread_over_blocks(run: Any, prepay: Any, ask: Any) -> None:
    """At most mature_per_block records at the end of a block, going on in the next."""
    results = run(
        prepay,
        _report(1),
        _report(2),
        ask("pot/rewards/wallet/r1"),
        *({"do": "end_block"} for _ in range(5)),
        ask("pot/rewards/wallet/r1"),
        metas=1,
        pot={"mature_epoch": 1, "mature_per_block": 1},
    )
    matured = [
        len([event for event in result["events"] if event["kind"] == "reward_matured"])
        for result in results
        if "events" in result
    ]
    assert matured == [0, 0, 1, 0, 0, 0, 0, 0]
    assert results[-1]["result"]["mature"] == str(sum(map(int, results[1]["paid"]["r1"].values())))


def test_withdrawals_are_bounded_by_what_is_mature(run: Any, prepay: Any, ask: Any) -> None:
    """More than mature is refused with `immature`; the rest arrives in the wallet."""
    results = run(
        prepay,
        _report(1),
        {"do": "withdraw", "wallet": "r1", "amount": "1"},
        _report(2),
        {"do": "withdraw", "wallet": "r1", "amount": str(STOS)},
        ask("bank/balances/r1"),
        pot={"mature_epoch": 1},
    )
    assert results[2]["code"] == "immature"
    assert results[4]["ok"]
    assert results[5]["result"] == str(STOS)


def test_debt_is_taken_from_maturing_rewards_then_from_the_deposit(run: Any, prepay: Any, ask: Any) -> None:
    """A slash becomes a debt worth rule 4.4; maturing rewards pay it to the community pool, then the deposit does."""
    results = run(
        prepay,
        _report(1),
        {"do": "slash", "node": "r1", "noz": "80000000000000"},
        ask("pot/slashing/r1"),
        _report(2),
        ask("pot/slashing/r1"),
        ask("pot/rewards/wallet/r1"),
        {"do": "unbond", "node": "r1"},
        {"day": 194, "do": "end_block"},
        ask("bank/balances/r1"),
        ask("pot/slashing/r1"),
        pot={"mature_epoch": 1},
    )
    debt = int(results[3]["result"])
    earned = sum(map(int, results[1]["paid"]["r1"].values()))
    assert debt > earned + STOS
    assert results[5]["result"] == str(debt - earned)
    assert results[6]["result"]["mature"] == "0"
    assert results[9]["result"] == "0"
    assert results[10]["result"] == str(debt - earned - STOS)


def test_history_stays_after_maturity(run: Any, prepay: Any, ask: Any) -> None:
    """What an epoch paid can be asked for ever."""
    results = run(
        prepay, _report(1), _report(2), ask("pot/rewards/epoch/1"), ask("pot/rewards/epoch/7"), pot={"mature_epoch": 1}
    )
    assert results[3]["result"] == results[1]["paid"]
    assert results[4]["result"] == {}


def test_mining_ends_with_the_foundation_and_counts_what_left_it(run: Any, prepay: Any, ask: Any) -> None:
    """The foundation pays what it has; M grows by what was really paid, dust stays."""
    results = run(prepay, _report(1), ask("pot/total_mined_token"), ask("bank/balances/foundation"), foundation="11")
    assert results[1]["mining"] == {"chain": "2", "resource": "6", "meta": "2"}
    assert results[2]["result"] == "8"
    assert results[3]["result"] == "3"


def test_after_the_last_stage_nothing_is_mined_and_its_split_stays(run: Any, prepay: Any) -> None:
    """M >= 40,000,000 STOS: 0 per epoch, traffic split 70/10/20."""
    _, report = run(prepay, _report(1), total_mined=str(40_000_000 * STOS))
    assert set(report["mining"].values()) == {"0"}
    split = {part: int(amount) for part, amount in report["split"].items()}
    assert split["resource"] > 6 * split["meta"] > 0


def test_the_seed_schedule_keeps_the_first_split(run: Any, prepay: Any) -> None:
    """split_schedule seed: 60/20/20 in every stage, while the amounts follow the table."""
    _, report = run(prepay, _report(1), pot={"split_schedule": "seed"}, total_mined=str(33_000_000 * STOS))
    assert report["mining"] == {"resource": str(15 * STOS // 10), "meta": str(STOS // 2), "chain": str(STOS // 2)}


def test_reports_need_a_quorum_of_the_registered(run: Any, prepay: Any) -> None:
    """Strict: distinct, active meta nodes; strangers and repetitions do not count."""
    report = _report(1)
    results = run(
        prepay,
        {**report, "signers": ["m1", "m2"]},
        {**report, "signers": ["m1", "m2", "m2", "stranger", "r1"]},
        {**report, "signers": ["m1", "m3", "m2"]},
    )
    assert [result.get("code") for result in results[1:]] == ["quorum", "quorum", None]


def test_the_network_rule_counts_signatures_without_looking(run: Any, prepay: Any) -> None:
    """report_quorum network: max(1, floor(2n/3)) signatures of anybody."""
    report = _report(1)
    results = run(
        prepay,
        {**report, "signers": ["m1"]},
        {**report, "signers": ["stranger", "other"]},
        pot={"report_quorum": "network"},
    )
    assert [result.get("code") for result in results[1:]] == ["quorum", None]


def test_a_withheld_meta_share_stays_where_it_was(run: Any, prepay: Any) -> None:
    """A silent authority is not paid, and nobody gets its share."""
    _, report = run(prepay, {**_report(1), "withheld": ["m2"]})
    assert "m2" not in report["paid"]
    assert report["paid"]["m1"]["mining"] == str(4 * STOS)


def test_rewards_go_to_the_beneficiary(run: Any, prepay: Any) -> None:
    """A node's beneficiary is paid, else its owner."""
    _, report = run(
        prepay,
        _report(1),
        meta_nodes=[{"name": "m1", "deposit": str(400 * STOS), "owner": "ann", "beneficiary": "ben"}],
        resource_nodes=[{"name": "r1", "deposit": str(STOS), "owner": "carl"}],
    )
    assert set(report["paid"]) == {"ben", "carl"}


def test_supply_is_restored_every_ten_thousand_blocks(run: Any, ask: Any) -> None:
    """What genesis lists is the supply until the end of a block with height mod 10,000 = 1."""
    listed, _, later, _, pool = run(
        ask("bank/supply", height=5),
        {"height": 10_000, "do": "end_block"},
        ask("bank/supply"),
        {"height": 10_002, "do": "end_block"},
        ask("bank/balances/community_pool"),
        accounts={},
        foundation="5",
    )
    total = 5 + 400 * STOS + STOS + STOS
    assert listed["result"] == later["result"] == str(total)
    assert pool["result"] == str(10**26 - total)
