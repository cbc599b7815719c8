"""What `status` says about a planned change of rules."""

from orchestrator.testnet.rules_notes import rules_notes

PLAN = {"rules_version": "2", "height": "500", "approved_height": "30"}


def test_nothing_planned_is_nothing_to_say() -> None:
    """Nodes that do not answer, or answer without the fields, neither."""
    assert rules_notes({"v1": {"newest_rules": 1, "upgrade_plan": None}, "v2": None, "v3": {}}) == []


def test_a_plan_is_told_with_those_who_will_stop() -> None:
    """The plan that was approved last, when one node lags behind a replacement."""
    replaced = {"rules_version": "2", "height": "400", "approved_height": "20"}
    statuses = {
        "v1": {"newest_rules": 2, "upgrade_plan": PLAN},
        "v2": {"newest_rules": 1, "upgrade_plan": replaced},
        "v3": None,
    }
    assert rules_notes(statuses) == [
        "rules version 2 begins with block 500",
        "v2 knows rules up to version 1 and will stop there; install a newer image on it in time",
    ]
