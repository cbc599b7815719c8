"""What every layer keeps beside its state: blocks with their certificates, voter sets, and where consensus stands.

One per state. It writes nothing itself: `records` gives what belongs to a block, and the layer hands that to the state's own
commit, which is one synced batch; so a node killed at any instant restarts with a whole block or without it. The newest
blocks stay in memory for peers that lag a little.
"""

from collections import OrderedDict
from typing import TypeVar

from msgspec import Struct

from stratos.bft.blocks import header_hash
from stratos.bft.height import Tip
from stratos.bft.validator_set import ValidatorSet
from stratos.state import State
from stratos.wire.block import Block, Commit, CommittedBlock, Validator, ValidatorChange
from stratos.wire.codec import decode, encode
from stratos.wire.scalars import Hash32, Height

R = TypeVar("R")
RECENT_BLOCKS = 32

_GENESIS = b"genesis"
_TIP = b"tip"
_CHANGES = b"changes"


class StoreMismatch(Exception):
    """The store belongs to another network, or lacks what it should have."""


class TipRecord(Struct, frozen=True, array_like=True):
    """The newest height, its certificate, and the hashes of the voter sets of this height and the next two."""

    height: Height
    commit: Commit
    voters: Hash32
    validators: Hash32
    next_validators: Hash32


class BlockLog:
    """Reads blocks and voter sets of one state, and prepares the records of the next block."""

    def __init__(self, state: State, *, genesis_hash: bytes) -> None:
        self._state = state
        self._genesis_hash = genesis_hash
        self._blocks: OrderedDict[int, CommittedBlock] = OrderedDict()
        self._sets: dict[bytes, ValidatorSet] = {}
        found = state.extra(_GENESIS)
        if found is not None and found != genesis_hash:
            raise StoreMismatch(
                f"the store is of network {found.hex()[:16]}, genesis.json is {genesis_hash.hex()[:16]}; "
                "use the genesis file the store was made with, or an empty data folder"
            )
        self.is_new = found is None
        """Nothing was ever committed here."""
        changes = state.extra(_CHANGES)
        self._changes: tuple[int, ...] = () if changes is None else decode(changes, tuple[int, ...])

    # -- writing -------------------------------------------------------------------------------------------------

    def first_records(self, voters: ValidatorSet) -> dict[bytes, bytes]:
        """Records of a network's beginning: which one it is, and who votes first."""
        self.is_new = False
        return {_GENESIS: self._genesis_hash, **self._set_record(voters)}

    def records(self, block: Block, commit: Commit, *, following: ValidatorSet) -> dict[bytes, bytes]:
        """Records of one block, which is also remembered in memory. `following` votes at height + 2."""
        header = block.header
        committed = CommittedBlock(block, commit)
        records = {
            _block_key(header.height): encode(committed),
            _TIP: encode(
                TipRecord(header.height, commit, header.validators_hash, header.next_validators_hash, following.hash)
            ),
        }
        if following.hash not in self._sets:
            records |= self._set_record(following)
        if header.next_validators_hash != header.validators_hash:
            self._changes = (*self._changes, header.height)
            records[_CHANGES] = encode(self._changes)
        remember(self._blocks, header.height, committed, RECENT_BLOCKS)
        return records

    def _set_record(self, voters: ValidatorSet) -> dict[bytes, bytes]:
        self._sets[voters.hash] = voters
        return {_set_key(voters.hash): encode(voters.validators)}

    # -- reading -------------------------------------------------------------------------------------------------

    def tip(self) -> Tip | None:
        """Where consensus goes on; None when no block was committed yet."""
        data = self._state.extra(_TIP)
        if data is None:
            return None
        record = decode(data, TipRecord)
        stored = self.block(record.height)
        if stored is None:
            raise StoreMismatch(f"block {record.height} is missing from the store; remove it and let the node catch up")
        return Tip(
            height=record.height,
            block_hash=header_hash(stored.block.header),
            time_ms=stored.block.header.time_ms,
            commit=record.commit,
            voters=self.validators(record.voters),
            validators=self.validators(record.validators),
            next_validators=self.validators(record.next_validators),
        )

    def validators(self, set_hash: bytes) -> ValidatorSet:
        """The voter set of this hash; KeyError when this layer never had it."""
        known = self._sets.get(set_hash)
        if known is None:
            data = self._state.extra(_set_key(set_hash))
            if data is None:
                raise KeyError(set_hash.hex())
            known = self._sets[set_hash] = ValidatorSet(decode(data, tuple[Validator, ...]))
        return known

    def announced(self, block: Block) -> tuple[Validator, ...]:
        """The next height's voters where the block changes them, else none."""
        header = block.header
        if header.next_validators_hash == header.validators_hash:
            return ()
        return self.validators(header.next_validators_hash).validators

    def block(self, height: int) -> CommittedBlock | None:
        """A committed block with its certificate."""
        known = self._blocks.get(height)
        if known is None:
            data = self._state.extra(_block_key(height))
            known = None if data is None else decode(data, CommittedBlock)
        return known

    def change(self, height: int) -> ValidatorChange | None:
        """Header, certificate and, when the set changes after it, the next set."""
        found = self.block(height)
        return None if found is None else ValidatorChange(found.block.header, found.commit, self.announced(found.block))

    def changes(self, first: int, *, most: int) -> tuple[ValidatorChange, ...]:
        """Changes of the voter set at heights >= `first`, oldest first, at most so many."""
        heights = [height for height in self._changes if height >= first][:most]
        return tuple(change for change in map(self.change, heights) if change is not None)


def remember(memory: "OrderedDict[int, R]", height: int, record: R, bound: int) -> None:
    """Put a height's record into a memory of at most `bound` heights."""
    memory[height] = record
    while len(memory) > bound:
        memory.popitem(last=False)


def _block_key(height: int) -> bytes:
    return b"block/" + height.to_bytes(8, "big")


def _set_key(set_hash: bytes) -> bytes:
    return b"set/" + set_hash
