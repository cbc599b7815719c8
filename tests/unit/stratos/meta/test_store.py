"""What a meta node's store says about itself."""

import pytest

from stratos.bft.validator_set import ValidatorSet
from stratos.meta.store import META_RULES, MetaStore
from stratos.net.block_log import StoreMismatch
from stratos.state import State
from stratos.wire.block import Validator
from stratos.wire.genesis import Genesis, genesis_hash

GENESIS = Genesis(network="unit", time_ms=0)


def opened(state: State) -> MetaStore:
    return MetaStore(state, genesis=GENESIS, genesis_hash=genesis_hash(GENESIS))


def with_rules(rules: bytes) -> State:
    state = State()
    state.commit(state.fork(), 0, {b"meta_rules": rules})
    return state


def test_a_store_made_with_other_rules_is_refused() -> None:
    """Both versions and the fix in one sentence."""
    opened(State())
    opened(with_rules(META_RULES))
    with pytest.raises(
        StoreMismatch, match="meta rules version '2' and this program applies '1'; start it with the image"
    ):
        opened(with_rules(b"2"))


def test_a_log_begins_with_the_version_of_its_rules() -> None:
    """It is among the records that the first block writes."""
    store = opened(State())
    store.begin(ValidatorSet([Validator(b"a" * 20, b"k" * 32, 1)]))
    assert store._first[b"meta_rules"] == META_RULES
