"""What a validator keeps beside the state: the block log, and of each block its results, bridge events and transactions.

Everything of one block goes into the state's own write batch (`DurableState.commit`), synced before the next height
begins: the database holds the interpreter lock while it writes, so a thread would win nothing. The newest bridge events are
kept in memory, because each meta node reads each block exactly once.
"""

from collections import OrderedDict
from collections.abc import Sequence

from msgspec import Struct

from stratos.bft.height import Tip
from stratos.bft.validator_set import ValidatorSet
from stratos.net.block_log import BlockLog, remember
from stratos.state import State
from stratos.wire.block import (
    Block,
    Commit,
    CommittedBlock,
    EntryResult,
    Event,
    SignedHeader,
    ValidatorChange,
)
from stratos.wire.chainrpc import MAX_CHANGES, BlockResults, TxRecord
from stratos.wire.codec import decode, encode
from stratos.wire.metalog import ChainBlock
from stratos.wire.scalars import Count, Height

RECENT_BRIDGE = 256


class TxPlace(Struct, frozen=True, array_like=True):
    """Where a transaction is."""

    height: Height
    index: Count


class ChainStore:
    """Reads and prepares the records beside the state; the state's commit writes them."""

    def __init__(self, state: State, *, genesis_hash: bytes) -> None:
        self._state = state
        self._log = BlockLog(state, genesis_hash=genesis_hash)
        self._bridge: OrderedDict[int, ChainBlock] = OrderedDict()

    @property
    def is_new(self) -> bool:
        """Nothing was ever committed here."""
        return self._log.is_new

    # -- writing -------------------------------------------------------------------------------------------------

    def genesis_records(self, validators: ValidatorSet, events: Sequence[Event], height: int) -> dict[bytes, bytes]:
        """Records of the state before the first block."""
        results = encode(BlockResults(height, (), tuple(events)))
        return {**self._log.first_records(validators), _results_key(height): results}

    def block_records(
        self,
        block: Block,
        commit: Commit,
        *,
        tx_hashes: Sequence[bytes],
        results: tuple[EntryResult, ...],
        end_events: tuple[Event, ...],
        bridge_events: tuple[Event, ...],
        next_validators: ValidatorSet,
    ) -> dict[bytes, bytes]:
        """All records of one block; also remembers it in memory. `next_validators` is the set of height + 2."""
        height = block.header.height
        bridge = ChainBlock(block.header, commit, bridge_events, self._log.announced(block))
        records = self._log.records(block, commit, following=next_validators)
        records[_bridge_key(height)] = encode(bridge)
        records[_results_key(height)] = encode(BlockResults(height, results, end_events))
        for index, tx_hash in enumerate(tx_hashes):
            records[b"tx/" + tx_hash] = encode(TxPlace(height, index))
        remember(self._bridge, height, bridge, RECENT_BRIDGE)
        return records

    # -- reading -------------------------------------------------------------------------------------------------

    def tip(self) -> Tip | None:
        """Where the replica starts; None when no block was committed yet."""
        return self._log.tip()

    def validators(self, set_hash: bytes) -> ValidatorSet:
        """The validator set of this hash; KeyError when this chain never had it."""
        return self._log.validators(set_hash)

    def block(self, height: int) -> CommittedBlock | None:
        """A committed block with its certificate."""
        return self._log.block(height)

    def bridge(self, height: int) -> ChainBlock | None:
        """Header, certificate and bridge events of a block."""
        known = self._bridge.get(height)
        if known is None:
            data = self._state.extra(_bridge_key(height))
            known = None if data is None else decode(data, ChainBlock)
        return known

    def header(self, height: int) -> SignedHeader | None:
        """A header with its certificate."""
        bridge = self.bridge(height)
        return None if bridge is None else SignedHeader(bridge.header, bridge.commit)

    def results(self, height: int) -> BlockResults | None:
        """Results and end events of a block (height 0: the genesis events)."""
        data = self._state.extra(_results_key(height))
        return None if data is None else decode(data, BlockResults)

    def transaction(self, tx_hash: bytes) -> TxRecord | None:
        """A committed transaction with its result."""
        data = self._state.extra(b"tx/" + tx_hash)
        if data is None:
            return None
        place = decode(data, TxPlace)
        block, results = self.block(place.height), self.results(place.height)
        if block is None or results is None:
            return None
        return TxRecord(
            tx_hash, place.height, place.index, block.block.entries[place.index], results.results[place.index]
        )

    def changes(self, first: int) -> tuple[ValidatorChange, ...]:
        """Validator changes at heights >= `first`, at most MAX_CHANGES."""
        return self._log.changes(first, most=MAX_CHANGES)


def _bridge_key(height: int) -> bytes:
    return b"bridge/" + height.to_bytes(8, "big")


def _results_key(height: int) -> bytes:
    return b"results/" + height.to_bytes(8, "big")
