"""Who the authorities are: candidates, polls of seven days, kicks, and leaving (protocol 6).

A poll keeps who approved and who rejected; only votes of nodes that are active at the time of counting count, and the
quorum is that of the active nodes then. It closes when it passes, when approvals can no longer reach the quorum, or
after its last second. A candidate that fails gets its deposit back at creation + 14 days. A kick is its proposer's
approval unless the proposer votes otherwise (once, like everybody); its target neither votes nor counts, so the last
active node can never be kicked, and it cannot unbond either: there is always at least one authority.
"""

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct, structs

from stratos.bft.quorum import quorum
from stratos.ledger import register, sds
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import DUPLICATE, EXPIRED, INVALID, UNKNOWN, LedgerError
from stratos.ledger.errors import UNBONDING as UNBONDING_CODE
from stratos.ledger.events import META_ADMITTED, META_CREATED, META_REMOVED, event
from stratos.ledger.register import GONE, LEAVING, META, Node
from stratos.ledger.rules import Rules
from stratos.state import Branch, Reader, Table
from stratos.wire.block import Event
from stratos.wire.limits import MAX_DUE_PER_BLOCK
from stratos.wire.scalars import Address, TimeMs
from stratos.wire.txs import CreateMetaNode, Kick, KickVote, Vote

OPEN = "open"
PASSED = "passed"
FAILED = "failed"


class Poll(Struct, frozen=True, kw_only=True):
    """One vote about one node. `proposer` is empty for an admission."""

    expires_ms: TimeMs
    proposer: bytes = b""
    approvals: tuple[Address, ...] = ()
    rejections: tuple[Address, ...] = ()
    status: str = OPEN


ADMISSIONS = Table(b"register/admission/", Poll)
KICKS = Table(b"register/kick/", Poll)
_EXPIRIES = b"register/expiry/"
_ADMISSION = b"a"
_KICK = b"k"


def handle_create_meta(
    state: Branch, rules: Rules, sender: bytes, message: CreateMetaNode, context: BlockContext, genesis_hash: bytes
) -> list[Event]:
    """Register a candidate with its deposit and open its poll."""
    node = register.create(state, META, sender, message, time_ms=context.time_ms, genesis_hash=genesis_hash)
    expires = context.time_ms + rules.voting_ms
    ADMISSIONS.set(state, node.address, Poll(expires_ms=expires))
    KICKS.delete(state, node.address)
    state.set(_expiry_key(expires, _ADMISSION, node.address), b"")
    return [register.created_event(META_CREATED, node)]


def handle_vote(state: Branch, rules: Rules, sender: bytes, message: Vote, context: BlockContext) -> list[Event]:
    """Count a vote on a candidate; it is admitted at the vote that reaches the quorum."""
    _require_voter(state, sender, message.voter)
    candidate = META.get(state, message.candidate)
    poll = ADMISSIONS.get(state, message.candidate)
    if candidate is None or poll is None:
        raise LedgerError(UNKNOWN, f"{message.candidate.hex()} is not a candidate; create_meta_node comes first")
    poll = _cast(poll, message.voter, approve=message.approve, now_ms=context.time_ms)
    voters = {node.address for node in register.active_meta(state)}
    poll = _counted(poll, voters)
    ADMISSIONS.set(state, message.candidate, poll)
    if poll.status == PASSED:
        sds.make_effective(state, rules, candidate.deposit)
        admitted = structs.replace(
            candidate, status=register.BONDED, suspended=False, effective_wei=candidate.deposit_wei
        )
        register.put(state, META, admitted)
        return [_vote_event(message.voter, message.candidate, poll), event(META_ADMITTED, node=candidate.address)]
    events = [_vote_event(message.voter, message.candidate, poll)]
    if poll.status == FAILED:
        events += _refuse_candidate(state, rules, candidate)
    return events


def handle_kick(state: Branch, rules: Rules, sender: bytes, message: Kick, context: BlockContext) -> list[Event]:
    """Open a poll to remove an active meta node."""
    _require_voter(state, sender, message.proposer)
    target = _require_target(state, message.target)
    if message.proposer == message.target:
        raise LedgerError(INVALID, f"{message.target.hex()} cannot kick itself; unbond it instead")
    poll = KICKS.get(state, message.target)
    if poll is not None and poll.status == OPEN and poll.expires_ms >= context.time_ms:
        raise LedgerError(DUPLICATE, f"a kick of {message.target.hex()} is already open; vote on it")
    expires = context.time_ms + rules.voting_ms
    KICKS.set(state, target.address, Poll(expires_ms=expires, proposer=message.proposer))
    state.set(_expiry_key(expires, _KICK, target.address), b"")
    return [event("kick_opened", node=target.address, proposer=message.proposer, expires_ms=expires)]


def handle_kick_vote(
    state: Branch, rules: Rules, sender: bytes, message: KickVote, context: BlockContext
) -> list[Event]:
    """Count a vote on a kick; the target starts unbonding at the vote that reaches the quorum of the others."""
    _require_voter(state, sender, message.voter)
    poll = KICKS.get(state, message.target)
    if poll is None:
        raise LedgerError(UNKNOWN, f"no kick of {message.target.hex()} was opened; kick comes first")
    if message.voter == message.target:
        raise LedgerError(INVALID, f"{message.target.hex()} cannot vote on its own kick")
    poll = _cast(poll, message.voter, approve=message.approve, now_ms=context.time_ms)
    target = _require_target(state, message.target)
    voters = {node.address for node in register.active_meta(state)} - {message.target}
    poll = _counted(poll, voters)
    KICKS.set(state, message.target, poll)
    events = [_vote_event(message.voter, message.target, poll)]
    if poll.status == PASSED:
        events.append(event(META_REMOVED, node=target.address, reason="kicked"))
        events += _unbond_active(state, rules, target, context)
    return events


