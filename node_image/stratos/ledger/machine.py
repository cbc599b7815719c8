"""The ledger as one deterministic machine: genesis, begin of block, transactions, end of block.

Pure: state, time and signers are arguments. `handle` runs one message through the very code the chain runs, and raises
LedgerError when it refuses; the caller gives it a branch to throw away then. `deliver_tx` adds what makes a message a
transaction: fee and sequence, kept even when the message fails. Order of a block: rules whose height has come begin, money that is due is released first (so
that it can be used on its day), fees and chain rewards are allocated, transactions run, due rewards mature, and at every
10,000th block + 1 the supply is restored.

A message that a quorum of authorities signed and that is refused is remembered by the hash of what they signed: the
meta layer was told of the refusal and has drawn its conclusions, so the same signed bytes may never succeed later.
"""

from collections.abc import Callable
from typing import Any, cast

from blake3 import blake3

from stratos.ledger import (
    authority,
    bank,
    conduct,
    distribution,
    genesis,
    membership,
    penalties,
    pot,
    register,
    rewards,
    rulebook,
    sds,
    staking,
    upgrades,
)
from stratos.ledger.context import BlockContext, EndBlock
from stratos.ledger.errors import DUPLICATE, FEE, SEQUENCE, LedgerError
from stratos.ledger.events import ACTION_INCLUDED, ACTION_REFUSED, REPORT_REFUSED, event
from stratos.ledger.rules import Rules
from stratos.ledger.signing import wallet_of
from stratos.state import Branch, Reader, Table
from stratos.wire import txs
from stratos.wire.block import EntryResult, Event
from stratos.wire.genesis import Genesis, genesis_hash

_ACTIONS = b"register/action/"
_REFUSED = b"register/refused/"
_ACTION_KINDS = (
    txs.SetEffectiveDeposit,
    txs.Suspend,
    txs.Unsuspend,
    txs.Slash,
    txs.Leave,
    txs.VolumeReport,
)
_BEGIN_EVENTS = Table(b"block/begin_events", tuple[Event, ...])
"""Events of the block's beginning, on their way to its end; never part of a committed state."""
_OK = EntryResult("ok", "", ())

Handler = Callable[[Branch, bytes, Any, BlockContext], list[Event]]


