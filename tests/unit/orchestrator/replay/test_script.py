"""A malformed script is refused as a whole, naming the step and the field."""

import json
from typing import Any

import pytest

from orchestrator.replay.problems import ScriptProblem
from orchestrator.replay.script import ACTIONS, parse_script

GOOD = {"do": "prepay", "from": "alice", "amount": "1"}


def _script(*steps: Any, **parts: Any) -> str:
    return json.dumps({"steps": list(steps), **parts})


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"do": "fly"}, "do"),
        ({}, "do"),
        ({"do": 5}, "do"),
        ({"do": "prepay", "from": "alice"}, "amount"),
        ({**GOOD, "amount": "-1"}, "amount"),
        ({**GOOD, "amount": "1.5"}, "amount"),
        ({**GOOD, "amount": 1.5}, "amount"),
        ({**GOOD, "amount": "01"}, "amount"),
        ({**GOOD, "amount": "1" * 32}, "amount"),
        ({**GOOD, "amount": None}, "amount"),
        ({**GOOD, "amount": True}, "amount"),
        ({**GOOD, "from": ""}, "from"),
        ({**GOOD, "from": 7}, "from"),
        ({**GOOD, "from": "foundation"}, "from"),
        ({**GOOD, "ammount": "1"}, "ammount"),
        ({**GOOD, "wallet": "bob"}, "wallet"),
        ({**GOOD, "day": -1}, "day"),
        ({**GOOD, "day": "soon"}, "day"),
        ({**GOOD, "day": True}, "day"),
        ({**GOOD, "day": 10**30}, "day"),
        ({**GOOD, "day": [1]}, "day"),
        ({**GOOD, "height": 0}, "height"),
        ({**GOOD, "height": 1.5}, "height"),
        ({"do": "volume_report", "epoch": -1, "volumes": {}}, "epoch"),
        ({"do": "volume_report", "epoch": 1, "volumes": "r1"}, "volumes"),
        ({"do": "volume_report", "epoch": 1, "volumes": [["r1"]]}, "volumes"),
        ({"do": "volume_report", "epoch": 1, "volumes": {"r1": "x"}}, "volumes"),
        ({"do": "volume_report", "epoch": 1, "volumes": {}, "signers": "m1"}, "signers"),
        ({"do": "vote", "voter": "m1", "candidate": "m2", "approve": "yes"}, "approve"),
        ({"do": "query", "what": "weather"}, "what"),
        ({"do": "query", "what": "sds/sim_prepay/many"}, "what"),
        ({"do": "query"}, "what"),
    ],
)
def test_a_bad_field_is_named_with_its_step(step: dict[str, Any], field: str) -> None:
    """The problem says which step and which field."""
    with pytest.raises(ScriptProblem, match=rf"^steps\[1\]\.{field} \(step 2") as problem:
        parse_script(_script(GOOD, step))
    assert problem.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "script"),
        ("[]", "script"),
        ("{", "script"),
        ('{"steps": NaN}', "script"),
        ('{"steps": [], "steps": []}', "script"),
        ("{}", "steps"),
        ('{"steps": {}}', "steps"),
        ('{"steps": [], "step": []}', "step"),
        ('{"steps": [5]}', "steps"),
        ('{"steps": [], "params": 5}', "params"),
        ('{"steps": [], "params": {"pot": {"tax": "0.02"}}}', "params.pot.tax"),
        ('{"steps": [], "params": {"pot": {"community_tax": "much"}}}', "params.pot.community_tax"),
        ('{"steps": [], "params": {"pot": {"split_schedule": "mine"}}}', "params.pot.split_schedule"),
        ('{"steps": [], "params": {"pot": {"community_tax": "1.01"}}}', "params: pot.community_tax"),
        ('{"steps": [], "params": {"register": {"voting_days": 2000000000}}}', "params: register.voting_days"),
        ('{"steps": [{"do": "end_block", "day": 1e999999999}]}', "steps[0].day"),
        ('{"steps": [], "genesis": {"acounts": {}}}', "genesis.acounts"),
        ('{"steps": [], "genesis": {"accounts": {"a": "x"}}}', "genesis.accounts.a"),
        ('{"steps": [], "genesis": {"meta_nodes": [{"name": "m"}]}}', "genesis.meta_nodes"),
        ('{"steps": [], "genesis": {"meta_nodes": {}}}', "genesis.meta_nodes"),
        (
            '{"steps": [], "genesis": {"resource_nodes": [{"name": "r", "deposit": "1", "effective": "2"}]}}',
            "genesis.resource_nodes",
        ),
        (b"\xff\xfe{", "script"),
    ],
)
def test_a_bad_document_is_named_by_place(text: str | bytes, place: str) -> None:
    """Outside the steps the place is named as well."""
    with pytest.raises(ScriptProblem, match=f"^{place}".replace(".", r"\.").replace("[", r"\[")):
        parse_script(text)


def test_time_and_height_never_go_backwards() -> None:
    """Days may stay, heights may jump; neither returns."""
    parse_script(
        _script({"do": "end_block", "day": 2}, {"do": "end_block", "day": 2, "height": 90}, {"do": "end_block"})
    )
    with pytest.raises(ScriptProblem, match=r"steps\[1\]\.day"):
        parse_script(_script({"do": "end_block", "day": 2}, {"do": "end_block", "day": 1.999}))
    with pytest.raises(ScriptProblem, match=r"steps\[1\]\.height"):
        parse_script(_script({"do": "end_block", "height": 9}, {"do": "end_block", "height": 8}))


def test_heights_count_from_one_and_days_may_be_fractions() -> None:
    """The first step is height 1; 0.5 days are exact milliseconds."""
    steps = parse_script(
        _script({"do": "end_block"}, {"do": "end_block", "day": 0.5}, {"do": "end_block", "height": 7})
    ).steps
    assert [(step.height, step.time_ms) for step in steps] == [(1, 0), (2, 43_200_000), (7, 43_200_000)]


def test_parameters_may_stand_in_any_part_and_be_numbers() -> None:
    """Names decide; JSON numbers and strings mean the same."""
    given = {
        "pot": {"community_tax": 0.05, "deposit_noz_rate": 7},
        "report_quorum": "network",
        "sds": {"mature_epoch": "5"},
    }
    params = parse_script(_script(params=given, initial_total_supply="99")).params
    assert (params.pot.community_tax, params.register.deposit_noz_rate) == ("0.05", "7")
    assert (params.pot.report_quorum, params.pot.mature_epoch, params.pot.initial_total_supply) == ("network", 5, "99")


def test_every_step_of_the_contract_is_known() -> None:
    """The list of the replay contract."""
    assert set(ACTIONS) == {
        "prepay",
        "volume_report",
        "send",
        "withdraw",
        "create_resource_node",
        "add_deposit",
        "set_effective_deposit",
        "suspend",
        "unsuspend",
        "unbond",
        "slash",
        "leave",
        "create_meta_node",
        "vote",
        "kick",
        "kick_vote",
        "delegate",
        "undelegate",
        "propose_upgrade",
        "vote_upgrade",
        "end_block",
        "query",
    }
