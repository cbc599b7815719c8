"""Resource nodes: deposits, activation, suspension, leaving (protocol 6)."""

from typing import Any

STOS = 10**18


def _report(epoch: int) -> dict[str, Any]:
    return {"do": "volume_report", "epoch": epoch, "volumes": {"r1": "500000000"}}


def test_a_new_node_is_bonded_suspended_and_backs_nothing(run: Any, ask: Any) -> None:
    """Registering locks the deposit; S and L do not move before a quorum activates the node."""
    created, node, state, active, after = run(
        {"day": 3.5, "do": "create_resource_node", "name": "r9", "deposit": str(5 * STOS), "owner": "alice"},
        ask("register/resource_node/r9"),
        ask("state"),
        {"do": "set_effective_deposit", "node": "r9", "amount": str(4 * STOS)},
        ask("state"),
    )
    assert created["ok"]
    assert node["result"] == {
        "deposit": str(5 * STOS),
        "effective_deposit": "0",
        "status": "bonded",
        "suspended": True,
        "creation_day": "3.500000000000000000",
    }
    assert state["result"]["S"] == str(400 * STOS)
    assert active["ok"]
    assert (after["result"]["S"], after["result"]["L"]) == (str(404 * STOS), str(404 * 10**12))


def test_what_cannot_be_registered(run: Any) -> None:
    """Too small, known already, or not payable."""
    codes = [
        result["code"]
        for result in run(
            {"do": "create_resource_node", "name": "r9", "deposit": str(STOS - 1), "owner": "alice"},
            {"do": "create_resource_node", "name": "r1", "deposit": str(STOS), "owner": "alice"},
            {"do": "create_resource_node", "name": "m1", "deposit": str(STOS), "owner": "alice"},
            {"do": "create_resource_node", "name": "r9", "deposit": str(STOS), "owner": "poor"},
        )
    ]
    assert codes == ["invalid", "duplicate", "duplicate", "funds"]


def test_effective_deposits_are_bounded_and_voted(run: Any) -> None:
    """More than the deposit, nothing, an unknown node, a meta node, or too few signers: refused."""
    act = {"do": "set_effective_deposit", "node": "r1", "amount": str(STOS)}
    codes = [
        result.get("code")
        for result in run(
            {**act, "amount": str(STOS + 1)},
            {**act, "amount": "0"},
            {**act, "node": "nobody"},
            {**act, "node": "m1"},
            {**act, "signers": ["m1", "m2"]},
            act,
        )
    ]
    assert codes == ["invalid", "invalid", "unknown", "invalid", "quorum", None]


def test_suspension_and_return_are_a_round_trip(run: Any, ask: Any) -> None:
    """Suspending takes the effective deposit out of S and L; unsuspending puts it back."""
    results = run(
        ask("state"),
        {"do": "suspend", "node": "r1"},
        ask("state"),
        {"do": "suspend", "node": "r1"},
        {"do": "unsuspend", "node": "r1"},
        {"do": "unsuspend", "node": "r1"},
        ask("state"),
        resource_nodes=[{"name": "r1", "deposit": str(50 * STOS), "effective": str(40 * STOS)}],
    )
    assert (results[0]["result"]["S"], results[2]["result"]["S"]) == (str(440 * STOS), str(400 * STOS))
    assert [results[3]["code"], results[5]["code"]] == ["invalid", "invalid"]
    assert results[6]["result"] == results[0]["result"] | {"pools": results[6]["result"]["pools"]}


def test_deposits_only_grow_and_not_while_unbonding(run: Any, ask: Any) -> None:
    """Adding is allowed while bonded; after unbonding has begun nothing else is."""
    results = run(
        {"do": "send", "from": "alice", "to": "r1", "amount": str(10 * STOS)},
        {"do": "add_deposit", "node": "r1", "amount": str(2 * STOS)},
        ask("register/deposit_total"),
        {"do": "unbond", "node": "r1"},
        {"do": "add_deposit", "node": "r1", "amount": "1"},
        {"do": "unbond", "node": "r1"},
        {"do": "set_effective_deposit", "node": "r1", "amount": "1"},
        {"do": "unsuspend", "node": "r1"},
        {"do": "unbond", "node": "r7"},
        {"do": "unbond", "node": "m1", "from": "alice"},
    )
    assert results[2]["result"] == {"resource": str(3 * STOS), "meta": str(400 * STOS), "effective": str(400 * STOS)}
    assert [result.get("code") for result in results[3:]] == [
        None,
        "unbonding",
        "unbonding",
        "unbonding",
        "unbonding",
        "unknown",
        "invalid",
    ]


