"""Users of a running testnet: wallets, transactions, proofs; and a testnet that grows in every layer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import COMMAND_SECONDS, SMALL, Tool, eventually

FOUR = SMALL.replace("{v1: }", '{"v[1:4]": }').replace("{m1: }", '{"m[1:4]": }')


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """One testnet of four validators and four meta nodes for all tests of this file."""
    tool = Tool(tmp_path_factory.mktemp("chain"))
    tool.write(FOUR)
    tool.json("up", "--no-probe")
    yield tool
    assert tool.run("down", "--purge").returncode == 0
    eventually(lambda: tool.processes() == [])


def verb(tool: Tool, command: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command with a verb, whose -i comes after it."""
    line = [
        sys.executable,
        "-P",
        "-m",
        "orchestrator.cli.main",
        command,
        *arguments,
        "-i",
        str(tool.inventory),
        "--json",
    ]
    return subprocess.run(
        line, env=tool.environment, capture_output=True, text=True, input=stdin, timeout=COMMAND_SECONDS, check=False
    )


def done(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def balance(tool: Tool, wallet: str) -> int:
    return int(done(verb(tool, "wallet", "balance", wallet))["balance_wei"])


def test_money_moves_between_wallets_to_the_wei(tool: Tool) -> None:
    """A new wallet gets what was sent, the sender pays that and the fee, and the transaction can be shown."""
    made = done(verb(tool, "wallet", "new", "alice"))
    assert len(made["mnemonic"].split()) == 24
    # A wallet of this test alone: to `user` stake comes back that another test has undelegated.
    done(verb(tool, "wallet", "new", "payer"))
    done(verb(tool, "tx", "send", "payer", "5"))
    sent = done(verb(tool, "tx", "send", "alice", "2.000000000000000001", "--from", "payer"))
    assert sent["code"] == "ok"
    assert balance(tool, "alice") == 2 * 10**18 + 1
    assert balance(tool, "payer") == 5 * 10**18 - (2 * 10**18 + 1 + 10**9)
    assert done(verb(tool, "tx", "show", sent["hash"])) == sent


def test_an_imported_wallet_is_the_same_wallet(tool: Tool) -> None:
    """The words of a wallet give its address back."""
    made = done(verb(tool, "wallet", "new", "carol"))
    same = done(verb(tool, "wallet", "import", "carol-again", stdin=made["mnemonic"]))
    assert same["address"] == made["address"]


def test_refused_transactions_say_why(tool: Tool) -> None:
    """Too little money is refused in the block with the chain's sentence and exit code 2; an unknown wallet before it."""
    refused = verb(tool, "tx", "send", "user", "90000000", "--from", "probe")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["code"] == "funds"
    assert verb(tool, "tx", "send", "user", "1", "--from", "nobody").returncode == 2
    assert verb(tool, "tx", "show", "0" * 64).returncode == 2


def test_stake_and_deposits_are_messages_of_their_owners(tool: Tool) -> None:
    """Delegating and adding to a deposit work for the wallets that may, and a stranger's deposit is refused."""
    assert done(verb(tool, "tx", "delegate", "v1", "10"))["code"] == "ok"
    assert done(verb(tool, "tx", "undelegate", "v1", "5"))["code"] == "ok"
    assert done(verb(tool, "tx", "deposit", "m1", "1", "--from", "m1"))["code"] == "ok"


def test_presence_and_absence_are_proved_with_the_genesis_file(tool: Tool) -> None:
    """A balance and the absence of a node are verified; another network's genesis makes the same proof worthless."""
    proof = done(tool.run("proof", "bank/balance/faucet", "--json"))
    assert proof["verified"] is True
    assert int(proof["value"]) == balance(tool, "faucet")
    absent = done(tool.run("proof", "register/meta/r1", "--json"))
    assert (absent["present"], absent["value"]) == (False, None)
    genesis = tool.root / "net" / "genesis.json"
    original = genesis.read_bytes()
    try:
        genesis.write_bytes(original.replace(b'"network": "net"', b'"network": "ten"'))
        forged = tool.run("proof", "bank/balance/faucet")
    finally:
        genesis.write_bytes(original)
    assert forged.returncode == 1
    assert "does not follow from the genesis file" in forged.stderr


def test_new_rules_are_voted_into_force(tool: Tool) -> None:
    """Operators may vote by hand, also against; one command votes with all our validators and, repeated, reports what is so."""
    far = ("2", "--height", "1000000")
    opened = done(verb(tool, "tx", "propose-upgrade", *far, "--validator", "v1"))
    assert [event["kind"] for event in opened["events"]] == ["upgrade_proposed"]
    against = [done(verb(tool, "tx", "vote-upgrade", *far, "--validator", name, "--against")) for name in ("v2", "v3")]
    assert [event["kind"] for event in against[1]["events"]] == ["upgrade_voted", "upgrade_poll_closed"]
    stranger = verb(tool, "tx", "propose-upgrade", *far, "--validator", "v1", "--from", "user")
    assert stranger.returncode == 2
    assert json.loads(stranger.stdout)["code"] == "unknown"
    assert verb(tool, "upgrade-rules", "2", "--height", "1").returncode == 2
    assert verb(tool, "upgrade-rules", "99").returncode == 2

    planned = done(verb(tool, "upgrade-rules", "2", "--in", "8"))
    assert (planned["version"], planned["in_force"], planned["changed"]) == (2, False, True)
    again = done(verb(tool, "upgrade-rules", "2"))
    assert (again["height"], again["changed"]) == (planned["height"], False)
    notes = tool.json("status")["notes"]
    assert notes == [f"rules version 2 begins with block {planned['height']}"]
    eventually(lambda: done(verb(tool, "upgrade-rules", "2"))["in_force"])
    validators = [node["details"] for node in tool.json("status")["nodes"] if node["role"] == "validator"]
    assert {(one["rules_version"], one["upgrade_plan"]) for one in validators} == {(2, None)}
    assert done(verb(tool, "upgrade-rules", "2"))["height"] == planned["height"]
    assert verb(tool, "upgrade-rules", "1").returncode == 2
    assert done(tool.run("proof", "upgrade/in_force", "--json"))["present"] is True
    assert verb(tool, "prepay", "1wei").returncode != 0


def test_a_testnet_grows_in_every_layer(tool: Tool) -> None:
    """A validator, a meta and a resource node added to the inventory are registered, admitted and active; proofs follow."""
    tool.write(FOUR.replace("v[1:4]", "v[1:5]").replace("m[1:4]", "m[1:5]").replace("r[1:2]", "r[1:3]"))
    report = tool.json("up")
    assert sorted(node["name"] for node in report["differences"] if node["kind"] == "added") == ["m5", "r3", "v5"]
    status = tool.json("status")
    assert {node["health"] for node in status["nodes"]} == {"ok"}
    assert len(status["nodes"]) == 13
    voting = {node["name"] for node in status["nodes"] if node["details"].get("voting")}
    assert {"v5", "m5"} <= voting
    assert done(tool.run("proof", "bank/balance/user", "--json"))["verified"] is True
    assert tool.json("up")["changed"] == 0
