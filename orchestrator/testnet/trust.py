"""Belief with only the genesis file: which header, and which value of the state, a client may trust.

The first validators follow from the genesis by the ledger's own genesis rules; every later set is reached over changes
that the set before it signed; a header counts when more than two thirds of its set signed it; a value counts when its
proof leads to that header's state root. Whoever answers can refuse to answer, but not lie.
"""

from __future__ import annotations

import itertools

from msgspec import Struct

from orchestrator.chain_api import ChainApi
from orchestrator.errors import VerdictFailed
from stratos.bft.light import LightClient, LightClientError
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import verify_node
from stratos.ledger import staking
from stratos.ledger.machine import Ledger
from stratos.state import Branch, MemoryStore, StateProof, verify_state_proof
from stratos.wire.block import Commit, Header, ValidatorChange
from stratos.wire.codec import WireError, decode
from stratos.wire.genesis import Genesis

VALUE_LAYER = "value"


class Proven(Struct, frozen=True, kw_only=True):
    """A state key at a height: `value` None proves that it has none."""

    key: bytes
    value: bytes | None
    height: int
    time_ms: int
    state_root: bytes
    block_hash: bytes
    signers: int
    validators: int


def genesis_validators(genesis: Genesis) -> ValidatorSet:
    """The value layer's first validator set."""
    branch = Branch(MemoryStore())
    Ledger(genesis).init_genesis(branch)
    return ValidatorSet(staking.voters(branch))


def light_client(genesis: Genesis) -> LightClient:
    """A light client of the value layer that trusts nothing but the genesis."""
    return LightClient(
        layer=VALUE_LAYER,
        genesis_hash=Ledger(genesis).genesis_hash,
        validators=genesis_validators(genesis),
        verify=verify_node,
    )


def trusted_header(genesis: Genesis, header: Header, commit: Commit, changes: list[ValidatorChange]) -> bytes:
    """The block hash of a header that follows from the genesis; raises VerdictFailed."""
    client = light_client(genesis)
    before = itertools.takewhile(lambda change: change.header.height < header.height, changes)
    try:
        client.follow(before)
        return client.check(header, commit)
    except LightClientError as error:
        raise VerdictFailed(f"the proof does not follow from the genesis file: {error}") from error


def proven_value(genesis: Genesis, api: ChainApi, key: bytes) -> Proven:
    """The value of a state key in the newest block, verified; raises VerdictFailed when anything does not follow."""
    answer = api.proof(f"hex:{key.hex()}")
    block_hash = trusted_header(genesis, answer.header, answer.commit, api.validator_changes())
    if answer.key != key:
        raise VerdictFailed(f"the proof is about key {answer.key.hex()}, not {key.hex()}; ask another validator")
    try:
        proof = decode(answer.proof, StateProof)
    except WireError as error:
        raise VerdictFailed(f"the state proof is malformed ({error}); ask another validator") from error
    if not verify_state_proof(answer.header.state_root, key, answer.value, proof):
        raise VerdictFailed(
            f"the state proof does not lead to the state root of block {answer.header.height}; ask another validator"
        )
    return Proven(
        key=key,
        value=answer.value,
        height=answer.header.height,
        time_ms=answer.header.time_ms,
        state_root=answer.header.state_root,
        block_hash=block_hash,
        signers=len(answer.commit.signatures),
        validators=len(genesis.validators),
    )
