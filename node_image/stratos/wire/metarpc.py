"""Control requests a meta node answers over the framed RPC (bodies of request and response frames).

Reads come from committed state and are stamped with height and state root; any meta node may be asked.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.block import Commit, Event, Header, ValidatorList
from stratos.wire.metalog import HolderInfo, PlacedSlice, StoredFile
from stratos.wire.receipts import Receipt, TaskId
from stratos.wire.scalars import (
    Address,
    CidBytes,
    Count,
    Hash32,
    Height,
    Name,
    ShortText,
    TimeMs,
    Uint,
)
from stratos.wire.transfer import MetaEvidence, PlacementToken, RawProof, RepairToken, SessionToken


class Stamp(Struct, frozen=True, array_like=True):
    """Where an answer comes from."""

    height: Height
    state_root: Hash32
    time_ms: TimeMs
    epoch: Uint


class SubmitEntry(Struct, frozen=True, array_like=True, tag="submit"):
    """Submit a signed log entry; answered when it is committed (or refused)."""

    entry: Annotated[bytes, Meta(max_length=limits.MAX_ENTRY_BYTES)]


class EntryBatch(Struct, frozen=True, array_like=True, tag="entries"):
    """Notification between meta nodes: entries the sender has checked; the receiver checks them itself."""

    entries: Annotated[
        tuple[Annotated[bytes, Meta(max_length=limits.MAX_ENTRY_BYTES)], ...],
        Meta(max_length=1000),
    ]


class EntryOutcome(Struct, frozen=True, array_like=True, tag="outcome"):
    """code "ok" or an error code; `height` where it was ordered (0 = refused before ordering)."""

    stamp: Stamp
    height: Height
    entry_hash: Hash32
    code: ShortText
    error: Annotated[str, Meta(max_length=1024)]
    events: Annotated[tuple[Event, ...], Meta(max_length=256)] = ()
    """What happened inside: for batches of receipts one `receipt_refused` (index, code, error) per refused one."""


class GetNetwork(Struct, frozen=True, array_like=True, tag="get_network"):
    """Holders and parameters a client needs."""


class Network(Struct, frozen=True, array_like=True, tag="network"):
    stamp: Stamp
    holders: Annotated[tuple[HolderInfo, ...], Meta(max_length=100_000)]
    beacon: Hash32
    chain_height: Height


class GetBalance(Struct, frozen=True, array_like=True, tag="get_balance"):
    wallet: Address


class Balance(Struct, frozen=True, array_like=True, tag="balance"):
    stamp: Stamp
    available_noz: Uint
    reserved_noz: Uint


class GetSessionTokens(Struct, frozen=True, array_like=True, tag="get_session_tokens"):
    """Tokens for some holders (empty = all allotted ones)."""

    session: TaskId
    holders: Annotated[tuple[Address, ...], Meta(max_length=limits.MAX_ALLOTMENTS)]


class SessionTokens(Struct, frozen=True, array_like=True, tag="session_tokens"):
    stamp: Stamp
    tokens: Annotated[tuple[SessionToken, ...], Meta(max_length=limits.MAX_ALLOTMENTS)]


class GetPlacement(Struct, frozen=True, array_like=True, tag="get_placement"):
    """Waits (bounded) until the placement of (upload, first_index) has been decided."""

    upload: TaskId
    first_index: Count


class PlacementAnswer(Struct, frozen=True, array_like=True, tag="placement"):
    stamp: Stamp
    token: PlacementToken


class GetFile(Struct, frozen=True, array_like=True, tag="get_file"):
    wallet: Address
    file_cid: CidBytes


class GetUpload(Struct, frozen=True, array_like=True, tag="get_upload"):
    """An unfinished (or finished) upload by id: its slices that have at least one durable copy, and the progress note."""

    upload: TaskId


class FileAnswer(Struct, frozen=True, array_like=True, tag="file"):
    """`slices` in file order with the holders that have them now; `complete` False for an upload in progress. A complete
    file is `stored` in the state, with the proof that it is: which bytes belong to a handle need not be believed."""

    stamp: Stamp
    stored: StoredFile | None
    proof: RawProof
    evidence: MetaEvidence | None
    slices: Annotated[tuple[PlacedSlice, ...], Meta(max_length=limits.MAX_SLICES_PER_FILE)]
    progress: Annotated[bytes, Meta(max_length=64 * limits.KIB)]
    complete: bool


class ListFiles(Struct, frozen=True, array_like=True, tag="list_files"):
    wallet: Address
    after: Annotated[bytes, Meta(max_length=26)]
    limit: Annotated[int, Meta(ge=1, le=1000)]


class FileSummary(Struct, frozen=True, array_like=True):
    file_cid: CidBytes
    name: Annotated[str, Meta(max_length=limits.MAX_NAME_BYTES)]
    size: Uint
    video: bool
    copies: Count
    created_ms: TimeMs


class FileList(Struct, frozen=True, array_like=True, tag="file_list"):
    stamp: Stamp
    files: Annotated[tuple[FileSummary, ...], Meta(max_length=1000)]


class CandidateRow(Struct, frozen=True, array_like=True):
    """One line of the table a placement was drawn from."""

    address: Address
    host: Name
    weight: Count
    tier: Count
    room: Uint


class GetSlice(Struct, frozen=True, array_like=True, tag="get_slice"):
    """Current holders of a slice by digest, and why they were chosen (seed) for `why SLICE`."""

    slice_digest: Hash32


class SliceAnswer(Struct, frozen=True, array_like=True, tag="slice"):
    stamp: Stamp
    slice: PlacedSlice
    seed: Hash32
    references: Count
    copies: Count = 0
    """Copies wanted."""
    placed_height: Height = 0
    """Meta block in which the lottery was drawn; its header's last_commit_hash is part of the seed."""
    wallet: Annotated[bytes, Meta(max_length=20)] = b""
    session: Annotated[bytes, Meta(max_length=16)] = b""
    beacon: Annotated[bytes, Meta(max_length=32)] = b""
    """With digest and certificate hash, what the seed was made of."""
    tier: Count = 0
    chosen: Annotated[tuple[Address, ...], Meta(max_length=limits.MAX_COPIES)] = ()
    """Whom that lottery chose."""
    candidates: Annotated[tuple[CandidateRow, ...], Meta(max_length=100_000)] = ()
    """The table of that lottery; empty when it is no longer kept."""


