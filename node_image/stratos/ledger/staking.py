"""Validators, delegations and the set of voters (protocol 6, last line).

A delegation is a number of shares of its validator's tokens, so a slash costs every delegator the same proportion
without touching their records. Stakes lie in one pool; undelegated money waits there 21 days and can still be slashed for
what its validator did before. The voters of the next heights are kept as one record, rewritten when a stake or a jail
changes, so that the end of an ordinary block only reads it. The set never becomes empty: when it would, the last one stays,
because a chain without voters cannot even repair itself.
"""

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct, structs

from stratos.crypto.keys import node_address
from stratos.ledger import bank, distribution
from stratos.ledger.context import BlockContext
from stratos.ledger.distribution import DELEGATIONS, VALIDATORS, Delegation, ValidatorRecord
from stratos.ledger.errors import DUPLICATE, FUNDS, INVALID, UNKNOWN, LedgerError
from stratos.ledger.events import event
from stratos.ledger.fixed import Fixed
from stratos.ledger.rules import Rules
from stratos.state import Branch, CounterTable, Reader, Table
from stratos.wire.block import Event, Validator
from stratos.wire.genesis import GenesisValidator
from stratos.wire.limits import MAX_DUE_PER_BLOCK
from stratos.wire.scalars import Address, Amount, Height
from stratos.wire.txs import AnnounceValidator, CreateValidator, Delegate, Undelegate, WithdrawDelegationRewards


class UnbondingStake(Struct, frozen=True, array_like=True):
    """Undelegated money on its way back."""

    delegator: Address
    validator: Address
    amount_wei: Amount
    height: Height


VOTERS = Table(b"staking/voters", tuple[Validator, ...])
NETWORK_ADDRESSES = Table(b"staking/network_address/", str)
"""Where validators that have announced it answer; apart from their records, which are older."""
_UNBONDING = Table(b"staking/unbonding/", UnbondingStake)
_UNBONDING_COUNT = CounterTable(b"staking/unbonding_count")


def voters(reader: Reader) -> tuple[Validator, ...]:
    """The voters as of the state, sorted by address."""
    return VOTERS.get(reader, b"") or ()


def validator(reader: Reader, address: bytes) -> ValidatorRecord:
    """The validator at a node address; LedgerError(unknown) when there is none."""
    record = VALIDATORS.get(reader, address)
    if record is None:
        raise LedgerError(UNKNOWN, f"{address.hex()} is not a validator; name one of the registered ones")
    return record


def genesis_validator(state: Branch, rules: Rules, of: GenesisValidator) -> None:
    """A validator that exists from genesis; its stake is new supply."""
    bank.mint(state, of.operator, int(of.stake_wei))
    message = CreateValidator(of.node_public_key, of.stake_wei, of.commission_bp, of.name)
    _create(state, bank.recipient_wallet(of.operator), message, height=0)
    refresh_voters(state, rules)


def handle_create_validator(
    state: Branch, rules: Rules, sender: bytes, message: CreateValidator, context: BlockContext
) -> list[Event]:
    """Become the operator of a validator with own stake."""
    if int(message.stake_wei) < rules.power_unit_wei:
        raise LedgerError(
            INVALID, f"a stake of {message.stake_wei} wei gives no vote; stake at least {rules.power_unit_wei}"
        )
    address = _create(state, sender, message, height=context.height)
    refresh_voters(state, rules)
    return [event("validator_created", validator=address, operator=sender, stake=message.stake_wei)]


def handle_announce(state: Branch, sender: bytes, message: AnnounceValidator) -> list[Event]:
    """Note where a validator answers; others dial it there and believe nothing but its key."""
    record = validator(state, message.validator)
    if record.operator != sender:
        raise LedgerError(
            INVALID,
            f"{sender.hex()} does not operate validator {record.address.hex()}; its operator is {record.operator.hex()}",
        )
    if message.network_address:
        NETWORK_ADDRESSES.set(state, record.address, message.network_address)
    else:
        NETWORK_ADDRESSES.delete(state, record.address)
    return [event("validator_announced", validator=record.address, network_address=message.network_address)]


def handle_delegate(state: Branch, rules: Rules, sender: bytes, message: Delegate) -> list[Event]:
    """Add stake to a validator; pending rewards of the delegation are paid out first."""
    amount = bank.positive(message.amount_wei, "the delegated amount")
    record = validator(state, message.validator)
    if record.tombstoned:
        raise LedgerError(INVALID, f"validator {record.address.hex()} signed twice and is out for ever; choose another")
    paid = _delegate(state, sender, record, amount)
    refresh_voters(state, rules)
    return [event("delegated", validator=record.address, delegator=sender, amount=amount, rewards=paid)]


