"""Bulk protocol of the resource layer: one conversation per blocking connection (TLS 1.3 or plain by setting).

Frames: u32 big-endian length | u8 kind | body. Control bodies (kind 1) are msgpack `BulkMessage`s; data bodies (kind 2) are raw
bytes of the slice being moved, at most MAX_DATA_FRAME_BYTES each. The connection starts with the node's BulkChallenge and the
caller's BulkHello; the caller has checked the node's certificate key (TLS) or the node's signature in the challenge (plain).
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.block import Commit, Header
from stratos.wire.metalog import Allotment, PlacedSlice, Placement, RepairOrder, Session
from stratos.wire.receipts import Receipt, TaskId
from stratos.wire.scalars import (
    Address,
    Count,
    Ed25519Public,
    Ed25519Signature,
    ErrorText,
    Hash32,
    Nonce,
    Uint,
)

FRAME_CONTROL = 1
FRAME_DATA = 2
FRAME_HEADER_BYTES = 5
MAX_BULK_CONTROL_BYTES = 1 * limits.MIB
"""Largest control frame: a placement token of 512 slices is a tenth of it."""
MAX_DATA_FRAME_BYTES = 1 * limits.MIB
"""Largest data frame; within a read every frame but the last is a whole number of 64 KiB pieces."""
MAX_ACKS = 1024
STEP_BYTES = (64 * limits.KIB, 1 * limits.MIB, 4 * limits.MIB)
"""Steps of a download (protocol 7): the first, the second, all others."""
TAG_BULK_HELLO = b"bulk_hello"
TAG_BULK_CHALLENGE = b"bulk_challenge"
TAG_POSSESSION = b"possession"
"""A PossessionProof's signature is over sign_bytes(TAG_POSSESSION, genesis hash, nonce + BLAKE3(piece))."""

RawProof = Annotated[bytes, Meta(max_length=64 * limits.KIB)]
"""Encoded stratos.state StateProof."""


class MetaEvidence(Struct, frozen=True, array_like=True):
    """A meta header with its certificate: what state proofs are checked against."""

    header: Header
    commit: Commit


class SessionToken(Struct, frozen=True, array_like=True):
    """Proof that a session exists and how much this holder may serve it; verified locally (protocol 7)."""

    session: Session
    session_proof: RawProof
    holder: Address
    allotment: Allotment
    allotment_proof: RawProof
    evidence: MetaEvidence


class PlacementToken(Struct, frozen=True, array_like=True):
    """Proof of a placement; shown to each holder of the chain."""

    placement: Placement
    placement_proof: RawProof
    session: Session
    session_proof: RawProof
    evidence: MetaEvidence


class RepairToken(Struct, frozen=True, array_like=True):
    order: RepairOrder
    order_proof: RawProof
    evidence: MetaEvidence


class BulkChallenge(Struct, frozen=True, array_like=True, tag="challenge"):
    """First frame from the node. `signature` over (TAG_BULK_CHALLENGE, nonce) proves the node key on plain transport."""

    nonce: Nonce
    public_key: Ed25519Public
    signature: Ed25519Signature


class BulkHello(Struct, frozen=True, array_like=True, tag="hello"):
    """Caller's answer: session key or node key, signature over (TAG_BULK_HELLO, nonce + node public key)."""

    version: Count
    genesis_hash: Hash32
    public_key: Ed25519Public
    signature: Ed25519Signature


class UploadSlice(Struct, frozen=True, array_like=True, tag="upload"):
    """Client (or the holder before in the chain) sends slice `index` of the upload; data frames follow, `length` bytes in all.
    `position` = place of the receiver in `PlacedSlice.holders`; `addresses` = bulk host:port of each of them. The token is
    sent once per connection and placement, then empty. `ask`: wait for UploadReady before sending bytes (second tries: a
    slice already held is not moved again)."""

    upload: TaskId
    index: Count
    position: Count
    epoch: Uint
    ask: bool
    placed: PlacedSlice
    token: PlacementToken | None
    addresses: Annotated[
        tuple[Annotated[str, Meta(max_length=255)], ...],
        Meta(max_length=limits.MAX_COPIES),
    ]


class UploadReady(Struct, frozen=True, array_like=True, tag="upload_ready"):
    """Answer to an UploadSlice that asked: whether the receiver wants the bytes (it, or somebody behind it, lacks them)."""

    index: Count
    want: bool


class HolderAck(Struct, frozen=True, array_like=True):
    """One holder's word that the slice is durable: its receipt over everything of this upload it holds (giver signature empty),
    and the indices the receipt stands for. `error` non-empty: this holder failed."""

    holder: Address
    receipt: Receipt | None
    indices: Annotated[tuple[Count, ...], Meta(max_length=limits.MAX_TASKS_PER_RECEIPT)]
    error: ErrorText


