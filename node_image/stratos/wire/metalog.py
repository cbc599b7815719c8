"""Entries of the meta service layer's replicated log, and the records it keeps.

Ordering is per session and per batch, never per object (protocol 7). Every entry is signed by its author: a wallet
(33-byte key, Keccak digest), a session or node key or an authority (32-byte ed25519 key). Replay is refused by a
random nonce remembered in the log for the request window.

Slices are identified by their BLAKE3 digest from the moment they are hashed; their CIDs (names that depend on
the hash of the whole file) are attached when the upload completes. So bytes can move, and be played, before the file
has been read to its end.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.block import Commit, Event, Header, ValidatorList
from stratos.wire.receipts import DownloadTask, Receipt, TaskId
from stratos.wire.scalars import (
    Address,
    CidBytes,
    Count,
    Ed25519Public,
    Ed25519Signature,
    Hash32,
    Height,
    Name,
    Nonce,
    ShortText,
    TimeMs,
    Uint,
)

TAG_ENTRY = b"entry"

# --- entries of users -------------------------------------------------------------------------------------------


class OpenSession(Struct, frozen=True, array_like=True, tag="open_session"):
    """Wallet-signed. Reserves `max_noz`; `spread_noz` of it is split evenly over the active holders as download
    allotments at once, the rest is a pool for uploads and later `Allot`s. Session id = first 16 bytes of the entry hash."""

    session_key: Ed25519Public
    max_noz: Uint
    spread_noz: Uint
    expiry_ms: TimeMs


class Allot(Struct, frozen=True, array_like=True, tag="allot"):
    """Session-signed. Moves noz from the session's pool to download allotments of holders."""

    session: TaskId
    allotments: Annotated[tuple[tuple[Address, Uint], ...], Meta(max_length=limits.MAX_ALLOTMENTS)]


class CloseSession(Struct, frozen=True, array_like=True, tag="close_session"):
    """Session-signed (or by its wallet). The pool returns to the wallet at once, allotments and what open uploads still
    reserve when late receipts have become void (end of the next epoch)."""

    session: TaskId


class SliceSpec(Struct, frozen=True, array_like=True):
    """One slice to place: its digest (the Merkle root over the BLAKE3 hashes of its 64 KiB pieces) and its length in bytes."""

    digest: Hash32
    length: Annotated[int, Meta(ge=1, le=limits.SLICE_BYTES)]


class Place(Struct, frozen=True, array_like=True, tag="place"):
    """Session-signed. Asks for holders of slices `first_index`.. of an upload; reserves length x copies x 1.05 from
    the session's pool. `copies` 0 = network default; `tier` minimum tier (0 any). Index ranges of one upload never overlap.
    Placing a digest again in the same upload (under a new index) is a retry: holders assigned before that did not
    deliver are left out, copies already durable count. Files may name one index many times, so equal slices need no second index."""

    session: TaskId
    upload: TaskId
    first_index: Count
    slices: Annotated[
        tuple[SliceSpec, ...],
        Meta(min_length=1, max_length=limits.MAX_SLICES_PER_PLACEMENT),
    ]
    copies: Annotated[int, Meta(ge=0, le=limits.MAX_COPIES)]
    tier: Annotated[int, Meta(ge=0, le=3)]


class HeldIndices(Struct, frozen=True, array_like=True):
    """An upload or repair receipt with the slice indices its digest stands for."""

    receipt: Receipt
    indices: Annotated[tuple[Count, ...], Meta(max_length=limits.MAX_TASKS_PER_RECEIPT)]


class UploadReceipts(Struct, frozen=True, array_like=True, tag="upload_receipts"):
    """Session-signed. Charges what holders made durable so far; `progress` is an application note shown to readers of
    the unfinished upload (for video: the playlist so far)."""

    session: TaskId
    upload: TaskId
    receipts: Annotated[tuple[HeldIndices, ...], Meta(max_length=limits.MAX_RECEIPTS_PER_ENTRY)]
    progress: Annotated[bytes, Meta(max_length=64 * limits.KIB)]


class FileRecord(Struct, frozen=True, array_like=True):
    """One file of an upload: `slices` are indices in the upload, in file order."""

    file_cid: CidBytes
    name: Name
    size: Uint
    tag: Annotated[str, Meta(max_length=8)]
    video: bool
    note: Annotated[bytes, Meta(max_length=64 * limits.KIB)]
    slices: Annotated[tuple[Count, ...], Meta(max_length=limits.MAX_SLICES_PER_FILE)]