class Ledger:
    """The value layer's state machine for one genesis, in a program that knows rules up to `newest_rules`."""

    def __init__(self, of: Genesis, *, newest_rules: int = rulebook.NEWEST_RULES) -> None:
        self.newest_rules = newest_rules
        self.genesis = of
        self.genesis_hash = genesis_hash(of)
        self.rules = Rules.parse(of.ledger)
        self._handlers = self._table()

    def init_genesis(self, state: Branch) -> list[Event]:
        """Write the first state; the bridge events of height 0. UnknownRules when genesis names newer rules."""
        if self.rules.rules_version > self.newest_rules:
            raise rulebook.UnknownRules(self.rules.rules_version, 0, self.newest_rules)
        return genesis.init(state, self.rules, self.genesis)

    def begin_block(self, state: Branch, context: BlockContext) -> None:
        """Change to voted rules, release what is due, allocate rewards of validators; `end_block` reports all events.

        UnknownRules when this block is under rules that this program does not know.
        """
        rulebook.require_known(state, context.height, self.newest_rules)
        events = upgrades.begin_block(state, context)
        events += membership.close_expired(state, self.rules, context)
        events += register.release_due(state, context)
        events += staking.release_due(state, context)
        events += conduct.free_due(state, self.rules, context)
        if context.signed or context.missed:
            events += conduct.judge_commit(state, self.rules, context)
        distribution.allocate(state, self.rules, context, staking.voters(state))
        if events:
            _BEGIN_EVENTS.set(state, b"", tuple(events))

    def check_tx(self, reader: Reader, tx: txs.Tx, pending_sequence: int | None) -> None:
        """Whether the mempool may take a transaction; LedgerError(sequence or fee) when not.

        `pending_sequence` is the sequence after the sender's transactions already waiting, None without any.
        """
        sender = wallet_of(tx.public_key)
        expected = bank.sequence(reader, sender) if pending_sequence is None else pending_sequence
        if tx.body.sequence != expected:
            raise _sequence_error(tx.body.sequence, expected)
        if bank.balance(reader, sender) < self.rules.gas_price_wei:
            raise _fee_error(sender, bank.balance(reader, sender), self.rules.gas_price_wei)

    def deliver_tx(self, state: Branch, tx: txs.Tx, context: BlockContext) -> EntryResult:
        """Run a transaction whose signature has been checked. Never raises for what a transaction says.

        A wrong sequence or a missing fee changes nothing; otherwise fee and sequence are kept whatever happens.
        """
        sender = wallet_of(tx.public_key)
        body = tx.body
        expected = bank.SEQUENCES.get(state, sender)
        if body.sequence != expected:
            return _failed(_sequence_error(body.sequence, expected))
        fee = self.rules.gas_price_wei
        available = bank.BALANCES.get(state, sender)
        if available < fee:
            return _failed(_fee_error(sender, available, fee))
        bank.BALANCES.set(state, sender, available - fee)
        bank.BALANCES.add(state, bank.FEE_COLLECTOR, fee)
        bank.SEQUENCES.set(state, sender, expected + 1)
        message = body.message
        effects = Branch(state)
        try:
            events = self.handle(effects, sender, message, context)
        except LedgerError as error:
            if error.authorised:
                return self._refused(state, message, error)
            return _failed(error)
        effects.merge()
        return EntryResult("ok", "", tuple(events)) if events else _OK

    def end_block(self, state: Branch, context: BlockContext) -> EndBlock:
        """Mature rewards, restore the supply, and say who votes two heights on."""
        events = list(_BEGIN_EVENTS.get(state, b"") or ())
        if events:
            _BEGIN_EVENTS.delete(state, b"")
        if rewards.has_due(state, self.rules):
            events += rewards.mature_due(state, self.rules, lambda node: register.owner_of(state, node))
        if context.height % self.rules.supply_restore_interval == 1 % self.rules.supply_restore_interval:
            minted = bank.restore_supply(state, self.rules.initial_supply_wei)
            if minted:
                events.append(event("supply_restored", minted=minted))
        return EndBlock(events=tuple(events), validators=staking.voters(state))

    def handle(self, state: Branch, sender: bytes, message: txs.Message, context: BlockContext) -> list[Event]:
        """Run one message of `sender`; LedgerError when refused, and then the branch must be thrown away."""
        if isinstance(message, _ACTION_KINDS):
            return self._act(state, sender, message, context)
        return self._handlers[type(message)](state, sender, message, context)

    def _act(self, state: Branch, sender: bytes, message: txs.ActionMessage, context: BlockContext) -> list[Event]:
        authority.require_quorum(state, self.rules, message, self.genesis_hash)
        if state.get(_refused_key(message)) is not None:
            raise LedgerError(DUPLICATE, "exactly this was signed and refused before; sign a new message")
        if isinstance(message, txs.VolumeReport):
            already = pot.report_of(state, message.epoch) is not None
            events = []
        else:
            key = _ACTIONS + message.action_id.to_bytes(8, "big")
            already = state.get(key) is not None
            if already:
                raise LedgerError(DUPLICATE, f"action {message.action_id} was already included; nothing to do")
            state.set(key, b"\1")
            events = [event(ACTION_INCLUDED, action_id=message.action_id, node=message.node)]
        try:
            return events + self._handlers[type(message)](state, sender, message, context)
        except LedgerError as error:
            error.authorised = not already
            raise

    def _refused(self, state: Branch, message: txs.Message, error: LedgerError) -> EntryResult:
        """Result of a refused message that a quorum had signed: final, and news for the bridge."""
        action = cast(txs.ActionMessage, message)
        state.set(_refused_key(action), b"\1")
        if isinstance(action, txs.VolumeReport):
            told = event(REPORT_REFUSED, epoch=action.epoch, code=error.code)
        else:
            told = event(ACTION_REFUSED, action_id=action.action_id, code=error.code)
        return EntryResult(error.code, error.sentence[:1024], (told,))

    def _table(self) -> dict[type, Handler]:
        rules, name = self.rules, self.genesis_hash
        return {
            txs.Send: lambda state, sender, message, _: bank.handle_send(state, sender, message),
            txs.Delegate: lambda state, sender, message, _: staking.handle_delegate(state, rules, sender, message),
            txs.Undelegate: lambda state, sender, message, context: staking.handle_undelegate(
                state, rules, sender, message, context
            ),
            txs.WithdrawDelegationRewards: lambda state, sender, message, _: staking.handle_withdraw_rewards(
                state, sender, message
            ),
            txs.CreateValidator: lambda state, sender, message, context: staking.handle_create_validator(
                state, rules, sender, message, context
            ),
            txs.AnnounceValidator: lambda state, sender, message, _: staking.handle_announce(state, sender, message),
            txs.DoubleSignEvidence: lambda state, _, message, __: conduct.handle_evidence(state, rules, message, name),
            txs.Prepay: lambda state, sender, message, _: sds.handle_prepay(state, sender, message),
            txs.FileUpload: lambda state, sender, message, context: sds.handle_file_upload(
                state, sender, message, context.height
            ),
            txs.CreateResourceNode: lambda state, sender, message, context: register.handle_create_resource(
                state, rules, sender, message, context, name
            ),
            txs.CreateMetaNode: lambda state, sender, message, context: membership.handle_create_meta(
                state, rules, sender, message, context, name
            ),
            txs.AddDeposit: lambda state, sender, message, _: register.handle_add_deposit(
                state, rules, sender, message
            ),
            txs.Unbond: self._unbond,
            txs.Vote: lambda state, sender, message, context: membership.handle_vote(
                state, rules, sender, message, context
            ),
            txs.Kick: lambda state, sender, message, context: membership.handle_kick(
                state, rules, sender, message, context
            ),
            txs.KickVote: lambda state, sender, message, context: membership.handle_kick_vote(
                state, rules, sender, message, context
            ),
            txs.Withdraw: rewards.handle_withdraw,
            txs.ProposeUpgrade: lambda state, sender, message, context: upgrades.handle_propose(
                state, rules, sender, message, context
            ),
            txs.VoteUpgrade: upgrades.handle_vote,
            txs.SetEffectiveDeposit: lambda state, _, message, __: register.handle_set_effective(state, rules, message),
            txs.Suspend: lambda state, _, message, __: register.handle_suspend(state, rules, message),
            txs.Unsuspend: lambda state, _, message, __: register.handle_unsuspend(state, rules, message),
            txs.Slash: lambda state, _, message, __: penalties.handle_slash(state, rules, message),
            txs.Leave: lambda state, _, message, __: penalties.handle_leave(state, rules, message),
            txs.VolumeReport: lambda state, sender, message, context: pot.handle_volume_report(
                state, rules, sender, message, context
            ),
        }

    def _unbond(self, state: Branch, sender: bytes, message: txs.Unbond, context: BlockContext) -> list[Event]:
        table, node = register.find(state, message.node)
        register.require_owner(node, sender)
        if table is register.META:
            return membership.unbond_meta(state, self.rules, node, context)
        return register.unbond_resource(state, self.rules, node, context)


def _refused_key(message: txs.ActionMessage) -> bytes:
    return _REFUSED + blake3(txs.action_body(message)).digest()


def _sequence_error(found: int, expected: int) -> LedgerError:
    return LedgerError(
        SEQUENCE, f"the sequence is {found} and the account's next is {expected}; sign again with {expected}"
    )


def _fee_error(sender: bytes, available: int, fee: int) -> LedgerError:
    return LedgerError(FEE, f"{sender.hex()} has {available} wei and the fee is {fee}; add funds")


def _failed(error: LedgerError) -> EntryResult:
    return EntryResult(error.code, error.sentence[:1024], ())