def test_unbonding_suspends_first(run: Any, ask: Any) -> None:
    """S and L fall with the request, the money comes on its day, and the key may register again."""
    results = run(
        {"day": 10, "do": "unbond", "node": "r1"},
        ask("state"),
        {"day": 194, "do": "end_block"},
        ask("bank/balances/r1"),
        {"do": "create_resource_node", "name": "r1", "deposit": str(STOS)},
        ask("register/resource_node/r1"),
        resource_nodes=[{"name": "r1", "deposit": str(50 * STOS), "effective": str(50 * STOS)}],
    )
    assert results[0]["mature_day"] == "194"
    assert (results[1]["result"]["S"], results[1]["result"]["L"]) == (str(400 * STOS), str(400 * 10**12))
    assert results[3]["result"] == str(50 * STOS)
    assert results[4]["ok"]
    assert (results[5]["result"]["creation_day"], results[5]["result"]["status"]) == ("194", "bonded")


def test_unbonding_exactly_at_the_threshold(run: Any) -> None:
    """Asked before creation + 180 d it is day 194; from then on 14 days after asking."""
    for day, mature in ((0, "194"), (179.5, "194"), (180, "194"), (180.5, "194.500000000000000000")):
        assert run({"day": day, "do": "unbond", "node": "r1"})[0]["mature_day"] == mature


def test_leaving_early_costs_the_fee_and_forfeits_the_rest(run: Any, prepay: Any, ask: Any) -> None:
    """Fee = trunc(rule 4.4) from immature rewards into P as a prepay; mining back to the foundation, traffic to P."""
    results = run(
        prepay,
        _report(1),
        {"do": "unbond", "node": "r1"},
        ask("state"),
        {"do": "leave", "node": "r1", "migrated_noz": "500000000", "completed": False},
        ask("state"),
        ask("pot/rewards/wallet/r1"),
        ask("pot/total_mined_token"),
        {"do": "leave", "node": "r1", "migrated_noz": "1", "completed": True},
    )
    before, after = results[3]["result"], results[5]["result"]
    reward = {part: int(amount) for part, amount in results[1]["paid"]["r1"].items()}
    backing, limit = int(before["S"]) + int(before["P"]), int(before["L"])
    fee = backing * 500_000_000 // (limit + 500_000_000)
    bought = limit * fee // (backing + fee)
    assert int(after["P"]) - int(before["P"]) == fee + reward["traffic"]
    assert int(after["pools"]["foundation"]) - int(before["pools"]["foundation"]) == reward["mining"] - fee
    assert int(after["L"]) == limit - bought
    assert results[6]["result"]["immature"] == "0"
    assert results[7]["result"] == str(80 * STOS)
    assert results[8]["code"] == "duplicate"


def test_a_completed_leave_keeps_its_rewards(run: Any, prepay: Any, ask: Any) -> None:
    """After the cooling-off only the fee is taken; what immature rewards cannot bear comes from the deposit."""
    results = run(
        prepay,
        {"do": "unbond", "node": "r1"},
        {"do": "leave", "node": "r1", "migrated_noz": "500000000", "completed": True},
        ask("register/resource_node/r1"),
        {"day": 194, "do": "end_block"},
        ask("bank/balances/r1"),
    )
    left = int(results[3]["result"]["deposit"])
    assert left == STOS - 410 * STOS * 500_000_000 // (390243902439025 + 500_000_000)
    assert results[5]["result"] == str(left)


def test_the_network_never_forfeits_and_charges_no_exit(run: Any, prepay: Any, ask: Any) -> None:
    """Both rules of the founding texts can be switched off."""
    results = run(
        prepay,
        _report(1),
        {"do": "leave", "node": "r1", "migrated_noz": "500000000", "completed": False},
        ask("pot/rewards/wallet/r1"),
        pot={"forfeit_on_early_exit": False, "exit_migration_fee": False},
    )
    assert results[3]["result"]["immature"] == str(sum(map(int, results[1]["paid"]["r1"].values())))


def test_a_slash_is_measured_before_the_suspension(run: Any, prepay: Any, ask: Any) -> None:
    """The debt uses S and L of the moment, then the node goes out of work."""
    results = run(
        prepay,
        ask("state"),
        {"do": "slash", "node": "r1", "noz": "500000000", "suspend": True},
        ask("pot/slashing/r1"),
        ask("state"),
        ask("register/resource_node/r1"),
        resource_nodes=[{"name": "r1", "deposit": str(STOS), "effective": str(STOS)}],
    )
    before = results[1]["result"]
    backing = int(before["S"]) + int(before["P"])
    assert results[3]["result"] == str(backing * 500_000_000 // (int(before["L"]) + 500_000_000))
    assert results[4]["result"]["S"] == str(400 * STOS)
    assert results[5]["result"]["suspended"]
