"""The vote on new rules: operators of validators propose a version and a height, more than two thirds of the power approve it.

A poll is about one (version, height) and open for as long as other polls are, at most until its height. A proposal is its
proposer's approval, as with a kick, unless the proposer votes otherwise; a validator has one proposal open, a new one takes the place of the
old. Power is that of the voters at the time of counting. A poll closes when it passes, and then all others with it;
when approvals can no longer reach two thirds; when its time is over.

What passes becomes the plan: there is one, and a later poll that passes before its height replaces it. Proposing the version
that holds (with height 0) asks to cancel the plan. The height must be `upgrade_notice_blocks` ahead when it is proposed, so that
there is time to vote and to install programs that know the version; whether this program knows it plays no part here,
because every program must count the same.
"""

from msgspec import Struct, structs

from stratos.bft.quorum import is_quorum
from stratos.ledger import rulebook, staking
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import DUPLICATE, EXPIRED, INVALID, UNKNOWN, LedgerError
from stratos.ledger.events import event
from stratos.ledger.rulebook import PLAN, Plan
from stratos.ledger.rules import Rules
from stratos.state import Branch, Reader, Table
from stratos.wire.block import Event
from stratos.wire.scalars import Address, Count, Height, TimeMs
from stratos.wire.txs import ProposeUpgrade, VoteUpgrade


class UpgradePoll(Struct, frozen=True, kw_only=True):
    """One open vote on new rules, or (height 0, the version that holds) on cancelling the plan."""

    rules_version: Count
    height: Height
    proposer: Address
    expires_ms: TimeMs
    approvals: tuple[Address, ...] = ()
    rejections: tuple[Address, ...] = ()


class Tally(Struct, frozen=True):
    """Power behind a poll, as the voters are now."""

    approving: int
    rejecting: int
    total: int


POLLS = Table(b"upgrade/poll/", UpgradePoll)


def handle_propose(
    state: Branch, rules: Rules, sender: bytes, message: ProposeUpgrade, context: BlockContext
) -> list[Event]:
    """Open a poll, with its proposer's approval."""
    _require_operator(state, sender, message.validator)
    _require_sensible(state, rules, message, context.height)
    key = _key(message)
    if POLLS.get(state, key) is not None:
        raise LedgerError(
            DUPLICATE,
            f"rules version {message.rules_version} at height {message.height} is already proposed; vote on it",
        )
    for old_key, old in list(POLLS.items(state)):
        if old.proposer == message.validator:
            POLLS.delete(state, old_key)
    poll = UpgradePoll(
        rules_version=message.rules_version,
        height=message.height,
        proposer=message.validator,
        expires_ms=context.time_ms + rules.voting_ms,
        approvals=(message.validator,),
    )
    opened = event(
        "upgrade_proposed",
        validator=message.validator,
        rules_version=poll.rules_version,
        at_height=poll.height,
        expires_ms=poll.expires_ms,
    )
    return [opened, *_count(state, key, poll, context)]


def handle_vote(state: Branch, sender: bytes, message: VoteUpgrade, context: BlockContext) -> list[Event]:
    """Count a vote; the plan is made at the vote that reaches more than two thirds."""
    _require_operator(state, sender, message.validator)
    key, voter = _key(message), message.validator
    poll = POLLS.get(state, key)
    if poll is None:
        raise LedgerError(
            UNKNOWN,
            f"no poll about rules version {message.rules_version} at height {message.height} is open; propose it first",
        )
    if context.time_ms > poll.expires_ms:
        raise LedgerError(EXPIRED, "this poll is closed; propose the upgrade again")
    own_proposal = voter == poll.proposer and not message.approve
    if voter in poll.rejections or (voter in poll.approvals and not own_proposal):
        raise LedgerError(DUPLICATE, f"{voter.hex()} has already voted; one vote per validator")
    if message.approve:
        poll = structs.replace(poll, approvals=(*poll.approvals, voter))
    else:
        left = tuple(approving for approving in poll.approvals if approving != voter)
        poll = structs.replace(poll, approvals=left, rejections=(*poll.rejections, voter))
    return _count(state, key, poll, context, voter=voter)