class GetRepairOrders(Struct, frozen=True, array_like=True, tag="get_repairs"):
    """A holder asks for its open repair orders and what to delete; waits (bounded) for news after `after_height`."""

    holder: Address
    after_height: Height


class RepairOrders(Struct, frozen=True, array_like=True, tag="repairs"):
    stamp: Stamp
    orders: Annotated[tuple[RepairToken, ...], Meta(max_length=64)]
    drop: Annotated[tuple[Hash32, ...], Meta(max_length=10_000)]
    drops_height: Height = 0
    """Once everything in `drop` is deleted, the holder's next NodeStatus says `drops_done` = this height."""


class GetEvidence(Struct, frozen=True, array_like=True, tag="get_evidence"):
    """Header and certificate at a height (0 = latest); `validators` is given when the set changes after it (light client)."""

    height: Height


class Evidence(Struct, frozen=True, array_like=True, tag="evidence"):
    stamp: Stamp
    header: Header
    commit: Commit
    next_validators: ValidatorList


class GetSetChanges(Struct, frozen=True, array_like=True, tag="get_set_changes"):
    """Headers at which the authority set changed, from a height on (for light clients)."""

    from_height: Height


class SetChanges(Struct, frozen=True, array_like=True, tag="set_changes"):
    stamp: Stamp
    changes: Annotated[tuple[Evidence, ...], Meta(max_length=1000)]


class GetEpochReceipts(Struct, frozen=True, array_like=True, tag="get_epoch_receipts"):
    """What a settled report's row rests on, from receipt `first` of the row on."""

    epoch: Uint
    node: Address
    first: Count = 0


class SettledReceipt(Struct, frozen=True, array_like=True):
    """A receipt with the noz it added when ordered, and the epoch of ordering."""

    receipt: Receipt
    delta_noz: Uint
    ordered_epoch: Uint


class NodeLeaf(Struct, frozen=True, array_like=True):
    """Leaf of a report's receipts tree: Merkle root over the encoded SettledReceipts of one node."""

    node: Address
    volume_noz: Uint
    receipts_root: Hash32


class EpochReceipts(Struct, frozen=True, array_like=True, tag="epoch_receipts"):
    """Receipts of one node in one report, and the Merkle path of its NodeLeaf to the report's receipts_root."""

    stamp: Stamp
    leaf: NodeLeaf
    index: Count
    count: Count
    path: Annotated[tuple[Hash32, ...], Meta(max_length=64)]
    receipts: Annotated[tuple[SettledReceipt, ...], Meta(max_length=100_000)]
    total: Count = 0
    """Receipts of the row in all; ask again with `first` when there are more than were answered."""


class GetOzone(Struct, frozen=True, array_like=True, tag="get_ozone"):
    """The conservation sheet (protocol 4.7)."""


class OzoneSheet(Struct, frozen=True, array_like=True, tag="ozone"):
    """sold = balances + reserved + repair_reserve + unsettled + reported."""

    stamp: Stamp
    sold: Uint
    balances: Uint
    reserved: Uint
    repair_reserve: Uint
    unsettled: Uint
    reported: Uint
    epochs_settled: Count


class Explain(Struct, frozen=True, array_like=True, tag="explain"):
    """`stratosctl why NODE`: score history of a holder."""

    node: Address


class Explanation(Struct, frozen=True, array_like=True, tag="explanation"):
    stamp: Stamp
    holder: HolderInfo
    history: Annotated[tuple[tuple[TimeMs, ShortText, int], ...], Meta(max_length=256)]


MetaRequest = (
    SubmitEntry
    | GetNetwork
    | GetBalance
    | GetSessionTokens
    | GetPlacement
    | GetFile
    | GetUpload
    | ListFiles
    | GetSlice
    | GetRepairOrders
    | GetEvidence
    | GetSetChanges
    | GetEpochReceipts
    | GetOzone
    | Explain
)
MetaResponse = (
    EntryOutcome
    | Network
    | Balance
    | SessionTokens
    | PlacementAnswer
    | FileAnswer
    | FileList
    | SliceAnswer
    | RepairOrders
    | Evidence
    | SetChanges
    | EpochReceipts
    | OzoneSheet
    | Explanation
)
