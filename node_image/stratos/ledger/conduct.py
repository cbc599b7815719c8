"""How validators behave: missed blocks, and signing twice (protocol 6, last line).

Misses are counted in a sliding window of heights, one bit per height, stored only for validators that have missed
something, so an honest set costs nothing. Too many cost 0.02 % of the stake and six hours; the validator comes back by
itself when they are over, with a clean window. Two votes for different blocks in one round cost 5 %, of stakes
undelegated since that height too, and the seat for ever.
"""

from msgspec import Struct, structs

from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.ledger import staking
from stratos.ledger.context import BlockContext
from stratos.ledger.distribution import VALIDATORS, ValidatorRecord
from stratos.ledger.errors import DUPLICATE, INVALID, LedgerError
from stratos.ledger.events import event
from stratos.ledger.rules import Rules
from stratos.state import Branch, Table
from stratos.wire.block import PREVOTE, Event, Vote, vote_body
from stratos.wire.codec import WireError, decode
from stratos.wire.txs import DoubleSignEvidence


class Misses(Struct, frozen=True, array_like=True):
    """Missed heights of one validator: how many bits are set, and the bits, height modulo window."""

    count: int
    bits: bytes


MISSES = Table(b"staking/misses/", Misses)
_JAIL_ENDS = b"staking/jail_end/"


def judge_commit(state: Branch, rules: Rules, context: BlockContext) -> list[Event]:
    """Note who signed the last block; jail whoever missed too many."""
    events: list[Event] = []
    position = context.height % rules.signed_blocks_window
    for address in context.signed:
        misses = MISSES.get(state, address)
        if misses is not None and _bit(misses.bits, position):
            _store(state, address, Misses(misses.count - 1, _flip(misses.bits, position)))
    for address in context.missed:
        misses = MISSES.get(state, address) or Misses(0, bytes(-(-rules.signed_blocks_window // 8)))
        if not _bit(misses.bits, position):
            misses = Misses(misses.count + 1, _flip(misses.bits, position))
            _store(state, address, misses)
        record = VALIDATORS.get(state, address)
        judged = record is not None and context.height > record.start_height + rules.signed_blocks_window
        if record is not None and judged and not record.jailed and misses.count > rules.max_missed:
            events.append(_jail(state, rules, record, context))
    return events


def free_due(state: Branch, rules: Rules, context: BlockContext) -> list[Event]:
    """Let validators vote again whose jail time is over."""
    events: list[Event] = []
    start = len(_JAIL_ENDS)
    for key, _ in list(state.items(_JAIL_ENDS)):
        if int.from_bytes(key[start : start + 8], "big") > context.time_ms:
            break
        state.delete(key)
        record = VALIDATORS.get(state, key[-20:])
        if record is not None and record.jailed:
            record = structs.replace(record, jailed=False, jailed_until_ms=0, start_height=context.height)
            VALIDATORS.set(state, record.address, record)
            events.append(event("validator_freed", validator=record.address))
    if events:
        staking.refresh_voters(state, rules)
    return events


def handle_evidence(state: Branch, rules: Rules, message: DoubleSignEvidence, genesis_hash: bytes) -> list[Event]:
    """Punish a validator for two votes in one round."""
    record = staking.validator(state, message.validator)
    if record.tombstoned:
        raise LedgerError(DUPLICATE, f"validator {record.address.hex()} was already punished for signing twice")
    first, second = _vote(message.vote_a), _vote(message.vote_b)
    same_step = (first.height, first.round, first.kind) == (second.height, second.round, second.kind)
    if not same_step or first.block_hash == second.block_hash:
        raise LedgerError(INVALID, "the two votes do not contradict each other; send votes of one round and kind")
    for vote in (first, second):
        if not verify_node(record.public_key, _signed(vote, genesis_hash), vote.signature):
            raise LedgerError(INVALID, f"a vote was not signed by validator {record.address.hex()}; nothing is proven")
    record, burned = staking.slash(state, record, rules.slash_double_sign, since_height=first.height)
    VALIDATORS.set(state, record.address, structs.replace(record, tombstoned=True))
    staking.refresh_voters(state, rules)
    return [event("double_sign", validator=record.address, height=first.height, slashed=burned)]


def _jail(state: Branch, rules: Rules, record: ValidatorRecord, context: BlockContext) -> Event:
    until = context.time_ms + rules.jail_ms
    record, burned = staking.slash(state, record, rules.slash_downtime, since_height=None)
    VALIDATORS.set(state, record.address, structs.replace(record, jailed=True, jailed_until_ms=until))
    MISSES.delete(state, record.address)
    state.set(_JAIL_ENDS + until.to_bytes(8, "big") + record.address, b"")
    staking.refresh_voters(state, rules)
    return event("validator_jailed", validator=record.address, until_ms=until, slashed=burned)


def _vote(data: bytes) -> Vote:
    try:
        return decode(data, Vote)
    except WireError as error:
        raise LedgerError(INVALID, f"the evidence does not hold a vote: {error}") from error


def _signed(vote: Vote, genesis_hash: bytes) -> bytes:
    tag = b"prevote" if vote.kind == PREVOTE else b"precommit"
    body = vote_body(layer="value", height=vote.height, round_number=vote.round, block_hash=vote.block_hash)
    return sign_bytes(tag, genesis_hash, body)


def _store(state: Branch, address: bytes, misses: Misses) -> None:
    if misses.count == 0:
        MISSES.delete(state, address)
    else:
        MISSES.set(state, address, misses)


def _bit(bits: bytes, position: int) -> bool:
    return bool(bits[position >> 3] >> (position & 7) & 1)


def _flip(bits: bytes, position: int) -> bytes:
    changed = bytearray(bits)
    changed[position >> 3] ^= 1 << (position & 7)
    return bytes(changed)
