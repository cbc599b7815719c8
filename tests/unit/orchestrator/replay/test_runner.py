"""What a script's steps print."""

import json
from typing import Any

import pytest

from orchestrator.replay.problems import ScriptProblem
from orchestrator.replay.runner import replay
from orchestrator.replay.script import parse_script

STOS = 10**18
GENESIS = {
    "accounts": {"alice": str(20 * STOS)},
    "foundation": str(1000 * STOS),
    "meta_nodes": [{"name": "m1", "deposit": str(400 * STOS)}],
    "resource_nodes": [{"name": "r1", "deposit": str(STOS)}, {"name": "r2", "deposit": str(STOS), "owner": "bob"}],
    "validators": [{"name": "v1", "stake": str(STOS)}],
}
PREPAY = {"do": "prepay", "from": "alice", "amount": str(10 * STOS)}


def _run(*steps: dict[str, Any], **genesis: Any) -> list[dict[str, Any]]:
    script = {"genesis": {**GENESIS, **genesis}, "steps": list(steps)}
    return replay(parse_script(json.dumps(script)))["steps"]  # type: ignore[no-any-return]


def _ask(what: str) -> dict[str, Any]:
    return {"do": "query", "what": what}


def test_an_empty_script_has_an_empty_answer() -> None:
    """No parameters, no genesis, no steps."""
    assert replay(parse_script('{"steps": []}')) == {"steps": []}


def test_events_speak_of_names_and_days() -> None:
    """Addresses become names and times days."""
    bought, left = _run({**PREPAY, "beneficiary": "carol"}, {"day": 190, "do": "unbond", "node": "r2"})
    assert bought["events"][0] == {
        "kind": "ozone_bought",
        "beneficiary": "carol",
        "noz": bought["bought"],
        "sender": "alice",
        "amount": str(10 * STOS),
    }
    assert left["events"][0] == {"kind": "unbonding", "node": "r2", "release_day": "204", "deposit": str(STOS)}


def test_errors_speak_of_names() -> None:
    """A refusal names wallets and nodes as the script does."""
    refused, unknown = _run({**PREPAY, "from": "dave"}, _ask("register/resource_node/r7"))
    assert refused["ok"] is False
    assert "dave" in refused["error"]
    assert set(refused) == {"ok", "error", "code"}
    assert (unknown["code"], "r7" in unknown["error"]) == ("unknown", True)


def test_a_rows_name_is_a_node_before_it_is_a_wallet() -> None:
    """A node's row pays its beneficiary; any other name is a wallet."""
    _, report = _run(PREPAY, {"do": "volume_report", "epoch": 1, "volumes": {"r2": "5", "guest": "7"}})
    assert set(report["paid"]) == {"m1", "bob", "guest"}


def test_leaving_takes_the_rewards_of_that_node_only() -> None:
    """A wallet with two nodes keeps what the other one earned."""
    nodes = [{"name": name, "deposit": str(STOS), "owner": "bob"} for name in ("r1", "r2")]
    results = _run(
        PREPAY,
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "100", "r2": "100"}},
        {"do": "leave", "node": "r1", "migrated_noz": "0", "completed": False},
        _ask("pot/rewards/wallet/bob"),
        resource_nodes=nodes,
    )
    paid = sum(map(int, results[1]["paid"]["bob"].values()))
    assert results[3]["result"]["immature"] == str(paid // 2)


def test_staking_steps_and_the_21_days() -> None:
    """delegate and undelegate move money; it returns on day 21."""
    results = _run(
        {"do": "delegate", "from": "alice", "validator": "v1", "amount": str(5 * STOS)},
        {"day": 1, "do": "undelegate", "from": "alice", "validator": "v1", "amount": str(2 * STOS)},
        _ask("bank/balances/alice"),
        {"day": 22, "do": "end_block"},
        _ask("bank/balances/alice"),
        {"do": "undelegate", "from": "alice", "validator": "v1", "amount": str(4 * STOS)},
        {"do": "delegate", "from": "alice", "validator": "v7", "amount": "1"},
    )
    assert results[1]["mature_day"] == "22"
    assert [results[2]["result"], results[4]["result"]] == [str(15 * STOS), str(17 * STOS)]
    assert [results[5]["code"], results[6]["code"]] == ["funds", "unknown"]


def test_circulation_is_supply_less_the_unmined() -> None:
    """As the public network counts: supply - (40,000,000 STOS - mined), after the supply was restored."""
    results = _run(
        PREPAY,
        _ask("pot/circulation_supply"),
        {"do": "volume_report", "epoch": 1, "volumes": {"r1": "5"}},
        _ask("pot/circulation_supply"),
        _ask("pot/total_mined_token"),
    )
    assert results[1]["result"] == str(60_000_000 * STOS)
    assert int(results[3]["result"]) == 60_000_000 * STOS + int(results[4]["result"])


def test_genesis_over_the_cap_is_a_malformed_script() -> None:
    """More than the initial supply is refused as a whole."""
    with pytest.raises(ScriptProblem, match=r"^genesis"):
        _run(foundation=str(10**26))
    with pytest.raises(ScriptProblem, match=r"^genesis"):
        _run(meta_nodes=[{"name": "m1", "deposit": "1"}, {"name": "m1", "deposit": "1"}])


def test_the_same_script_gives_the_same_document() -> None:
    """No clock, no random source, no hash order."""
    steps = [PREPAY, {"do": "volume_report", "epoch": 1, "volumes": {"r1": "5", "r2": "6"}}, _ask("state")]
    assert json.dumps(_run(*steps)) == json.dumps(_run(*steps))
