"""Transactions of the value layer: one message each, signed by a wallet.

Messages that act for the meta layer carry a quorum of authority signatures over `action_body` (the message without
its signatures, canonical bytes) with tag b"action"; any wallet may submit them (protocol 1: the next authority in
order submits the same signed bytes). Wallets are raw 20-byte addresses.
"""

from typing import Annotated

from msgspec import Meta, Struct, structs

from stratos.wire import limits
from stratos.wire.codec import encode
from stratos.wire.scalars import (
    Address,
    Amount,
    Count,
    Ed25519Public,
    Ed25519Signature,
    Hash32,
    Height,
    Name,
    Uint,
    WalletPublic,
    WalletSignature,
)

TAG_TX = b"tx"
TAG_ACTION = b"action"
TAG_NODE = b"node"
"""Tag of a node key's agreement to be registered by an owner, over `registration_body`."""


class AuthoritySignature(Struct, frozen=True, array_like=True):
    """One meta authority's signature over `action_body(message)`."""

    authority: Address
    signature: Ed25519Signature


AuthoritySignatures = Annotated[tuple[AuthoritySignature, ...], Meta(max_length=limits.MAX_VALIDATORS)]


class Send(Struct, frozen=True, array_like=True, tag="send"):
    recipient: Address
    amount_wei: Amount


class Delegate(Struct, frozen=True, array_like=True, tag="delegate"):
    validator: Address
    amount_wei: Amount


class Undelegate(Struct, frozen=True, array_like=True, tag="undelegate"):
    validator: Address
    amount_wei: Amount


class WithdrawDelegationRewards(Struct, frozen=True, array_like=True, tag="withdraw_delegation"):
    validator: Address


class CreateValidator(Struct, frozen=True, array_like=True, tag="create_validator"):
    """The sender becomes the operator of a validator with its own stake. Commission in basis points."""

    node_public_key: Ed25519Public
    stake_wei: Amount
    commission_bp: Annotated[int, Meta(ge=0, le=10_000)]
    name: Name


class AnnounceValidator(Struct, frozen=True, array_like=True, tag="announce_validator"):
    """Where a validator answers other validators (host:port), from its operator; empty: nowhere any more. A message of
    its own, so that the bytes and signatures of CreateValidator stay what they were."""

    validator: Address
    network_address: Annotated[
        str, Meta(pattern=r"^((\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5})?$", max_length=262)
    ]


class DoubleSignEvidence(Struct, frozen=True, array_like=True, tag="double_sign"):
    """Two votes of one validator for one (height, round, kind), encoded `stratos.wire.block.Vote` records."""

    validator: Address
    vote_a: Annotated[bytes, Meta(max_length=256)]
    vote_b: Annotated[bytes, Meta(max_length=256)]


class Prepay(Struct, frozen=True, array_like=True, tag="prepay"):
    beneficiary: Address
    amount_wei: Amount


class CreateResourceNode(Struct, frozen=True, array_like=True, tag="create_resource"):
    """Register a resource node owned by the sender. `host` groups nodes of one machine."""

    node_public_key: Ed25519Public
    deposit_wei: Amount
    beneficiary: Address
    name: Name
    host: Name
    network_address: Name
    node_signature: Ed25519Signature


class CreateMetaNode(Struct, frozen=True, array_like=True, tag="create_meta"):
    node_public_key: Ed25519Public
    deposit_wei: Amount
    beneficiary: Address
    name: Name
    host: Name
    network_address: Name
    node_signature: Ed25519Signature


class AddDeposit(Struct, frozen=True, array_like=True, tag="add_deposit"):
    node: Address
    amount_wei: Amount


class Unbond(Struct, frozen=True, array_like=True, tag="unbond"):
    node: Address


class Vote(Struct, frozen=True, array_like=True, tag="vote"):
    """Admission vote by the owner of an active meta node `voter` for `candidate`."""

    voter: Address
    candidate: Address
    approve: bool


class Kick(Struct, frozen=True, array_like=True, tag="kick"):
    """Open a poll to remove an active meta node, by the owner of active meta node `proposer`."""

    proposer: Address
    target: Address


class KickVote(Struct, frozen=True, array_like=True, tag="kick_vote"):
    voter: Address
    target: Address
    approve: bool


class Withdraw(Struct, frozen=True, array_like=True, tag="withdraw"):
    """Move matured Proof-of-Traffic rewards of the sender to `recipient`."""

    amount_wei: Amount
    recipient: Address


