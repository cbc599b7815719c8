"""Validators and delegators (protocol 5 chain part, 6 last line)."""

from typing import Any

import pytest

from stratos.crypto.keys import NodeKey
from stratos.crypto.signing import sign_bytes
from stratos.ledger import bank, distribution, staking
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import LedgerError
from stratos.ledger.machine import Ledger
from stratos.state import Branch, MemoryStore
from stratos.wire.block import PREVOTE, Vote, vote_body
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisValidator, LedgerParams, StakingParams
from stratos.wire.txs import (
    AnnounceValidator,
    CreateValidator,
    Delegate,
    DoubleSignEvidence,
    Undelegate,
    WithdrawDelegationRewards,
)

STOS = 10**18
ALICE, OPERATOR_1, OPERATOR_2 = b"a" * 20, b"1" * 20, b"2" * 20
KEY_1, KEY_2 = NodeKey(b"1" * 32), NodeKey(b"2" * 32)


class Net:
    """A ledger with two validators (1 and 3 STOS) and blocks made by hand."""

    def __init__(self, **staking_params: Any) -> None:
        self.ledger = Ledger(
            Genesis(
                network="unit",
                time_ms=0,
                ledger=LedgerParams(staking=StakingParams(**staking_params)),
                foundation_wei="0",
                accounts=(GenesisAccount(address=ALICE, balance_wei=str(100 * STOS)),),
                validators=(
                    GenesisValidator(
                        operator=OPERATOR_1, node_public_key=KEY_1.public_key, stake_wei=str(STOS), commission_bp=1000
                    ),
                    GenesisValidator(operator=OPERATOR_2, node_public_key=KEY_2.public_key, stake_wei=str(3 * STOS)),
                ),
            )
        )
        self.state = MemoryStore()
        self.height = 1
        branch = Branch(self.state)
        self.ledger.init_genesis(branch)
        self.state.apply(branch.changes())

    def block(self, *messages: tuple[bytes, Any], day: float = 0, fees: int = 0, **context: Any) -> tuple[Any, ...]:
        """One block with these (sender, message) pairs; its voters. Fees appear in the collector beforehand."""
        self.height += 1
        at = BlockContext(height=self.height, time_ms=int(day * 86_400_000), **context)
        branch = Branch(self.state)
        if fees:
            bank.mint(branch, bank.FEE_COLLECTOR, fees)
        self.ledger.begin_block(branch, at)
        for sender, message in messages:
            effects = branch.branch()
            self.ledger.handle(effects, sender, message, at)
            effects.merge()
        end = self.ledger.end_block(branch, at)
        self.state.apply(branch.changes())
        return end.validators


def test_voters_are_sorted_and_weighted_by_stake() -> None:
    """Weight = stake // power unit, sorted by address."""
    voters = Net().block()
    assert {voter.address: voter.weight for voter in voters} == {KEY_1.address: 1000, KEY_2.address: 3000}
    assert list(voters) == sorted(voters, key=lambda voter: voter.address)


def test_delegation_moves_weight_and_comes_back_after_21_days() -> None:
    """Undelegated stake has no weight at once and its money on day 21."""
    net = Net()
    voters = net.block((ALICE, Delegate(KEY_1.address, str(2 * STOS))))
    assert {voter.address: voter.weight for voter in voters}[KEY_1.address] == 3000
    voters = net.block((ALICE, Undelegate(KEY_1.address, str(STOS))))
    assert {voter.address: voter.weight for voter in voters}[KEY_1.address] == 2000
    assert bank.balance(net.state, ALICE) == 98 * STOS
    net.block(day=20.99)
    assert bank.balance(net.state, ALICE) == 98 * STOS
    net.block(day=21)
    assert bank.balance(net.state, ALICE) == 99 * STOS


