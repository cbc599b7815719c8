"""Rules versions in `ledger replay`: the vote as steps, the version as a parameter."""

import json
from typing import Any

import pytest

from orchestrator.replay.problems import ScriptProblem
from orchestrator.replay.runner import replay
from orchestrator.replay.script import parse_script

STOS = 10**18
DUST = {"do": "prepay", "from": "alice", "amount": "1"}


def run(*steps: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    script = {
        "params": {"upgrade_notice_blocks": 3, **params},
        "genesis": {
            "accounts": {"alice": str(STOS)},
            "resource_nodes": [{"name": "r1", "deposit": str(STOS), "effective": str(STOS)}],
            "validators": [{"name": f"v{n}", "stake": str(STOS), "owner": f"o{n}"} for n in (1, 2, 3, 4)],
        },
        "steps": list(steps),
    }
    return replay(parse_script(json.dumps(script)))["steps"]  # type: ignore[no-any-return]


def vote(index: int, height: int, **more: Any) -> dict[str, Any]:
    return {"do": "vote_upgrade", "validator": f"v{index}", "rules_version": 2, "at_height": height, **more}


def propose(index: int, height: int, version: int = 2) -> dict[str, Any]:
    return {"do": "propose_upgrade", "validator": f"v{index}", "rules_version": version, "at_height": height}


def test_a_scripted_vote_changes_the_rules_at_its_height() -> None:
    """Dust is taken in the block before and refused in the block of the height."""
    asked = {"do": "query", "what": "upgrade/plan"}
    steps = (
        propose(1, 20),
        vote(2, 20),
        asked,
        vote(3, 20),
        asked,
        {**DUST, "height": 19},
        {**DUST, "height": 20},
        asked,
    )
    results = run(*steps)
    polled, planned, changed = (results[index]["result"] for index in (2, 4, 7))
    assert polled["plan"] is None
    [poll] = polled["polls"]
    assert (poll["proposer"], poll["approvals"]) == ("v1", ["v1", "v2"])
    assert (poll["approving_power"], poll["total_power"]) == ("2000", "4000")
    assert planned["plan"] == {"rules_version": "2", "height": "20", "approved_height": "4"}
    assert results[5]["bought"] == "0"
    assert (results[6]["ok"], results[6]["code"]) == (False, "invalid")
    assert (changed["rules_version"], changed["since_height"], changed["plan"]) == ("2", "20", None)


def test_a_refused_vote_is_a_result() -> None:
    """With the chain's code and sentence, in names."""
    results = run(propose(1, 2), vote(2, 20), propose(1, 20), {**vote(1, 20), "approve": True})
    assert [(one["ok"], one.get("code")) for one in results] == [
        (False, "invalid"),
        (False, "unknown"),
        (True, None),
        (False, "duplicate"),
    ]
    assert "v1 has already voted" in results[3]["error"]


def test_a_script_may_begin_with_newer_rules() -> None:
    """As a genesis may."""
    [dust] = run(DUST, rules_version=2)
    assert dust["code"] == "invalid"


def test_rules_that_nobody_knows_are_a_problem_of_the_script() -> None:
    """At genesis as a parameter, later at the step whose block would be under them."""
    with pytest.raises(ScriptProblem, match=r"params\.rules_version: rules version 9 .* image with rules version >= 9"):
        run(DUST, rules_version=9)
    votes = (propose(1, 20, 9), *(vote(index, 20, rules_version=9) for index in (2, 3)))
    with pytest.raises(ScriptProblem, match=r"steps\[3\]\.height .*rules version 9 holds from height 20"):
        run(*votes, {**DUST, "height": 20})
