"""Blocks, certificates and voter sets beside a state: found again, bounded in memory, of one network only."""

from pathlib import Path

import msgspec
import pytest

from stratos.bft.blocks import header_hash
from stratos.bft.validator_set import ValidatorSet
from stratos.net.block_log import RECENT_BLOCKS, BlockLog, StoreMismatch
from stratos.state import DurableState, State
from stratos.wire.block import EMPTY_COMMIT, HEADER_VERSION, NIL_HASH, Block, Commit, Header, Validator

GENESIS_HASH = b"g" * 32


def voters(weight: int) -> ValidatorSet:
    return ValidatorSet((Validator(b"v" * 20, b"k" * 32, weight),))


def block(height: int, now: ValidatorSet, following: ValidatorSet) -> Block:
    nil = NIL_HASH
    header = Header(
        HEADER_VERSION, "value", GENESIS_HASH, height, height, nil, nil, nil, nil, nil, nil, now.hash, following.hash,
        b"v" * 20,
    )  # fmt: skip
    return Block(header, EMPTY_COMMIT, ())


def write(state: State, log: BlockLog, height: int, now: ValidatorSet, following: ValidatorSet) -> Commit:
    """Commit a block that `now` decided and after which `following` votes."""
    made = block(height, now, following)
    commit = msgspec.structs.replace(EMPTY_COMMIT, height=height, block_hash=header_hash(made.header))
    first = log.first_records(now) if log.is_new else {}
    state.commit(state.fork(), height, first | log.records(made, commit, following=following))
    return commit


def test_a_reopened_store_knows_blocks_sets_changes_and_where_it_stands(tmp_path: Path) -> None:
    """Everything a restarted node needs to vote on is there, and every change of voters with its set."""
    old, new = voters(1), voters(2)
    state = DurableState.open(tmp_path / "store")
    log = BlockLog(state, genesis_hash=GENESIS_HASH)
    assert (log.is_new, log.tip()) == (True, None)
    write(state, log, 1, old, old)
    write(state, log, 2, old, new)
    commit = write(state, log, 3, new, new)
    state.close()
    state = DurableState.open(tmp_path / "store")
    again = BlockLog(state, genesis_hash=GENESIS_HASH)
    tip = again.tip()
    assert tip is not None and not again.is_new
    assert (tip.height, tip.block_hash, tip.commit, tip.validators.hash) == (3, commit.block_hash, commit, new.hash)
    assert [(change.header.height, change.next_validators) for change in again.changes(1, most=9)] == [
        (2, new.validators)
    ]
    assert (again.changes(3, most=9), again.changes(1, most=0), again.block(4)) == ((), (), None)
    with pytest.raises(KeyError):
        again.validators(b"x" * 32)
    state.close()


def test_old_blocks_leave_memory_and_are_read_again() -> None:
    """However long the chain, only the newest blocks are held; older ones come from the store."""
    state, one = State(), voters(1)
    log = BlockLog(state, genesis_hash=GENESIS_HASH)
    for height in range(1, RECENT_BLOCKS + 10):
        write(state, log, height, one, one)
    assert len(log._blocks) == RECENT_BLOCKS
    found = log.block(1)
    assert found is not None and found.block == block(1, one, one)


def test_a_store_of_another_network_is_refused() -> None:
    """Opening the wrong data folder is one sentence with the fix."""
    state = State()
    write(state, BlockLog(state, genesis_hash=GENESIS_HASH), 1, voters(1), voters(1))
    with pytest.raises(StoreMismatch, match="use the genesis file the store was made with"):
        BlockLog(state, genesis_hash=b"h" * 32)