def test_many_stakes_that_are_due_come_back_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of a block is bounded: the oldest come first, the next block goes on."""
    monkeypatch.setattr("stratos.ledger.staking.MAX_DUE_PER_BLOCK", 1)
    net = Net()
    net.block((ALICE, Delegate(KEY_1.address, str(5 * STOS))))
    net.block((ALICE, Undelegate(KEY_1.address, str(STOS))))
    net.block((ALICE, Undelegate(KEY_1.address, str(2 * STOS))), day=1)
    for balance in (96, 98, 98):
        net.block(day=30)
        assert bank.balance(net.state, ALICE) == balance * STOS


def test_one_cannot_take_back_more_than_one_gave() -> None:
    """Undelegating is bounded by the delegation's worth."""
    net = Net()
    with pytest.raises(LedgerError, match="undelegate at most"):
        net.block((ALICE, Undelegate(KEY_1.address, "1")))
    net.block((ALICE, Delegate(KEY_1.address, "5")))
    with pytest.raises(LedgerError, match="undelegate at most"):
        net.block((ALICE, Undelegate(KEY_1.address, "6")))


def test_fees_go_by_stake_with_commission() -> None:
    """Without a proposer bonus 1:3; a tenth of validator 1's rewards is commission."""
    net = Net()
    net.block((ALICE, Delegate(KEY_1.address, str(2 * STOS))))
    net.block(fees=6000)
    net.block(
        (ALICE, WithdrawDelegationRewards(KEY_1.address)),
        (OPERATOR_1, WithdrawDelegationRewards(KEY_1.address)),
        (OPERATOR_2, WithdrawDelegationRewards(KEY_2.address)),
    )
    assert bank.balance(net.state, ALICE) == 98 * STOS + 1800
    assert bank.balance(net.state, OPERATOR_1) == 900 + 300
    assert bank.balance(net.state, OPERATOR_2) == 3000


def test_the_proposer_gets_its_bonus() -> None:
    """1 % + 4 % of the weight that signed, before the rest goes by stake."""
    net = Net()
    net.block(fees=100_000, proposer=KEY_1.address, signed=(KEY_2.address,), missed=(KEY_1.address,))
    bonus = 4000
    record = distribution.VALIDATORS.get(net.state, KEY_1.address)
    assert record is not None
    assert int(record.commission_wei) == (bonus + 24_000) // 10
    assert distribution.ALLOCATED.get(net.state) == 100_000


def test_what_nobody_can_get_waits() -> None:
    """Without voters the chain part stays in the collector."""
    ledger = Ledger(Genesis(network="unit", time_ms=0, foundation_wei="0"))
    branch = Branch(MemoryStore())
    ledger.init_genesis(branch)
    bank.mint(branch, bank.FEE_COLLECTOR, 1000)
    context = BlockContext(height=2, time_ms=0)
    ledger.begin_block(branch, context)
    assert ledger.end_block(branch, context).validators == ()
    assert (bank.balance(branch, bank.FEE_COLLECTOR), distribution.ALLOCATED.get(branch)) == (1000, 0)


def test_missing_too_much_costs_and_jails_for_a_time() -> None:
    """Beyond the window's bound: 0.02 % burned, no vote for six hours, then back by itself."""
    net = Net(signed_blocks_window=10, min_signed_per_window="0.5")
    both = (KEY_1.address, KEY_2.address)
    for _ in range(10):
        net.block(signed=both)
    for _ in range(5):
        voters = net.block(signed=both[1:], missed=both[:1])
    assert len(voters) == 2
    voters = net.block(signed=both[1:], missed=both[:1])
    assert [voter.address for voter in voters] == [KEY_2.address]
    record = staking.validator(net.state, KEY_1.address)
    assert int(record.tokens_wei) == STOS - STOS * 2 // 10_000
    assert len(net.block(day=0.2499)) == 1
    assert len(net.block(day=0.25)) == 2


def test_signing_again_clears_old_misses() -> None:
    """The window slides: misses that fall out are forgotten."""
    net = Net(signed_blocks_window=10, min_signed_per_window="0.5")
    both = (KEY_1.address, KEY_2.address)
    for round_number in range(60):
        missing = round_number % 2 == 0
        signed = both[1:] if missing else both
        voters = net.block(signed=signed, missed=both[:1] if missing else ())
    assert len(voters) == 2


