"""The chain part of rewards and all fees, shared among validators and their delegators by stake.

Money stays in the fee collector until somebody claims it; `ALLOCATED` says how much of it already belongs to
validators. At the beginning of each block what is not allocated is: the proposer of the last block gets its bonus (1 %
plus 4 % times the weight that signed), the rest goes to the voters by tokens; each validator keeps its commission
and adds the remainder per share to an accumulator. A delegation remembers the accumulator at its last claim, so a
block costs the same for one delegator and for a million. Everything truncates; dust waits in the collector.
"""

from msgspec import Struct, structs

from stratos.ledger import bank
from stratos.ledger.context import BlockContext
from stratos.ledger.fixed import Fixed
from stratos.ledger.rules import BASIS_POINTS, Rules
from stratos.state import AmountTable, Branch, Table
from stratos.wire.block import Validator
from stratos.wire.scalars import Address, Amount, Ed25519Public, Height, Name, TimeMs

_SCALE = 10**30
"""The accumulator counts wei per share in units of 10^-30."""


class ValidatorRecord(Struct, frozen=True, kw_only=True):
    """A validator: its stake, its rewards so far, its standing."""

    address: Address
    public_key: Ed25519Public
    operator: Address
    name: Name = ""
    commission_bp: int = 0
    tokens_wei: Amount = "0"
    shares: str = "0"
    accumulated: str = "0"
    """Rewards per share since the beginning, scaled."""
    commission_wei: Amount = "0"
    """Commission not yet claimed."""
    start_height: Height = 0
    """Signing is judged one full window after this height."""
    jailed: bool = False
    jailed_until_ms: TimeMs = 0
    tombstoned: bool = False

    def worth(self, delegation: "Delegation") -> int:
        """Wei of a delegation's shares."""
        total = int(self.shares)
        return 0 if total == 0 else int(delegation.shares) * int(self.tokens_wei) // total


class Delegation(Struct, frozen=True, array_like=True):
    """Shares of one delegator, and the accumulator at its last claim."""

    shares: str
    accumulated: str


VALIDATORS = Table(b"staking/validator/", ValidatorRecord)
DELEGATIONS = Table(b"staking/delegation/", Delegation)
"""By validator address, then delegator wallet."""
ALLOCATED = AmountTable(b"staking/allocated")


def allocate(state: Branch, rules: Rules, context: BlockContext, voters: tuple[Validator, ...]) -> None:
    """Give what lies unallocated in the fee collector to the voters."""
    available = bank.balance(state, bank.FEE_COLLECTOR) - ALLOCATED.get(state)
    if not voters or available <= 2 * len(voters):
        return
    records = [record for record in (VALIDATORS.get(state, voter.address) for voter in voters) if record is not None]
    tokens = sum(int(record.tokens_wei) for record in records)
    bonus = (Fixed.of(available) * _bonus_share(rules, context, voters)).trunc()
    if all(record.address != context.proposer for record in records):
        bonus = 0
    allocated = 0
    for record in records:
        reward = (available - bonus) * int(record.tokens_wei) // tokens
        if record.address == context.proposer:
            reward += bonus
        if reward > 0 and int(record.shares) > 0:
            _credit(state, record, reward)
            allocated += reward
    ALLOCATED.add(state, b"", allocated)


def claim(state: Branch, record: ValidatorRecord, delegation: Delegation, delegator: bytes) -> int:
    """Pay a delegation's pending rewards and mark them paid; returns wei."""
    pending = pending_rewards(record, delegation)
    if pending > 0:
        DELEGATIONS.set(state, record.address + delegator, structs.replace(delegation, accumulated=record.accumulated))
        _pay(state, delegator, pending)
    return pending


def claim_commission(state: Branch, record: ValidatorRecord) -> int:
    """Pay a validator's commission to its operator; returns wei."""
    commission = int(record.commission_wei)
    if commission > 0:
        VALIDATORS.set(state, record.address, structs.replace(record, commission_wei="0"))
        _pay(state, record.operator, commission)
    return commission


def pending_rewards(record: ValidatorRecord, delegation: Delegation) -> int:
    """Wei a delegation could claim now."""
    return int(delegation.shares) * (int(record.accumulated) - int(delegation.accumulated)) // _SCALE


def _bonus_share(rules: Rules, context: BlockContext, voters: tuple[Validator, ...]) -> Fixed:
    total = sum(voter.weight for voter in voters)
    signed = set(context.signed)
    weight = sum(voter.weight for voter in voters if voter.address in signed)
    if total == 0:
        return Fixed(0)
    return rules.base_proposer_reward + rules.bonus_proposer_reward * (Fixed.of(weight) / total)


def _credit(state: Branch, record: ValidatorRecord, reward: int) -> None:
    commission = reward * record.commission_bp // BASIS_POINTS
    per_share = (reward - commission) * _SCALE // int(record.shares)
    VALIDATORS.set(
        state,
        record.address,
        structs.replace(
            record,
            commission_wei=str(int(record.commission_wei) + commission),
            accumulated=str(int(record.accumulated) + per_share),
        ),
    )


def _pay(state: Branch, wallet: bytes, amount: int) -> None:
    ALLOCATED.add(state, b"", -amount)
    bank.move(state, bank.FEE_COLLECTOR, wallet, amount)
