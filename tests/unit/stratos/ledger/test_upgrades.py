"""The vote on new rules: who may, what passes, what replaces what, and when it is over."""

from typing import Any

import pytest

from stratos.crypto.keys import NodeKey
from stratos.ledger import rulebook, staking, upgrades
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import DUPLICATE, INVALID, UNKNOWN, LedgerError
from stratos.ledger.events import attributes
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import InForce, Plan
from stratos.state import Branch, MemoryStore
from stratos.wire.block import Event
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisValidator, LedgerParams
from stratos.wire.txs import Delegate, ProposeUpgrade, VoteUpgrade

STOS = 10**18
KEYS = [NodeKey(bytes([index + 1]) * 32) for index in range(4)]
OPERATORS = [bytes([index + 65]) * 20 for index in range(4)]
ALICE = b"a" * 20
DAY_MS = 86_400_000


class Net:
    """Four validators of equal power and blocks made by hand; `program` says what this program knows."""

    def __init__(self, stakes: tuple[int, ...] = (1, 1, 1, 1), **program: Any) -> None:
        self.ledger = Ledger(
            Genesis(
                network="unit",
                time_ms=0,
                ledger=LedgerParams(upgrade_notice_blocks=5),
                foundation_wei="0",
                accounts=(GenesisAccount(address=ALICE, balance_wei=str(100 * STOS)),),
                validators=tuple(
                    GenesisValidator(operator=operator, node_public_key=key.public_key, stake_wei=str(stake * STOS))
                    for operator, key, stake in zip(OPERATORS, KEYS, stakes, strict=False)
                ),
            ),
            **program,
        )
        self.state = MemoryStore()
        self.height = 1
        """Block 1 restores the supply, which would be an event more."""
        first = Branch(self.state)
        self.ledger.init_genesis(first)
        self.state.apply(first.changes())

    def block(self, *messages: tuple[bytes, Any], height: int | None = None, day: float = 0) -> list[Event]:
        """One block; its events, those of its end last. A refusal raises and leaves the state alone."""
        at_height = self.height + 1 if height is None else height
        at = BlockContext(height=at_height, time_ms=int(day * DAY_MS))
        branch = Branch(self.state)
        self.ledger.begin_block(branch, at)
        events = [event for sender, message in messages for event in self.ledger.handle(branch, sender, message, at)]
        events += self.ledger.end_block(branch, at).events
        self.state.apply(branch.changes())
        self.height = at_height
        return events

    def propose(self, index: int, height: int, version: int = 2, **where: Any) -> list[Event]:
        return self.block((OPERATORS[index], ProposeUpgrade(KEYS[index].address, version, height)), **where)

    def vote(self, index: int, height: int, version: int = 2, *, approve: bool = True, **where: Any) -> list[Event]:
        return self.block((OPERATORS[index], VoteUpgrade(KEYS[index].address, version, height, approve)), **where)

    def pass_plan(self, height: int, version: int = 2, voters: tuple[int, ...] = (0, 1, 2)) -> list[Event]:
        events = self.propose(voters[0], height, version)
        for index in voters[1:]:
            events += self.vote(index, height, version)
        return events

    @property
    def plan(self) -> Plan | None:
        return rulebook.plan(self.state)

    @property
    def polls(self) -> list[tuple[int, int]]:
        return [(poll.rules_version, poll.height) for _, poll in upgrades.POLLS.items(self.state)]


@pytest.fixture
def net() -> Net:
    return Net()


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_more_than_two_thirds_of_the_power_make_the_plan(net: Net) -> None:
    """Two of four are not enough, the third is."""
    net.propose(0, 50)
    net.vote(1, 50)
    assert net.plan is None
    events = net.vote(2, 50)
    assert kinds(events) == ["upgrade_voted", "upgrade_approved"]
    assert {"approving": "3000", "total": "4000"}.items() <= attributes(events[0]).items()
    assert net.plan == Plan(2, 50, 4)
    assert net.polls == []


def test_power_counts_not_heads() -> None:
    """One validator with more than two thirds of the stake decides with its proposal."""
    net = Net(stakes=(9, 1, 1, 1))
    assert kinds(net.propose(0, 50)) == ["upgrade_proposed", "upgrade_approved"]
    assert net.plan == Plan(2, 50, 2)


def test_exactly_two_thirds_are_not_more() -> None:
    """The same bound as in consensus."""
    net = Net(stakes=(1, 1, 1))
    net.propose(0, 50)
    net.vote(1, 50)
    assert net.plan is None


def test_votes_count_with_the_power_voters_have_now() -> None:
    """Stake that moved since an approval moves its weight too."""
    net = Net()
    net.propose(0, 50)
    net.block((ALICE, Delegate(KEYS[0].address, str(20 * STOS))))
    net.vote(1, 50)
    assert net.plan == Plan(2, 50, 4)


def test_the_planned_height_begins_the_version_before_anything_else(net: Net) -> None:
    """From its first transaction on the block is under the new rules."""
    net.pass_plan(50)
    net.block(height=49)
    assert rulebook.rules(net.state).version == 1
    assert kinds(net.block(height=50)) == ["rules_activated"]
    assert rulebook.rules(net.state) == InForce(2, 50)
    assert net.plan is None


def test_a_proposal_too_near_is_refused(net: Net) -> None:
    """There must be time to vote and to install."""
    net.block(height=10)
    with pytest.raises(LedgerError, match="height 15 is too near at height 11; propose 16") as refused:
        net.propose(0, 15)
    assert refused.value.code == INVALID
    net.propose(0, 16)


