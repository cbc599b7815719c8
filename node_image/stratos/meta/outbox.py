"""The outbox: what the meta layer has decided the chain must do, signed by a quorum of authorities (protocol 1, 6).

The log itself decides that an action exists; authorities only add their signature over its message. With quorum(n)
signatures it is ready, and any wallet may carry the same bytes to the chain, so a dead submitter delays but never
prevents. The chain's answer comes back over the bridge. One action per node at a time.
"""

from msgspec import structs

from stratos.bft.quorum import quorum
from stratos.crypto.signing import sign_bytes
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.errors import MetaError
from stratos.meta.rooms import ACTION, AUTHORITY, NEXT_ACTION, NODE_ACTION, Action, Authority, u64
from stratos.state import Branch, Reader
from stratos.wire.codec import decode, encode
from stratos.wire.metalog import ActionSignature
from stratos.wire.txs import (
    TAG_ACTION,
    ActionMessage,
    AuthoritySignature,
    VolumeReport,
    action_body,
)

KEPT_ACTIONS = 256
IN_FLIGHT = ""
INCLUDED = "included"


def authorities(reader: Reader) -> list[Authority]:
    """Active meta nodes by address."""
    return [authority for _, authority in AUTHORITY.items(reader) if authority.active]


def next_action_id(reader: Reader) -> int:
    """Id of the next action."""
    return NEXT_ACTION.get(reader) + 1


def decide(branch: Branch, context: BlockContext, message: ActionMessage, *, node: bytes) -> int:
    """Put a message into the outbox; `message.action_id` must be `next_action_id` (reports have none). Returns the id."""
    action_id = next_action_id(branch)
    NEXT_ACTION.set(branch, b"", action_id)
    kind = type(message).__struct_config__.tag
    ACTION.set(
        branch,
        u64(action_id),
        Action(action_id, action_body(message), str(kind), node, (), 0, context.time_ms, IN_FLIGHT),
    )
    if node:
        NODE_ACTION.set(branch, node, action_id)
    if action_id > KEPT_ACTIONS:
        old = ACTION.get(branch, u64(action_id - KEPT_ACTIONS))
        if old is not None and old.outcome != IN_FLIGHT:
            ACTION.delete(branch, u64(action_id - KEPT_ACTIONS))
    context.events("action", (("id", str(action_id)), ("kind", str(kind)), ("node", node.hex())))
    return action_id


def sign(branch: Branch, context: BlockContext, author: bytes, body: ActionSignature) -> None:
    """An authority's signature for an action."""
    authority = AUTHORITY.get(branch, author)
    if authority is None or not authority.active:
        raise MetaError("authority", f"{author.hex()} is not an active meta node; only authorities sign actions")
    action = ACTION.get(branch, u64(body.action_id))
    if action is None or action.outcome != IN_FLIGHT:
        raise MetaError("action", f"action {body.action_id} is unknown or settled; nothing to sign")
    if any(address == author for address, _ in action.signatures):
        raise MetaError("duplicate", f"{author.hex()} has signed action {body.action_id} already")
    message = sign_bytes(TAG_ACTION, context.genesis_hash, action.message)
    if not context.verify(authority.public_key, message, body.signature):
        raise MetaError(
            "signature",
            f"the signature of {author.hex()} does not fit action {body.action_id}; sign its message as it stands",
        )
    signatures = tuple(sorted((*action.signatures, (author, body.signature))))
    ready = action.ready_height
    if ready == 0 and len(signatures) >= quorum(len(authorities(branch))):
        ready = context.height
    ACTION.set(branch, u64(action.id), structs.replace(action, signatures=signatures, ready_height=ready))


def signed_message(action: Action) -> ActionMessage:
    """The message with its signatures, as the chain wants it. The ready bytes never change: signatures are sorted and
    those that come later are simply more of them."""
    message: ActionMessage = decode(action.message, ActionMessage)  # type: ignore[arg-type]
    return structs.replace(
        message, signatures=tuple(AuthoritySignature(address, signature) for address, signature in action.signatures)
    )


def may_act(reader: Reader, context: BlockContext, node: bytes) -> bool:
    """Whether a new action about this node may be decided: none waits for the chain, and a refusal is an epoch old."""
    action = ACTION.get(reader, u64(NODE_ACTION.get(reader, node)))
    if action is None or action.outcome == INCLUDED:
        return True
    return action.outcome != IN_FLIGHT and context.time_ms - action.created_ms >= milliseconds(
        context.params.epoch_seconds
    )


def resolve(branch: Branch, context: BlockContext, action_id: int, outcome: str) -> None:
    """The chain has included or refused an action; a second answer about the same one changes nothing."""
    action = ACTION.get(branch, u64(action_id))
    if action is None or action.outcome != IN_FLIGHT:
        return
    ACTION.set(branch, u64(action_id), structs.replace(action, outcome=outcome[:64]))
    context.events("action_settled", (("id", str(action_id)), ("outcome", outcome)))


def is_report(action: Action) -> bool:
    """Whether an action is a volume report."""
    return action.kind == str(VolumeReport.__struct_config__.tag)


def in_flight(reader: Reader) -> list[Action]:
    """Actions that wait for signatures or for the chain, oldest first."""
    return [action for _, action in ACTION.items(reader) if action.outcome == IN_FLIGHT]


def encoded(message: ActionMessage) -> bytes:
    """Bytes of an action message with its signatures."""
    return encode(message)