class StoredFile(Struct, frozen=True, array_like=True):
    """A wallet's file with the digests of its slices in file order, as the meta layer's state holds it."""

    record: FileRecord
    digests: Annotated[tuple[Hash32, ...], Meta(max_length=limits.MAX_SLICES_PER_FILE)]
    upload: TaskId
    created_ms: TimeMs


class CompleteUpload(Struct, frozen=True, array_like=True, tag="complete"):
    """Session-signed. Last receipts and the files of the upload; refused unless every slice has enough durable copies."""

    session: TaskId
    upload: TaskId
    receipts: Annotated[tuple[HeldIndices, ...], Meta(max_length=limits.MAX_RECEIPTS_PER_ENTRY)]
    files: Annotated[
        tuple[FileRecord, ...],
        Meta(min_length=1, max_length=limits.MAX_FILES_PER_PLACEMENT),
    ]


class AbortUpload(Struct, frozen=True, array_like=True, tag="abort"):
    """Session-signed. Gives up an upload: what no receipt charged returns to the session's pool."""

    session: TaskId
    upload: TaskId


class RemoveFile(Struct, frozen=True, array_like=True, tag="remove"):
    """Wallet-signed. Deletes the wallet's file; holders drop slices that no file refers to any more."""

    file_cid: CidBytes


class Dispute(Struct, frozen=True, array_like=True, tag="dispute"):
    """Session- or holder-signed: the other side fell silent in a step. Closes the session, keeps that step reserved until the
    dispute time-out, lowers the silent side's standing. `mismatch_digest` (signed mismatch) voids a pre-signed step."""

    session: TaskId
    holder: Address
    step_noz: Uint
    mismatch_digest: Annotated[bytes, Meta(max_length=32)]


# --- entries of resource nodes ----------------------------------------------------------------------------------


class NodeStatus(Struct, frozen=True, array_like=True, tag="node_status"):
    """Node-signed heartbeat, every status interval. `degraded` is a sentence when something is wrong (disk, ...)."""

    disk_free: Uint
    disk_used: Uint
    slices: Uint
    maintenance: bool
    network_address: Name
    degraded: Annotated[str, Meta(max_length=200)]
    drops_done: Height = 0
    """`drops_height` of the last RepairOrders answer whose `drop` list is gone from the node's store."""


class ServedTasks(Struct, frozen=True, array_like=True):
    """A download receipt with the tasks since the earner's last ordered one (their chain leads to body.digest)."""

    receipt: Receipt
    tasks: Annotated[tuple[DownloadTask, ...], Meta(max_length=limits.MAX_TASKS_PER_RECEIPT)]


class DownloadReceipts(Struct, frozen=True, array_like=True, tag="download_receipts"):
    """Node-signed batch of the earner's download receipts."""

    receipts: Annotated[
        tuple[ServedTasks, ...],
        Meta(min_length=1, max_length=limits.MAX_RECEIPTS_PER_ENTRY),
    ]


class RepairReceipts(Struct, frozen=True, array_like=True, tag="repair_receipts"):
    """Node-signed by the new holder: slices of repair orders now durable here."""

    receipts: Annotated[
        tuple[HeldIndices, ...],
        Meta(min_length=1, max_length=limits.MAX_RECEIPTS_PER_ENTRY),
    ]


# --- entries of authorities -------------------------------------------------------------------------------------


class ChainBlock(Struct, frozen=True, array_like=True, tag="chain_block"):
    """The bridge: one entry per chain height, strictly consecutive. `events` are the block's bridge events (their root
    is in the header); `next_validators` is given when header.next_validators_hash differs from validators_hash."""

    header: Header
    commit: Commit
    events: Annotated[tuple[Event, ...], Meta(max_length=limits.MAX_EVENTS_PER_BLOCK)]
    next_validators: ValidatorList


class BeaconCommit(Struct, frozen=True, array_like=True, tag="beacon_commit"):
    """BLAKE3 of the secret for `epoch`, ordered in epoch - 2."""

    epoch: Uint
    commitment: Hash32


class BeaconReveal(Struct, frozen=True, array_like=True, tag="beacon_reveal"):
    """The secret for `epoch`, ordered in epoch - 1."""

    epoch: Uint
    secret: Hash32