def test_rules_never_go_back(net: Net) -> None:
    """Neither to an older version, nor to the one that holds without a plan to cancel."""
    net.pass_plan(50)
    net.block(height=50)
    for version, words in ((1, "older than version 2"), (2, "holds already")):
        with pytest.raises(LedgerError, match=words):
            net.propose(0, 90, version)


def test_only_operators_of_voting_validators_take_part(net: Net) -> None:
    """A stranger, another operator's validator, and a node that is no validator are each refused."""
    for sender, validator in ((ALICE, KEYS[0]), (OPERATORS[1], KEYS[0]), (ALICE, NodeKey(b"z" * 32))):
        with pytest.raises(LedgerError) as refused:
            net.block((sender, ProposeUpgrade(validator.address, 2, 50)))
        assert refused.value.code == UNKNOWN


def test_a_validator_that_does_not_vote_has_no_say(net: Net) -> None:
    """Registered is not enough."""
    branch = Branch(net.state)
    staking.VOTERS.set(branch, b"", tuple(one for one in staking.voters(branch) if one.address != KEYS[3].address))
    net.state.apply(branch.changes())
    with pytest.raises(LedgerError, match="does not vote at present"):
        net.propose(3, 50)


def test_one_vote_per_validator(net: Net) -> None:
    """The proposer has approved by proposing; everybody else votes once."""
    net.propose(0, 50)
    net.vote(1, 50)
    for index, approve in ((0, True), (1, True), (1, False)):
        with pytest.raises(LedgerError) as refused:
            net.vote(index, 50, approve=approve)
        assert refused.value.code == DUPLICATE


def test_a_proposer_may_turn_against_its_proposal_once(net: Net) -> None:
    """As with a kick."""
    net.propose(0, 50)
    net.vote(0, 50, approve=False)
    net.vote(1, 50)
    net.vote(2, 50)
    assert net.plan is None
    with pytest.raises(LedgerError, match="already voted"):
        net.vote(0, 50, approve=False)


def test_a_poll_closes_when_it_can_no_longer_pass(net: Net) -> None:
    """Two rejections of four leave no more than half."""
    net.propose(0, 50)
    net.vote(1, 50, approve=False)
    assert net.polls == [(2, 50)]
    assert kinds(net.vote(2, 50, approve=False)) == ["upgrade_voted", "upgrade_poll_closed"]
    assert net.polls == []


def test_a_poll_closes_after_its_voting_time(net: Net) -> None:
    """A vote in its last second counts, one after it finds no poll."""
    net.propose(0, 50)
    net.vote(1, 50, day=7)
    assert kinds(net.block(day=7.01)) == ["upgrade_poll_closed"]
    with pytest.raises(LedgerError, match="propose it first"):
        net.vote(2, 50, day=7.01)


def test_a_poll_closes_at_its_own_height(net: Net) -> None:
    """What was not approved before the height does not begin at it."""
    net.propose(0, 50)
    assert kinds(net.block(height=50)) == ["upgrade_poll_closed"]
    assert rulebook.rules(net.state).version == 1


def test_a_proposal_is_opened_once(net: Net) -> None:
    """The second proposer is told to vote."""
    net.propose(0, 50)
    with pytest.raises(LedgerError, match="vote on it") as refused:
        net.propose(1, 50)
    assert refused.value.code == DUPLICATE


def test_a_validator_has_one_open_proposal(net: Net) -> None:
    """Its new one takes the place of the old, so nobody can fill the state with polls."""
    net.propose(0, 50)
    net.propose(1, 60)
    net.propose(0, 70)
    assert net.polls == [(2, 60), (2, 70)]


def test_a_passing_poll_closes_the_others(net: Net) -> None:
    """A late vote on one of them cannot replace the plan by surprise."""
    net.propose(3, 60)
    net.vote(0, 60)
    net.pass_plan(50)
    assert net.polls == []
    with pytest.raises(LedgerError) as refused:
        net.vote(1, 60)
    assert refused.value.code == UNKNOWN


def test_a_plan_is_replaced_by_the_same_vote(net: Net) -> None:
    """There is one plan; the last one approved holds, earlier or later than the first."""
    net.pass_plan(50)
    with pytest.raises(LedgerError, match="approved already"):
        net.propose(0, 50)
    net.pass_plan(90)
    assert net.plan == Plan(2, 90, net.height)
    net.block(height=50)
    assert rulebook.rules(net.state).version == 1
    net.block(height=90)
    assert rulebook.rules(net.state) == InForce(2, 90)


def test_a_plan_is_cancelled_by_the_same_vote(net: Net) -> None:
    """The proposal is for the version that holds, with height 0."""
    with pytest.raises(LedgerError, match="holds already"):
        net.propose(0, 0, 1)
    net.pass_plan(50)
    assert kinds(net.pass_plan(0, 1))[-1] == "upgrade_cancelled"
    assert net.plan is None
    net.block(height=50)
    assert rulebook.rules(net.state).version == 1


def test_a_cancelling_poll_ends_when_the_plan_has_begun(net: Net) -> None:
    """After the height there is nothing to cancel."""
    net.pass_plan(50)
    net.propose(0, 0, 1)
    assert kinds(net.block(height=50)) == ["rules_activated", "upgrade_poll_closed"]


def test_every_program_counts_the_same_whatever_it_knows() -> None:
    """A version far beyond this program is voted on like any other: only executing its height stops it."""
    net = Net(newest_rules=1)
    net.pass_plan(50, version=7)
    assert net.plan == Plan(7, 50, 4)
    net.block(height=49)
    with pytest.raises(rulebook.UnknownRules, match="version 7 holds from height 50 on"):
        net.block(height=50)
