"""Control requests a validator answers over the framed RPC, and what validators tell each other beside consensus.

Meta nodes follow the chain with `GetBridge` (long poll, one answer per new block), submit signed actions with
`SubmitTxs` and wait for them with `WaitTx`; clients and tools use the same requests or the REST surface. State
proofs travel encoded (`stratos.state.StateProof`), because the map's format belongs to its own room.
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.block import Commit, EntryResult, Event, Header, ValidatorChange
from stratos.wire.metalog import ChainBlock
from stratos.wire.scalars import Address, Amount, Count, ErrorText, Hash32, Height, ShortText, TimeMs, Uint

TxBytes = Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_TX_BYTES)]
StateKey = Annotated[bytes, Meta(min_length=1, max_length=512)]
WaitMs = Annotated[int, Meta(ge=0, le=60_000)]

MAX_TXS_PER_SUBMIT = 1_000
MAX_BRIDGE_BLOCKS = 64
MAX_CHANGES = 1_000


class TxBatch(Struct, frozen=True, array_like=True, tag="txs"):
    """Notification between validators: transactions the sender has checked; the receiver checks them itself."""

    txs: Annotated[tuple[TxBytes, ...], Meta(max_length=MAX_TXS_PER_SUBMIT)]


class GetChainStatus(Struct, frozen=True, array_like=True, tag="get_chain_status"):
    """Where the chain and this node are."""


class ChainStatus(Struct, frozen=True, array_like=True, tag="chain_status"):
    height: Height
    block_hash: Hash32
    state_root: Hash32
    time_ms: TimeMs
    peers: Count
    mempool_txs: Count


class SubmitTxs(Struct, frozen=True, array_like=True, tag="submit_txs"):
    """Encoded `Tx` records. Answered when each is in the mempool or refused; not when committed (see WaitTx)."""

    txs: Annotated[tuple[TxBytes, ...], Meta(min_length=1, max_length=MAX_TXS_PER_SUBMIT)]


class TxVerdict(Struct, frozen=True, array_like=True):
    """Admission of one transaction: code "ok", or why it was refused (`duplicate`: it is already waiting or done)."""

    tx_hash: Hash32
    code: ShortText
    error: ErrorText


class TxVerdicts(Struct, frozen=True, array_like=True, tag="verdicts"):
    """One verdict per submitted transaction, in order."""

    verdicts: Annotated[tuple[TxVerdict, ...], Meta(max_length=MAX_TXS_PER_SUBMIT)]


class WaitTx(Struct, frozen=True, array_like=True, tag="wait_tx"):
    """Answered as soon as the transaction is in a block; refused with `pending` or `unknown` after `wait_ms`."""

    tx_hash: Hash32
    wait_ms: WaitMs


class TxRecord(Struct, frozen=True, array_like=True, tag="tx"):
    """A committed transaction."""

    tx_hash: Hash32
    height: Height
    index: Count
    tx: TxBytes
    result: EntryResult


class GetAccount(Struct, frozen=True, array_like=True, tag="get_account"):
    address: Address


class Account(Struct, frozen=True, array_like=True, tag="account"):
    """`sequence` is the committed one, `next_sequence` also counts what waits in this node's mempool."""

    address: Address
    height: Height
    balance_wei: Amount
    sequence: Uint
    next_sequence: Uint


class GetBridge(Struct, frozen=True, array_like=True, tag="get_bridge"):
    """Blocks from `first` on, for the bridge. When there is none yet, waits up to `wait_ms` for it."""

    first: Height
    limit: Annotated[int, Meta(ge=1, le=MAX_BRIDGE_BLOCKS)]
    wait_ms: WaitMs


class BridgeBlocks(Struct, frozen=True, array_like=True, tag="bridge"):
    """Consecutive heights from the one asked for (empty when the wait was in vain), and the chain's height.

    `ChainBlock.events` are the block's bridge events; `stratos.ledger.roots.bridge_root(events)` is in the header.
    """

    height: Height
    blocks: Annotated[tuple[ChainBlock, ...], Meta(max_length=MAX_BRIDGE_BLOCKS)]


class GetBlock(Struct, frozen=True, array_like=True, tag="get_block"):
    """A committed block (answer: CommittedBlock). Height 0 asks for the newest."""

    height: Height


class GetHeader(Struct, frozen=True, array_like=True, tag="get_header"):
    """A committed header with its certificate. Height 0 asks for the newest."""

    height: Height


class HeaderAnswer(Struct, frozen=True, array_like=True, tag="header"):
    header: Header
    commit: Commit


class GetProof(Struct, frozen=True, array_like=True, tag="get_proof"):
    """Value of a state key in the newest committed state, with its proof."""

    key: StateKey


class ProofAnswer(Struct, frozen=True, array_like=True, tag="proof"):
    """`proof` is an encoded StateProof against header.state_root; value None proves absence."""

    key: StateKey
    value: bytes | None
    proof: bytes
    header: Header
    commit: Commit


class GetResults(Struct, frozen=True, array_like=True, tag="get_results"):
    """Results and events of a block."""

    height: Height


class BlockResults(Struct, frozen=True, array_like=True, tag="results"):
    """Result per entry, then the events of the block's end."""

    height: Height
    results: Annotated[tuple[EntryResult, ...], Meta(max_length=limits.MAX_TXS_PER_BLOCK)]
    end_events: Annotated[tuple[Event, ...], Meta(max_length=limits.MAX_EVENTS_PER_BLOCK)]


class GetValidatorChanges(Struct, frozen=True, array_like=True, tag="get_validator_changes"):
    """Changes of the validator set at heights >= `first`, for light clients (empty when there were none)."""

    first: Height


class ValidatorChanges(Struct, frozen=True, array_like=True, tag="validator_changes"):
    changes: Annotated[tuple[ValidatorChange, ...], Meta(max_length=MAX_CHANGES)]