class ProposeUpgrade(Struct, frozen=True, array_like=True, tag="propose_upgrade"):
    """Propose that rules `rules_version` hold from block `height` on, by the operator of a voting validator. The version that
    holds already, with height 0, proposes to cancel the plan."""

    validator: Address
    rules_version: Count
    height: Height


class VoteUpgrade(Struct, frozen=True, array_like=True, tag="vote_upgrade"):
    """Vote on a proposed upgrade, by the operator of a voting validator."""

    validator: Address
    rules_version: Count
    height: Height
    approve: bool


class SetEffectiveDeposit(Struct, frozen=True, array_like=True, tag="set_effective_deposit"):
    """Activate a resource node: make `amount_wei` of its deposit effective and lift the suspension."""

    action_id: Uint
    node: Address
    amount_wei: Amount
    signatures: AuthoritySignatures


class Suspend(Struct, frozen=True, array_like=True, tag="suspend"):
    action_id: Uint
    node: Address
    signatures: AuthoritySignatures


class Unsuspend(Struct, frozen=True, array_like=True, tag="unsuspend"):
    action_id: Uint
    node: Address
    signatures: AuthoritySignatures


class Slash(Struct, frozen=True, array_like=True, tag="slash"):
    action_id: Uint
    node: Address
    slashed_noz: Amount
    suspend: bool
    signatures: AuthoritySignatures


class Leave(Struct, frozen=True, array_like=True, tag="leave"):
    action_id: Uint
    node: Address
    migrated_noz: Amount
    completed: bool
    signatures: AuthoritySignatures


class ReportRow(Struct, frozen=True, array_like=True):
    """Traffic of one resource node's beneficiary wallet in a report (a wallet may be listed twice)."""

    wallet: Address
    node: Address
    volume_noz: Amount


class VolumeReport(Struct, frozen=True, array_like=True, tag="volume_report"):
    """Epoch report. `receipts_root` commits to the receipts behind the rows; `withheld` meta nodes get no meta
    share this epoch (they did not reveal their beacon part)."""

    epoch: Uint
    rows: Annotated[tuple[ReportRow, ...], Meta(max_length=limits.MAX_REPORT_ROWS)]
    receipts_root: Hash32
    withheld: Annotated[tuple[Address, ...], Meta(max_length=limits.MAX_VALIDATORS)]
    signatures: AuthoritySignatures


class FileUpload(Struct, frozen=True, array_like=True, tag="file_upload"):
    """Record a file's CID on the chain (optional, public)."""

    file_cid: Annotated[bytes, Meta(min_length=24, max_length=26)]


ActionMessage = SetEffectiveDeposit | Suspend | Unsuspend | Slash | Leave | VolumeReport
Message = (
    Send
    | Delegate
    | Undelegate
    | WithdrawDelegationRewards
    | CreateValidator
    | DoubleSignEvidence
    | Prepay
    | CreateResourceNode
    | CreateMetaNode
    | AddDeposit
    | Unbond
    | Vote
    | Kick
    | KickVote
    | Withdraw
    | SetEffectiveDeposit
    | Suspend
    | Unsuspend
    | Slash
    | Leave
    | VolumeReport
    | FileUpload
    | ProposeUpgrade
    | VoteUpgrade
    | AnnounceValidator
)


def action_body(message: ActionMessage) -> bytes:
    """The bytes an authority signs: the message with no signatures, canonical."""
    return encode(structs.replace(message, signatures=()))


def with_signatures(message: ActionMessage, signatures: tuple[AuthoritySignature, ...]) -> ActionMessage:
    """The same message carrying these authority signatures."""
    return structs.replace(message, signatures=signatures)


def registration_body(owner: bytes, message: CreateResourceNode | CreateMetaNode) -> bytes:
    """The bytes a node key signs (tag TAG_NODE) to agree that `owner` registers it as the message says."""
    return encode((owner, structs.replace(message, node_signature=b"\0" * 64)))


class TxBody(Struct, frozen=True, array_like=True):
    """What the wallet signs. `sequence` is the account's next number, strictly consecutive. Fee is flat: params.gas_price."""

    message: Message
    sequence: Uint
    memo: Annotated[str, Meta(max_length=limits.MAX_MEMO_BYTES)]


class Tx(Struct, frozen=True, array_like=True):
    """Signed transaction. tx hash = BLAKE3(canonical bytes). signature covers Keccak-256 of
    sign_bytes(TAG_TX, genesis hash, encode(body))."""

    body: TxBody
    public_key: WalletPublic
    signature: WalletSignature