def _vote(net: Net, key: NodeKey, block_hash: bytes, round_number: int = 0) -> bytes:
    body = vote_body(layer="value", height=5, round_number=round_number, block_hash=block_hash)
    signature = key.sign(sign_bytes(b"prevote", net.ledger.genesis_hash, body))
    return encode(Vote(PREVOTE, 5, round_number, block_hash, 0, signature))


def test_signing_twice_costs_five_percent_and_the_seat() -> None:
    """Two votes of one round: 5 % of the stake and of what was undelegated since, and never a vote again."""
    net = Net()
    net.block((ALICE, Delegate(KEY_1.address, str(2 * STOS))))
    net.height = 10
    net.block((ALICE, Undelegate(KEY_1.address, str(STOS))))
    evidence = DoubleSignEvidence(KEY_1.address, _vote(net, KEY_1, b"x" * 32), _vote(net, KEY_1, b"y" * 32))
    voters = net.block((OPERATOR_2, evidence))
    assert [voter.address for voter in voters] == [KEY_2.address]
    assert int(staking.validator(net.state, KEY_1.address).tokens_wei) == 2 * STOS * 95 // 100
    net.block(day=21)
    assert bank.balance(net.state, ALICE) == 98 * STOS + STOS * 95 // 100
    with pytest.raises(LedgerError, match="already punished"):
        net.block((ALICE, evidence))
    with pytest.raises(LedgerError, match="out for ever"):
        net.block((ALICE, Delegate(KEY_1.address, "1")))


def test_evidence_must_prove_something() -> None:
    """Same block, another round, a foreign signature, or no vote at all prove nothing."""
    net = Net()
    good = _vote(net, KEY_1, b"x" * 32)
    for other in (good, _vote(net, KEY_1, b"y" * 32, 1), _vote(net, KEY_2, b"y" * 32), b"junk"):
        with pytest.raises(LedgerError):
            net.block((ALICE, DoubleSignEvidence(KEY_1.address, good, other)))


def test_anybody_may_become_a_validator_once() -> None:
    """A new node key with enough stake votes; the same key is refused."""
    net = Net()
    message = CreateValidator(NodeKey(b"3" * 32).public_key, str(STOS), 0, "third")
    assert len(net.block((ALICE, message))) == 3
    with pytest.raises(LedgerError, match="exists already"):
        net.block((ALICE, message))
    with pytest.raises(LedgerError, match="gives no vote"):
        net.block((ALICE, CreateValidator(NodeKey(b"4" * 32).public_key, "1", 0, "fourth")))


def test_a_validator_announces_where_it_answers() -> None:
    """Only its operator may say so, and may take it back; the record that others compute stake from stays as it was."""
    net = Net()
    before = distribution.VALIDATORS.get(net.state, KEY_1.address)
    net.block((OPERATOR_1, AnnounceValidator(KEY_1.address, "10.0.0.7:26656")))
    assert staking.NETWORK_ADDRESSES.get(net.state, KEY_1.address) == "10.0.0.7:26656"
    with pytest.raises(LedgerError, match="does not operate"):
        net.block((OPERATOR_2, AnnounceValidator(KEY_1.address, "10.0.0.8:26656")))
    with pytest.raises(LedgerError, match="not a validator"):
        net.block((OPERATOR_2, AnnounceValidator(b"n" * 20, "10.0.0.8:26656")))
    net.block((OPERATOR_1, AnnounceValidator(KEY_1.address, "")))
    assert staking.NETWORK_ADDRESSES.get(net.state, KEY_1.address) is None
    after = distribution.VALIDATORS.get(net.state, KEY_1.address)
    assert before is not None and after is not None
    assert before.tokens_wei == after.tokens_wei


@pytest.mark.parametrize("wrong", ["nowhere", "a b:1", "x:123456", ":1"])
def test_what_is_no_endpoint_is_not_even_a_message(wrong: str) -> None:
    """A malformed endpoint is refused where bytes become records."""
    with pytest.raises(WireError):
        decode(encode(AnnounceValidator(KEY_1.address, wrong)), AnnounceValidator)
