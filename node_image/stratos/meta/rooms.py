"""Every room of the meta state in one place: its key prefix and the record under it.

Records that outsiders check proofs of (sessions, allotments, placements, repair orders, files) are in `stratos.wire.metalog`;
what only the log itself needs is declared here. Hot paths read by key: a room is walked only at epoch rolls, by the
monitor's rare scans and by reads for people, because walking a room that just changed means sorting it. Composite
suffixes are fixed-width, so concatenation is unambiguous.
"""

from msgspec import Struct

from stratos.state import AmountTable, CounterTable, Table
from stratos.wire.metalog import Allotment, Place, Placement, RepairOrder, Session, SliceSpec, StoredFile
from stratos.wire.metarpc import CandidateRow, SettledReceipt
from stratos.wire.receipts import TaskId
from stratos.wire.scalars import Address, Amount, CidBytes, Count, Hash32, Height, ShortText, TimeMs, Uint

UPLOAD_OPEN = 0
UPLOAD_COMPLETE = 1

ACTIVE = "active"
SUSPENDED = "suspended"
UNAVAILABLE = "unavailable"
MAINTENANCE = "maintenance"
UNBONDING = "unbonding"
REMOVED = "removed"


def u32(number: int) -> bytes:
    """Key form of an index."""
    return number.to_bytes(4, "big")


def u64(number: int) -> bytes:
    """Key form of a height, epoch, time or sequence."""
    return number.to_bytes(8, "big")


class Clock(Struct, frozen=True, array_like=True):
    """What the last block knew. `witness_ms` advances at most one status interval per block, so silence of the meta
    layer itself (all nodes restarted after a night) never counts as silence of the holders."""

    height: Height
    time_ms: TimeMs
    witness_ms: TimeMs
    epoch: Uint
    epoch_since_ms: TimeMs
    monitor_due_ms: TimeMs
    chores: bool
    """An epoch roll left sessions or nonces to clear away; the next blocks go on with it."""


class Authority(Struct, frozen=True, array_like=True):
    """A meta node. Candidates are kept too (`active` False) because admission names only the address."""

    address: Address
    public_key: Hash32
    owner: Address
    beneficiary: Address
    name: str
    network_address: str
    active: bool
    since_epoch: Uint


class Holder(Struct, frozen=True, array_like=True):
    """A resource node as the log knows it. `status` follows from the rest (`holders.derive_status`) and is kept because
    transitions matter. Times `seen_ms` and `lost_ms` are of the witness clock (see Clock), 0 = never."""

    address: Address
    public_key: Hash32
    owner: Address
    beneficiary: Address
    host: str
    name: str
    network_address: str
    deposit_wei: Amount
    effective_wei: Amount
    suspended: bool
    unbonding: bool
    removed: bool
    status: ShortText
    score: Count
    disk_free: Uint
    disk_used: Uint
    slices: Uint
    maintenance: bool
    degraded: str
    last_status_ms: TimeMs
    seen_ms: TimeMs
    lost_ms: TimeMs
    repairing: bool
    left: bool
    """The chain has been told that it left (its copying is charged, once)."""


class HistoryItem(Struct, frozen=True, array_like=True):
    """One change of a score; equal reasons in a row are merged (times counted)."""

    time_ms: TimeMs
    reason: ShortText
    delta: int


class Upload(Struct, frozen=True, array_like=True):
    """An upload: index ranges asked for, noz still reserved for copies not yet charged, files once complete."""

    session: TaskId
    wallet: Address
    status: Count
    reserved_noz: Uint
    charged_noz: Uint
    ranges: tuple[tuple[Count, Count], ...]
    files: tuple[CidBytes, ...]
    created_ms: TimeMs


class PendingPlacement(Struct, frozen=True, array_like=True):
    """A `Place` entry waiting for the certificate its lot is drawn from."""

    place: Place
    wallet: Address
    reserved_noz: Uint


class UploadShare(Struct, frozen=True, array_like=True):
    """What one holder has been credited with in one upload or repair order."""

    total_noz: Uint
    indices: tuple[Count, ...]


class SliceRecord(Struct, frozen=True, array_like=True):
    """A stored slice: who holds it durably, how many files and open uploads refer to it, and the lot it was placed by."""

    spec: SliceSpec
    holders: tuple[Address, ...]
    references: Count
    copies: Count
    tier: Count
    seed: Hash32
    placed_height: Height
    wallet: Address
    session: TaskId
    chosen: tuple[Address, ...]


class Earner(Struct, frozen=True, array_like=True):
    """A resource node's unsettled noz and its receipts [first_seq, next_seq) that no report has taken yet."""

    unsettled_noz: Uint
    first_seq: Uint
    next_seq: Uint


class ReportedNode(Struct, frozen=True, array_like=True):
    """A row of a report with the receipts it rests on: sequence numbers [first_seq, end_seq) of the node."""

    node: Address
    wallet: Address
    volume_noz: Uint
    first_seq: Uint
    end_seq: Uint
    receipts_root: Hash32


class EpochReport(Struct, frozen=True, array_like=True):
    """A volume report made at the end of `epoch`. `outcome`: "" in flight, "included", or the chain's refusal code."""

    epoch: Uint
    rows: tuple[ReportedNode, ...]
    receipts_root: Hash32
    withheld: tuple[Address, ...]
    total_noz: Uint
    action_id: Uint
    outcome: ShortText
    created_ms: TimeMs
    resolved_ms: TimeMs