def handle_undelegate(
    state: Branch, rules: Rules, sender: bytes, message: Undelegate, context: BlockContext
) -> list[Event]:
    """Take stake back; it is paid out after the unbonding time."""
    amount = bank.positive(message.amount_wei, "the undelegated amount")
    record = validator(state, message.validator)
    key = record.address + sender
    delegation = DELEGATIONS.get(state, key)
    held = 0 if delegation is None else record.worth(delegation)
    if delegation is None or amount > held:
        raise LedgerError(
            FUNDS, f"{sender.hex()} has {held} wei with validator {record.address.hex()}; undelegate at most that"
        )
    paid = distribution.claim(state, record, delegation, sender)
    shares, total, tokens = int(delegation.shares), int(record.shares), int(record.tokens_wei)
    burned = shares if amount == held else min(shares, -(-amount * total // tokens))
    if shares == burned:
        DELEGATIONS.delete(state, key)
    else:
        DELEGATIONS.set(state, key, Delegation(str(shares - burned), record.accumulated))
    record = structs.replace(record, tokens_wei=str(tokens - amount), shares=str(total - burned))
    VALIDATORS.set(state, record.address, record)
    release_ms = context.time_ms + rules.stake_unbonding_ms
    number = _UNBONDING_COUNT.add(state, b"", 1)
    queued = UnbondingStake(sender, record.address, str(amount), context.height)
    _UNBONDING.set(state, release_ms.to_bytes(8, "big") + number.to_bytes(8, "big"), queued)
    refresh_voters(state, rules)
    return [
        event(
            "undelegated",
            validator=record.address,
            delegator=sender,
            amount=amount,
            rewards=paid,
            release_ms=release_ms,
        )
    ]


def handle_withdraw_rewards(state: Branch, sender: bytes, message: WithdrawDelegationRewards) -> list[Event]:
    """Pay out pending delegation rewards, and the commission when the sender is the operator."""
    record = validator(state, message.validator)
    delegation = DELEGATIONS.get(state, record.address + sender)
    if delegation is None and record.operator != sender:
        raise LedgerError(UNKNOWN, f"{sender.hex()} has no stake with validator {record.address.hex()}; delegate first")
    paid = distribution.claim(state, record, delegation, sender) if delegation is not None else 0
    commission = distribution.claim_commission(state, record) if record.operator == sender else 0
    return [event("delegation_rewards", validator=record.address, delegator=sender, amount=paid, commission=commission)]


def release_due(state: Branch, context: BlockContext) -> list[Event]:
    """Pay out undelegated stakes whose time has come, oldest first; many go on in the next block."""
    events = []
    for key, queued in list(islice(_queued_until(state, context.time_ms), MAX_DUE_PER_BLOCK)):
        _UNBONDING.delete(state, key)
        amount = int(queued.amount_wei)
        bank.move(state, bank.STAKES, queued.delegator, amount)
        events.append(event("stake_released", delegator=queued.delegator, validator=queued.validator, amount=amount))
    return events


def slash(
    state: Branch, record: ValidatorRecord, fraction: Fixed, *, since_height: int | None
) -> tuple[ValidatorRecord, int]:
    """Burn trunc(fraction) of a validator's tokens, and of stakes undelegated from it since a height."""
    cut = (Fixed.of(int(record.tokens_wei)) * fraction).trunc()
    record = structs.replace(record, tokens_wei=str(int(record.tokens_wei) - cut))
    VALIDATORS.set(state, record.address, record)
    burned = cut
    if since_height is not None:
        for key, queued in list(_UNBONDING.items(state)):
            if queued.validator == record.address and queued.height >= since_height:
                cut = (Fixed.of(int(queued.amount_wei)) * fraction).trunc()
                left = structs.replace(queued, amount_wei=str(int(queued.amount_wei) - cut))
                _UNBONDING.set(state, key, left)
                burned += cut
    bank.burn(state, bank.STAKES, burned)
    return record, burned


def refresh_voters(state: Branch, rules: Rules) -> None:
    """Recompute who votes: not jailed, weight above 0, the largest stakes first, ties by address."""
    able = [
        record
        for _, record in VALIDATORS.items(state)
        if not record.jailed and not record.tombstoned and int(record.tokens_wei) >= rules.power_unit_wei
    ]
    if not able:
        return
    able.sort(key=lambda record: (-int(record.tokens_wei), record.address))
    chosen = sorted(able[: rules.max_validators], key=lambda record: record.address)
    VOTERS.set(
        state,
        b"",
        tuple(
            Validator(record.address, record.public_key, int(record.tokens_wei) // rules.power_unit_wei)
            for record in chosen
        ),
    )


def _create(state: Branch, operator: bytes, message: CreateValidator, *, height: int) -> bytes:
    address = node_address(message.node_public_key)
    if VALIDATORS.get(state, address) is not None:
        raise LedgerError(DUPLICATE, f"validator {address.hex()} exists already; use another node key")
    record = ValidatorRecord(
        address=address,
        public_key=message.node_public_key,
        operator=operator,
        name=message.name,
        commission_bp=message.commission_bp,
        start_height=height,
    )
    VALIDATORS.set(state, address, record)
    if int(message.stake_wei) > 0:
        _delegate(state, operator, record, int(message.stake_wei))
    return address


def _delegate(state: Branch, delegator: bytes, record: ValidatorRecord, amount: int) -> int:
    """Move the money, give shares for it, and return the rewards paid on the way."""
    bank.move(state, delegator, bank.STAKES, amount)
    key = record.address + delegator
    delegation = DELEGATIONS.get(state, key)
    paid = 0
    held = 0
    if delegation is not None:
        paid = distribution.claim(state, record, delegation, delegator)
        held = int(delegation.shares)
    tokens, shares = int(record.tokens_wei), int(record.shares)
    if shares > 0 and tokens == 0:
        raise LedgerError(INVALID, f"validator {record.address.hex()} was slashed to nothing; choose another")
    added = amount if shares == 0 else amount * shares // tokens
    DELEGATIONS.set(state, key, Delegation(str(held + added), record.accumulated))
    VALIDATORS.set(
        state, record.address, structs.replace(record, tokens_wei=str(tokens + amount), shares=str(shares + added))
    )
    return paid


def _queued_until(reader: Reader, now_ms: int) -> Iterator[tuple[bytes, UnbondingStake]]:
    for key, queued in _UNBONDING.items(reader):
        if int.from_bytes(key[:8], "big") > now_ms:
            return
        yield key, queued