def begin_block(state: Branch, context: BlockContext) -> list[Event]:
    """Let a plan begin whose height has come, and close polls whose time is over; before anything else of the block."""
    events: list[Event] = []
    begun = rulebook.activate_due(state, context.height)
    if begun is not None:
        events.append(event("rules_activated", rules_version=begun.version, at_height=begun.since_height))
    for key, poll in list(POLLS.items(state)):
        overtaken = begun is not None and poll.rules_version <= begun.version
        if overtaken or poll.expires_ms < context.time_ms or 0 < poll.height <= context.height:
            POLLS.delete(state, key)
            events.append(_closed(poll))
    return events


def tally(reader: Reader, poll: UpgradePoll) -> Tally:
    """Power for and against, of the voters as they are."""
    power = {voter.address: voter.weight for voter in staking.voters(reader)}
    return Tally(
        sum(power.get(address, 0) for address in poll.approvals),
        sum(power.get(address, 0) for address in poll.rejections),
        sum(power.values()),
    )


def _count(
    state: Branch, key: bytes, poll: UpgradePoll, context: BlockContext, *, voter: bytes | None = None
) -> list[Event]:
    counted = tally(state, poll)
    events: list[Event] = []
    if voter is not None:
        events.append(
            event(
                "upgrade_voted",
                validator=voter,
                rules_version=poll.rules_version,
                at_height=poll.height,
                approving=counted.approving,
                rejecting=counted.rejecting,
                total=counted.total,
            )
        )
    if is_quorum(counted.approving, counted.total):
        return events + _pass(state, poll, context)
    if not is_quorum(counted.total - counted.rejecting, counted.total):
        POLLS.delete(state, key)
        return [*events, _closed(poll)]
    POLLS.set(state, key, poll)
    return events


def _pass(state: Branch, poll: UpgradePoll, context: BlockContext) -> list[Event]:
    for key, _ in list(POLLS.items(state)):
        POLLS.delete(state, key)
    if poll.height == 0:
        PLAN.delete(state, b"")
        return [event("upgrade_cancelled", rules_version=poll.rules_version)]
    PLAN.set(state, b"", Plan(poll.rules_version, poll.height, context.height))
    return [event("upgrade_approved", rules_version=poll.rules_version, at_height=poll.height)]


def _require_operator(reader: Reader, sender: bytes, address: bytes) -> None:
    record = staking.validator(reader, address)
    if record.operator != sender:
        raise LedgerError(
            UNKNOWN, f"{sender.hex()} does not operate validator {address.hex()}; sign with its operator's wallet"
        )
    if all(voter.address != address for voter in staking.voters(reader)):
        raise LedgerError(UNKNOWN, f"validator {address.hex()} does not vote at present; only voters decide on rules")


def _require_sensible(reader: Reader, rules: Rules, message: ProposeUpgrade, height: int) -> None:
    holding, planned = rulebook.rules(reader).version, rulebook.plan(reader)
    if message.rules_version < holding:
        raise LedgerError(
            INVALID,
            f"rules version {message.rules_version} is older than version {holding}, which holds; rules only go on",
        )
    if message.rules_version == holding:
        if planned is None or message.height != 0:
            raise LedgerError(
                INVALID,
                f"rules version {holding} holds already; propose a newer one, or cancel a plan with version {holding} and height 0",
            )
        return
    earliest = height + rules.upgrade_notice_blocks
    if message.height < earliest:
        raise LedgerError(
            INVALID, f"height {message.height} is too near at height {height}; propose {earliest} or a later one"
        )
    if planned is not None and (planned.version, planned.height) == (message.rules_version, message.height):
        raise LedgerError(
            DUPLICATE, f"rules version {planned.version} at height {planned.height} is approved already; nothing to do"
        )


def _key(about: ProposeUpgrade | VoteUpgrade) -> bytes:
    return about.rules_version.to_bytes(4, "big") + about.height.to_bytes(8, "big")


def _closed(poll: UpgradePoll) -> Event:
    return event("upgrade_poll_closed", rules_version=poll.rules_version, at_height=poll.height)