class UploadDone(Struct, frozen=True, array_like=True, tag="upload_done"):
    """Answer to one or more UploadSlices of one upload sent back to back, after the receiver and everyone behind it are
    durable (or failed): `indices` are the slices answered for, one ack per holder concerned."""

    indices: Annotated[tuple[Count, ...], Meta(max_length=limits.MAX_SLICES_PER_PLACEMENT)]
    acks: Annotated[tuple[HolderAck, ...], Meta(max_length=MAX_ACKS)]


class ReadSlice(Struct, frozen=True, array_like=True, tag="read"):
    """Client asks for bytes [offset, offset + length) of a slice: whole 64 KiB pieces, only the slice's last one may be
    shorter. `receipt` is pre-signed for the first step (`step_lengths`; the taker signs for step k before step k+1 is sent).
    `want_proof`: send the hashes of the pieces and what connects them with its digest; without it the client has them."""

    session: TaskId
    token: SessionToken | None
    slice_digest: Hash32
    offset: Count
    length: Count
    attempt: Count
    want_proof: bool
    receipt: Receipt


class ReadStart(Struct, frozen=True, array_like=True, tag="read_start"):
    """Node's answer: data frames of [offset, offset+length) follow, step by step. `left` and `right` are the tree nodes beside
    the range, lowest first (`resource.pieces.range_root`): with the piece hashes they give the slice's digest."""

    offset: Count
    length: Count
    slice_length: Count
    left: Annotated[tuple[Hash32, ...], Meta(max_length=32)]
    right: Annotated[tuple[Hash32, ...], Meta(max_length=32)]
    piece_hashes: Annotated[tuple[Hash32, ...], Meta(max_length=limits.MAX_PROOF_PIECES)]


class StepReceipt(Struct, frozen=True, array_like=True, tag="step"):
    """Client's cumulative receipt that opens the next step."""

    receipt: Receipt


class ReadDone(Struct, frozen=True, array_like=True, tag="read_done"):
    """After the last byte: the fully signed receipt for the client's own ledger."""

    receipt: Receipt


class AskAccount(Struct, frozen=True, array_like=True, tag="ask_account"):
    """Client asks where its download account with this holder stands, after a connection broke in the middle of a step."""

    session: TaskId


class AccountState(Struct, frozen=True, array_like=True, tag="account"):
    """The last receipt of the session that the holder has (None: none yet)."""

    receipt: Receipt | None


class FetchSlice(Struct, frozen=True, array_like=True, tag="fetch"):
    """A holder (repair target) asks a source holder for a slice of its order."""

    token: RepairToken | None
    order: TaskId
    index: Count
    epoch: Uint


class FetchStart(Struct, frozen=True, array_like=True, tag="fetch_start"):
    """Source's answer; data frames follow, then the target sends FetchReceipt."""

    length: Count


class FetchReceipt(Struct, frozen=True, array_like=True, tag="fetch_receipt"):
    """Target's taker-signed receipt over the order's durable slices; the source answers with the giver signature added."""

    receipt: Receipt
    indices: Annotated[tuple[Count, ...], Meta(max_length=limits.MAX_TASKS_PER_RECEIPT)]


class ProvePossession(Struct, frozen=True, array_like=True, tag="prove"):
    """Challenge: pieces of 64 KiB at `piece`, bound to a fresh nonce. Anyone may ask (rate-limited)."""

    slice_digest: Hash32
    piece: Count
    nonce: Nonce


class PossessionProof(Struct, frozen=True, array_like=True, tag="possession"):
    """The piece itself with its Merkle path to the slice's digest, and the node's signature over (nonce, BLAKE3(piece))."""

    piece_bytes: Annotated[bytes, Meta(max_length=limits.PROOF_PIECE_BYTES)]
    path: Annotated[tuple[Hash32, ...], Meta(max_length=32)]
    count: Count
    signature: Ed25519Signature


class BulkError(Struct, frozen=True, array_like=True, tag="error"):
    """One sentence; `code` from protocol 8: -1 generic, -3 signature, -4 wrong size, -5 timeout, -6 file request, -7 bad input."""

    code: Annotated[int, Meta(ge=-64, le=0)]
    error: ErrorText


def step_lengths(length: int) -> list[int]:
    """How many bytes each step of a read of `length` bytes moves; the taker signs for one step at a time. A read of up to
    1 MiB is one step (an object is pre-signed whole); longer ones grow geometrically."""
    if length <= STEP_BYTES[1]:
        return [length]
    steps = []
    for size in STEP_BYTES[:-1]:
        steps.append(min(size, length))
        length -= steps[-1]
    while length:
        steps.append(min(STEP_BYTES[-1], length))
        length -= steps[-1]
    return steps


BulkMessage = (
    BulkChallenge
    | BulkHello
    | UploadSlice
    | UploadReady
    | UploadDone
    | AskAccount
    | AccountState
    | ReadSlice
    | ReadStart
    | StepReceipt
    | ReadDone
    | FetchSlice
    | FetchStart
    | FetchReceipt
    | ProvePossession
    | PossessionProof
    | BulkError
)
