"""Two programs side by side: until the height of new rules they make the same states, whatever happens on the chain."""

import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.replay.problems import ScriptProblem
from orchestrator.replay.runner import Runner
from orchestrator.replay.script import parse_script
from stratos.ledger import bank, rulebook
from stratos.ledger.machine import Ledger
from stratos.state import AuthMap, MemoryStore

STOS = 10**18
GOLDEN = json.loads((Path(__file__).parent / "data" / "rules_v1.json").read_text())
HEIGHT = 200

wallets = st.sampled_from(("alice", "bob"))
validators = st.sampled_from(("v1", "v2", "v3", "v4"))
amounts = st.one_of(st.integers(0, 3), st.integers(10**5, 10**7), st.integers(1, 9).map(lambda n: n * STOS)).map(str)


def _step(action: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"do": st.just(action), **fields})


messages = st.one_of(
    _step("prepay", **{"from": wallets, "amount": amounts}),
    _step("prepay", **{"from": wallets, "amount": st.just("1")}),
    _step("send", **{"from": wallets, "to": wallets, "amount": amounts}),
    _step("delegate", **{"from": wallets, "validator": validators, "amount": amounts}),
    _step("undelegate", **{"from": wallets, "validator": validators, "amount": amounts}),
    _step("volume_report", epoch=st.integers(1, 9), volumes=st.just([["r1", "5000000000"]])),
    _step("propose_upgrade", validator=validators, rules_version=st.just(2), at_height=st.just(HEIGHT)),
    _step(
        "vote_upgrade", validator=validators, rules_version=st.just(2), at_height=st.just(HEIGHT), approve=st.booleans()
    ),
)


def script_of(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "genesis": {
            "accounts": {"alice": str(1000 * STOS), "bob": str(1000 * STOS)},
            "foundation": str(10**6 * STOS),
            "meta_nodes": [{"name": "m1", "deposit": str(100 * STOS)}],
            "resource_nodes": [{"name": "r1", "deposit": str(STOS), "effective": str(STOS)}],
            "validators": [{"name": f"v{number}", "stake": str(number * STOS)} for number in (1, 2, 3, 4)],
        },
        "steps": steps,
    }


class Program:
    """One program with the rules it knows, on its own state."""

    def __init__(self, script: dict[str, Any], newest: int) -> None:
        self.script = parse_script(json.dumps(script))
        self.runner = Runner(self.script)
        self.runner._ledger = Ledger(self.runner._ledger.genesis, newest_rules=newest)

    @property
    def root(self) -> bytes:
        return root_of(self.runner.state)


def root_of(state: MemoryStore) -> bytes:
    return AuthMap().update(dict(state.items(b""))).root


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given_steps=st.lists(messages, max_size=25), approve=st.booleans(), dust=st.booleans())
def test_programs_agree_until_the_height_and_only_the_new_one_goes_on(
    given_steps: list[dict[str, Any]], approve: bool, dust: bool
) -> None:
    """Equal results and roots after every block below the height; there the old program stops with the state it has, and the
    new one applies the changed rule. A vote that does not pass changes nothing for either."""
    last = {"do": "prepay", "from": "alice", "amount": "1"} if dust else {"do": "end_block"}
    about = {"rules_version": 2, "at_height": HEIGHT}
    votes = [{"do": "propose_upgrade", "validator": "v4", **about}]
    votes += [{"do": "vote_upgrade", "validator": name, **about} for name in ("v3", "v2")]
    script = script_of(
        [*given_steps, *(votes if approve else []), {**last, "height": HEIGHT - 1}, {**last, "height": HEIGHT}]
    )
    old, new = Program(script, 1), Program(script, 2)
    *before, at_height = old.script.steps
    for step in before:
        assert old.runner.step(step) == new.runner.step(step)
        assert old.root == new.root
    planned = rulebook.plan(new.runner.state)
    stood = old.root
    prepaid = bank.balance(new.runner.state, bank.UNISSUED_PREPAY)
    result = new.runner.step(at_height)
    if planned is None:
        assert old.runner.step(at_height) == result
        assert old.root == new.root
        return
    with pytest.raises(ScriptProblem, match="install an image with rules version >= 2"):
        old.runner.step(at_height)
    assert old.root == stood
    assert result["ok"] == (not dust)
    assert bank.balance(new.runner.state, bank.UNISSUED_PREPAY) == prepaid
    assert rulebook.rules(new.runner.state) == rulebook.InForce(2, HEIGHT)
    taken_up = Program(script, 2)
    taken_up.runner._store = old.runner.state
    assert taken_up.runner.step(at_height) == result
    assert taken_up.root == new.root


@pytest.mark.parametrize("newest", [1, 2])
def test_version_1_is_what_it_was_before_rules_had_versions(newest: int) -> None:
    """Results and state root of a history with every kind of message, as a program without versions computed them."""
    program = Program(GOLDEN["script"], newest)
    results = [program.runner.step(step) for step in program.script.steps]
    assert program.root.hex() == GOLDEN["root"]
    assert blake3(json.dumps(results, sort_keys=True).encode()).hexdigest() == GOLDEN["results"]
