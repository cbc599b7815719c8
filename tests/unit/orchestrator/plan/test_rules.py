"""Rules of the ledger in an inventory: what a new testnet begins with, and what a running one no longer takes from it."""

from orchestrator.plan.genesis import changed_settings
from stratos.ledger.rulebook import NEWEST_RULES
from tests.unit.orchestrator.plan.conftest import Planner, topology


def test_an_inventory_may_name_the_first_rules(planner: Planner) -> None:
    """They are in the genesis; without the variable it is version 1, written as before versions existed."""
    plain = planner(topology()).genesis
    chosen = planner(
        topology(everywhere={"stratos_rules_version": NEWEST_RULES, "stratos_upgrade_notice_blocks": 7})
    ).genesis
    assert not plain.ledger.rules_version
    assert (chosen.ledger.rules_version, chosen.ledger.upgrade_notice_blocks) == (NEWEST_RULES, 7)


def test_a_running_testnet_changes_rules_by_vote_only(planner: Planner) -> None:
    """A variable that differs from the genesis is named as one that has no effect, whichever of the two leaves it out."""
    version_1, version_2 = topology(), topology(everywhere={"stratos_rules_version": 2})
    for running, wanted, change in ((version_1, version_2, (1, 2)), (version_2, version_1, (2, 1))):
        genesis = planner(running).genesis
        assert changed_settings(genesis, wanted) == [("ledger.rules_version", *change)]
        assert changed_settings(genesis, running) == []