class ActionSignature(Struct, frozen=True, array_like=True, tag="action_signature"):
    """An authority's signature over the chain message of outbox action `action_id` (wire.txs.action_body, TAG_ACTION)."""

    action_id: Uint
    signature: Ed25519Signature


class PossessionFailure(Struct, frozen=True, array_like=True, tag="possession_failure"):
    """An authority's finding that `holder` could not prove `slice_digest`; acted on when quorum(n) authorities agree within an epoch."""

    holder: Address
    slice_digest: Hash32


EntryBody = (
    OpenSession
    | Allot
    | CloseSession
    | Place
    | UploadReceipts
    | CompleteUpload
    | AbortUpload
    | RemoveFile
    | Dispute
    | NodeStatus
    | DownloadReceipts
    | RepairReceipts
    | ChainBlock
    | BeaconCommit
    | BeaconReveal
    | ActionSignature
    | PossessionFailure
)


class EntryRequest(Struct, frozen=True, array_like=True):
    """What the author signs: sign_bytes(TAG_ENTRY, genesis hash, encode(request))."""

    body: EntryBody
    nonce: Nonce
    time_ms: TimeMs
    author: Annotated[bytes, Meta(min_length=32, max_length=33)]


class Entry(Struct, frozen=True, array_like=True):
    """A signed entry; entry hash = BLAKE3(canonical bytes)."""

    request: EntryRequest
    signature: Ed25519Signature


# --- records the log keeps (values of the authenticated state, so each can be proven against a meta header) ------

SESSION_OPEN = 0
SESSION_CLOSING = 1
SESSION_CLOSED = 2


class Session(Struct, frozen=True, array_like=True):
    """State key b"meta/session/" + id. `pool_noz` is not allotted to anybody yet."""

    id: TaskId
    wallet: Address
    key: Ed25519Public
    max_noz: Uint
    pool_noz: Uint
    expiry_ms: TimeMs
    status: Count
    closed_epoch: Uint


class Allotment(Struct, frozen=True, array_like=True):
    """State key b"meta/allot/" + session + holder: what the holder may serve, what it has been charged, its receipt chain."""

    allotted_noz: Uint
    charged_noz: Uint
    digest: Hash32
    since_epoch: Uint = 0
    """Epoch of the last ordered receipt (or of the allotment): tasks of later receipts are not older."""


class PlacedSlice(Struct, frozen=True, array_like=True):
    """A slice with its assigned holders; the first one receives from the client and forwards (chain order)."""

    spec: SliceSpec
    holders: Annotated[tuple[Address, ...], Meta(max_length=limits.MAX_COPIES)]


class Placement(Struct, frozen=True, array_like=True):
    """State key b"meta/placement/" + upload + first_index (u32 big-endian). A holder that already has a slice is listed in
    `holders` only when bytes must move; `already` counts copies that exist (neither moved nor charged again)."""

    upload: TaskId
    session: TaskId
    wallet: Address
    first_index: Count
    seed: Hash32
    slices: Annotated[tuple[PlacedSlice, ...], Meta(max_length=limits.MAX_SLICES_PER_PLACEMENT)]
    already: Annotated[
        tuple[tuple[Address, ...], ...],
        Meta(max_length=limits.MAX_SLICES_PER_PLACEMENT),
    ]


class RepairOrder(Struct, frozen=True, array_like=True):
    """State key b"meta/repair/" + id: `target` copies the slices from one of `sources`; one order per range of slices."""

    id: TaskId
    target: Address
    lost: Address
    slices: Annotated[tuple[SliceSpec, ...], Meta(max_length=limits.MAX_SLICES_PER_PLACEMENT)]
    sources: Annotated[
        tuple[tuple[Address, ...], ...],
        Meta(max_length=limits.MAX_SLICES_PER_PLACEMENT),
    ]
    expiry_ms: TimeMs


class HolderInfo(Struct, frozen=True, array_like=True):
    """A resource node as the meta layer sees it. Status words: suspended, active, unavailable, maintenance, unbonding, removed."""

    address: Address
    public_key: Ed25519Public
    owner: Address
    beneficiary: Address
    host: Name
    name: Name
    network_address: Name
    status: ShortText
    score: Count
    disk_free: Uint
    slices: Uint
    last_status_ms: TimeMs