def unbond_meta(state: Branch, rules: Rules, node: Node, context: BlockContext) -> list[Event]:
    """Unbond an active meta node or withdraw a candidate; never the last active one."""
    if node.status == LEAVING:
        raise LedgerError(UNBONDING_CODE, f"node {node.address.hex()} is already unbonding; nothing to do")
    if node.active:
        if len(register.active_meta(state)) == 1:
            raise LedgerError(
                INVALID, f"{node.address.hex()} is the last active meta node; admit another one before it leaves"
            )
        events = [event(META_REMOVED, node=node.address, reason="unbonding")]
        return events + _unbond_active(state, rules, node, context)
    if node.deposit == 0:
        raise LedgerError(UNKNOWN, f"node {node.address.hex()} is no longer registered; nothing to unbond")
    poll = ADMISSIONS.get(state, node.address)
    if poll is not None:
        ADMISSIONS.set(state, node.address, structs.replace(poll, status=FAILED))
    return _refuse_candidate(state, rules, node)


def close_expired(state: Branch, rules: Rules, context: BlockContext) -> list[Event]:
    """Close polls whose last second is over; candidates among them have failed."""
    events: list[Event] = []
    for key, _ in list(islice(_expired(state, context.time_ms), MAX_DUE_PER_BLOCK)):
        state.delete(key)
        kind, address = key[-21:-20], key[-20:]
        polls = ADMISSIONS if kind == _ADMISSION else KICKS
        poll = polls.get(state, address)
        expires_ms = int.from_bytes(key[-29:-21], "big")
        if poll is None or poll.status != OPEN or poll.expires_ms != expires_ms:
            continue
        polls.set(state, address, structs.replace(poll, status=FAILED))
        events.append(event("poll_expired", node=address))
        node = META.get(state, address)
        if kind == _ADMISSION and node is not None:
            events += _refuse_candidate(state, rules, node)
    return events


def tally(poll: Poll) -> tuple[int, int]:
    """(approvals, rejections) of a poll as cast."""
    return len(_approving(poll)), len(poll.rejections)


def _approving(poll: Poll) -> set[bytes]:
    approving = set(poll.approvals)
    if poll.proposer and poll.proposer not in poll.rejections:
        approving.add(poll.proposer)
    return approving


def _cast(poll: Poll, voter: bytes, *, approve: bool, now_ms: int) -> Poll:
    if poll.status != OPEN or now_ms > poll.expires_ms:
        raise LedgerError(EXPIRED, "this poll is closed; open a new one (kick) or register again (candidate)")
    if voter in poll.approvals or voter in poll.rejections:
        raise LedgerError(DUPLICATE, f"{voter.hex()} has already voted; one vote per active meta node")
    if approve:
        return structs.replace(poll, approvals=(*poll.approvals, voter))
    return structs.replace(poll, rejections=(*poll.rejections, voter))


def _counted(poll: Poll, voters: set[bytes]) -> Poll:
    """The poll with its status after counting the votes of `voters`."""
    needed = quorum(len(voters))
    approvals = len(_approving(poll) & voters)
    rejections = len(set(poll.rejections) & voters)
    if approvals >= needed:
        return structs.replace(poll, status=PASSED)
    if len(voters) - rejections < needed:
        return structs.replace(poll, status=FAILED)
    return poll


def _unbond_active(state: Branch, rules: Rules, node: Node, context: BlockContext) -> list[Event]:
    release = register.release_date(rules, node, context.time_ms)
    return register.start_unbonding(state, rules, META, node, release)


def _refuse_candidate(state: Branch, rules: Rules, node: Node) -> list[Event]:
    return register.start_unbonding(state, rules, META, node, node.created_ms + rules.node_unbonding_ms)


def _require_voter(reader: Reader, sender: bytes, voter: bytes) -> None:
    node = META.get(reader, voter)
    if node is None or not node.active:
        raise LedgerError(UNKNOWN, f"{voter.hex()} is not an active meta node; only active ones vote")
    register.require_owner(node, sender)


def _require_target(reader: Reader, address: bytes) -> Node:
    node = META.get(reader, address)
    if node is None or node.status == GONE:
        raise LedgerError(UNKNOWN, f"{address.hex()} is not an active meta node; only active ones can be kicked")
    if node.status == LEAVING:
        raise LedgerError(UNBONDING_CODE, f"{address.hex()} is already unbonding; nothing to do")
    return node


def _vote_event(voter: bytes, about: bytes, poll: Poll) -> Event:
    approvals, rejections = tally(poll)
    return event("voted", voter=voter, node=about, approvals=approvals, rejections=rejections, status=poll.status)


def _expiry_key(expires_ms: int, kind: bytes, address: bytes) -> bytes:
    return _EXPIRIES + expires_ms.to_bytes(8, "big") + kind + address


def _expired(reader: Reader, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    start = len(_EXPIRIES)
    for key, value in reader.items(_EXPIRIES):
        if int.from_bytes(key[start : start + 8], "big") >= now_ms:
            return
        yield key, value
