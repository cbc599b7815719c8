"""Versions of the ledger's rules: what holds, what changed, and what a program that lacks a version does."""

from typing import Any

import pytest

from stratos.ledger import bank, rulebook
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import INVALID, LedgerError
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import CHANGES, NEWEST_RULES, RulesSettingError, UnknownRules, known_rules
from stratos.state import Branch, MemoryStore
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, LedgerParams
from stratos.wire.txs import Prepay

STOS = 10**18
ALICE = b"a" * 20


def genesis(version: int = 1) -> Genesis:
    """A network with ozone for sale at 10^6 wei a noz."""
    holder = GenesisNode(
        owner=ALICE, beneficiary=ALICE, node_public_key=b"k" * 32, deposit_wei=str(STOS), effective_wei=str(STOS)
    )
    return Genesis(
        network="unit",
        time_ms=0,
        ledger=LedgerParams(rules_version=version),
        foundation_wei="0",
        accounts=(GenesisAccount(address=ALICE, balance_wei=str(STOS)),),
        resource_nodes=(holder,),
    )


def begun(of: Genesis, **program: Any) -> tuple[Ledger, Branch]:
    """A ledger and its first state."""
    ledger, state = Ledger(of, **program), Branch(MemoryStore())
    ledger.init_genesis(state)
    return ledger, state


def prepay(ledger: Ledger, state: Branch, amount: int) -> str:
    """Noz that Alice's prepay bought."""
    [bought] = ledger.handle(state, ALICE, Prepay(ALICE, str(amount)), BlockContext(height=1, time_ms=0))
    return dict(bought.attributes)["noz"]


def test_version_1_takes_dust_for_nothing() -> None:
    """A prepay of one wei buys 0 noz and is taken, as it always was."""
    ledger, state = begun(genesis())
    assert prepay(ledger, state, 1) == "0"
    assert bank.balance(state, bank.UNISSUED_PREPAY) == 1


def test_version_2_refuses_a_prepay_that_would_buy_nothing() -> None:
    """It costs nothing then, and the sentence says what one noz costs."""
    ledger, state = begun(genesis(2))
    effects = state.branch()
    with pytest.raises(LedgerError, match="999999 wei would buy 0 noz, one costs about 1000000 wei") as refused:
        prepay(ledger, effects, 999_999)
    assert refused.value.code == INVALID
    assert bank.balance(state, bank.UNISSUED_PREPAY) == 0
    assert prepay(ledger, state, 2_000_000) == "1"


def test_version_1_leaves_no_trace_in_the_state() -> None:
    """States and roots of version 1 are those of programs that knew no versions."""
    _, state = begun(genesis())
    assert list(state.items(b"upgrade/")) == []
    assert rulebook.rules(state) == rulebook.InForce(1, 0)


def test_a_genesis_may_begin_with_a_newer_version() -> None:
    """Its state says so from the start."""
    _, state = begun(genesis(2))
    assert rulebook.rules(state) == rulebook.InForce(2, 0)


def test_a_genesis_of_unknown_rules_is_refused() -> None:
    """The sentence names the version, what is known, and the fix."""
    with pytest.raises(
        UnknownRules, match=r"version 2 holds from height 0 on .* up to 1; install an image with rules version >= 2"
    ):
        begun(genesis(2), newest_rules=1)


def test_a_block_under_unknown_rules_is_not_executed() -> None:
    """The old program executes the block before the height and raises at it; a newer one changes the rules there."""
    of = genesis()
    for newest in (1, 2):
        ledger, state = begun(of, newest_rules=newest)
        rulebook.PLAN.set(state, b"", rulebook.Plan(2, 7, 3))
        ledger.begin_block(state, BlockContext(height=6, time_ms=0))
        assert rulebook.rules(state).version == 1
        if newest == 1:
            with pytest.raises(UnknownRules, match="version 2 holds from height 7 on"):
                ledger.begin_block(state, BlockContext(height=7, time_ms=0))
        else:
            ledger.begin_block(state, BlockContext(height=7, time_ms=0))
            [activated] = ledger.end_block(state, BlockContext(height=7, time_ms=0)).events
            assert (activated.kind, dict(activated.attributes)) == (
                "rules_activated",
                {"rules_version": "2", "at_height": "7"},
            )
            assert rulebook.rules(state) == rulebook.InForce(2, 7)
            assert rulebook.plan(state) is None


def test_a_state_of_newer_rules_is_refused() -> None:
    """A store that a newer program went on with is not for an older one."""
    _, state = begun(genesis(2))
    with pytest.raises(UnknownRules):
        rulebook.require_known(state, 1, 1)
    rulebook.require_known(state, 1, 2)


@pytest.mark.parametrize(("given", "known"), [("", NEWEST_RULES), ("1", 1), ("2", 2), ("99", NEWEST_RULES)])
def test_a_program_claims_at_most_what_it_knows(given: str, known: int) -> None:
    """STRATOS_RULES_UP_TO lowers, it never raises."""
    assert known_rules({"STRATOS_RULES_UP_TO": given}) == known
    assert known_rules({}) == NEWEST_RULES


@pytest.mark.parametrize("given", ["0", "two", "-1", "1.5", " 1"])
def test_a_setting_that_is_no_version_is_refused(given: str) -> None:
    """Guessing would decide about consensus."""
    with pytest.raises(RulesSettingError, match="STRATOS_RULES_UP_TO"):
        known_rules({"STRATOS_RULES_UP_TO": given})


def test_every_version_says_what_it_changes() -> None:
    """The table goes up to the newest version without a gap."""
    assert [change.since for change in CHANGES] == sorted(change.since for change in CHANGES)
    assert {change.since for change in CHANGES} == set(range(2, NEWEST_RULES + 1))