class Action(Struct, frozen=True, array_like=True):
    """An outbox message to the chain with the authority signatures collected so far. `outcome` as in EpochReport."""

    id: Uint
    message: bytes
    kind: ShortText
    node: bytes
    signatures: tuple[tuple[Address, bytes], ...]
    ready_height: Height
    created_ms: TimeMs
    outcome: ShortText


class DisputeRecord(Struct, frozen=True, array_like=True):
    """A step in dispute: its noz stays reserved until `until_ms`; with `voided` it can no longer be earned at all."""

    step_noz: Uint
    until_ms: TimeMs
    by_holder: bool
    voided: bool


class Refusal(Struct, frozen=True, array_like=True):
    """Why a placement could not be decided."""

    upload: TaskId
    code: ShortText
    error: str


CLOCK = Table(b"meta/clock", Clock)
AUTHORITY = Table(b"meta/authority/", Authority)
HOLDER = Table(b"meta/holder/", Holder)
HISTORY = Table(b"meta/history/", tuple[HistoryItem, ...])
RELATED = CounterTable(b"meta/related/")
"""wallet + BLAKE3(host)[:12] -> nodes of that wallet on that host."""

BALANCE = AmountTable(b"meta/balance/")
RESERVED = AmountTable(b"meta/reserved/")
TOTALS = AmountTable(b"meta/ozone/")

SESSION = Table(b"meta/session/", Session)
ALLOTMENT = Table(b"meta/allot/", Allotment)
SESSION_HOLDERS = Table(b"meta/allotted/", tuple[bytes, ...])
SESSION_UPLOADS = Table(b"meta/uploads/", tuple[bytes, ...])
EXPIRING = CounterTable(b"meta/expiring/")
CLOSING = CounterTable(b"meta/closing/")
DISPUTE = Table(b"meta/dispute/", DisputeRecord)
LOCKED = Table(b"meta/locked/", tuple[bytes, int])
"""u64 until + session + holder -> (wallet, noz) of a disputed step whose session is gone."""
STANDING = CounterTable(b"meta/standing/")

UPLOAD = Table(b"meta/upload/", Upload)
PENDING = Table(b"meta/pending/", PendingPlacement)
PLACEMENT = Table(b"meta/placement/", Placement)
REFUSAL = Table(b"meta/refusal/", Refusal)
FINISHED = CounterTable(b"meta/finished/")
SHARE = Table(b"meta/share/", UploadShare)
NOTE = Table(b"meta/note/", bytes)
CANDIDATES = Table(b"meta/candidates/", tuple[CandidateRow, ...])
"""u64 height + wallet -> the table its lotteries of that block were drawn from."""

SLICE = Table(b"meta/slice/", SliceRecord)
FILE = Table(b"meta/file/", StoredFile)
GONE = Table(b"meta/gone/", tuple[int, int])
"""digest + former holder -> (length, epoch of leaving): what it served before may still be receipted for an epoch."""

EARNER = Table(b"meta/earner/", Earner)
RECEIPT = Table(b"meta/receipt/", SettledReceipt)
REPORT = Table(b"meta/report/", EpochReport)
IN_FLIGHT = CounterTable(b"meta/in_flight")
LAST_REPORT = CounterTable(b"meta/last_report")

ACTION = Table(b"meta/action/", Action)
NEXT_ACTION = CounterTable(b"meta/next_action")
NODE_ACTION = CounterTable(b"meta/node_action/")
"""node -> id of its action under way."""

BEACON = Table(b"meta/beacon/", bytes)
COMMITMENT = Table(b"meta/commitment/", bytes)
REVEAL = Table(b"meta/reveal/", bytes)

CHAIN_HEIGHT = CounterTable(b"meta/chain_height")
CHAIN_VALIDATORS = Table(b"meta/chain_validators", bytes)

REPAIR = Table(b"meta/repair/", RepairOrder)
REPAIRING = Table(b"meta/repairing/", tuple[bytes, ...])
"""digest -> targets of open repair orders for it."""
SHORT = CounterTable(b"meta/short/")
"""Digests with fewer copies than wanted although no holder was lost (degraded uploads, failed possession)."""
SCANNED = Table(b"meta/scanned/", bytes)
"""lost holder (or the list of short slices) -> digest at which the last scan for missing copies stopped."""
NEWS = CounterTable(b"meta/news/")
"""holder -> height of the last change in its repair orders or drops (what it waits for)."""
MIGRATED = AmountTable(b"meta/migrated/")
POSSESSION = Table(b"meta/possession/", tuple[bytes, ...])


def held_room(holder: bytes) -> bytes:
    """Room of the slices a holder has: one room per holder, so walking one never sorts the others."""
    return b"meta/held-%s/" % holder.hex().encode()


def drop_room(holder: bytes) -> bytes:
    """Room of the slices a holder should delete: digest -> height at which that was decided."""
    return b"meta/drop-%s/" % holder.hex().encode()


def nonce_room(bucket: int) -> bytes:
    """Room of the nonces of one stretch of time, forgotten as a whole."""
    return b"meta/nonce-%d/" % bucket
