"""Consensus records, the same for both layers (value: stake weights, meta: equal weights).

A block is executed before it is voted on, so its header already carries the roots *after* its own execution: a
diverging state machine shows as a nil prevote, never as a committed fork, and a proof can be checked against the
very header whose block caused the change. `last_commit` is the certificate of the previous block; its hash is in
the header, which makes the certificate itself canonical (placement draws randomness from it, protocol 7).
"""

from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.codec import encode
from stratos.wire.scalars import (
    Address,
    Count,
    Ed25519Public,
    Ed25519Signature,
    Hash32,
    Height,
    Layer,
    ShortText,
    TimeMs,
    Uint,
)

HEADER_VERSION = 1
NIL_HASH = b"\0" * 32
"""Block hash in a vote for nil."""

PREVOTE = 1
PRECOMMIT = 2


class Validator(Struct, frozen=True, array_like=True):
    """One voter: node identity and weight (stake in units of power, or 1 on the meta layer)."""

    address: Address
    public_key: Ed25519Public
    weight: Uint


ValidatorList = Annotated[tuple[Validator, ...], Meta(max_length=limits.MAX_VALIDATORS)]
"""Sorted by address; sum of weights below 2**62."""


class PrecommitSignature(Struct, frozen=True, array_like=True):
    """One vote in a certificate (precommits) or polka (prevotes), by index in the height's validator list."""

    index: Count
    signature: Ed25519Signature


VoteSignatures = Annotated[tuple[PrecommitSignature, ...], Meta(max_length=limits.MAX_VALIDATORS)]


class Commit(Struct, frozen=True, array_like=True):
    """Commit certificate: precommits of > 2/3 of the weight for one block, sorted by index. Height 0 has none."""

    height: Height
    round: Count
    block_hash: Hash32
    signatures: VoteSignatures


EMPTY_COMMIT = Commit(0, 0, NIL_HASH, ())


class Header(Struct, frozen=True, array_like=True):
    """Block header. block hash = BLAKE3(canonical bytes of the header)."""

    version: Count
    layer: Layer
    genesis_hash: Hash32
    height: Height
    time_ms: TimeMs
    previous_hash: Hash32
    last_commit_hash: Hash32
    entries_root: Hash32
    state_root: Hash32
    results_root: Hash32
    bridge_root: Hash32
    validators_hash: Hash32
    next_validators_hash: Hash32
    proposer: Address


class Block(Struct, frozen=True, array_like=True):
    """Header, previous certificate and the ordered entries (transactions or meta log entries), as raw bytes."""

    header: Header
    last_commit: Commit
    entries: Annotated[
        tuple[Annotated[bytes, Meta(max_length=limits.MAX_ENTRY_BYTES)], ...],
        Meta(max_length=limits.MAX_TXS_PER_BLOCK),
    ]


class Proposal(Struct, frozen=True, array_like=True, tag="proposal"):
    """A block proposed for (height, round). `valid_round` is the round of the polka it rests on, -1 for none; `polka`
    carries that round's prevotes themselves, so a re-proposal convinces a node that missed them."""

    height: Height
    round: Count
    valid_round: Annotated[int, Meta(ge=-1, le=2**31 - 1)]
    block: Block
    polka: VoteSignatures
    signature: Ed25519Signature


class Vote(Struct, frozen=True, array_like=True, tag="vote"):
    """Prevote (kind 1) or precommit (kind 2) for a block hash, or NIL_HASH.

    `index` is the validator's index at that height. Signed: tag b"prevote" or b"precommit" over `vote_body`.
    """

    kind: Annotated[int, Meta(ge=1, le=2)]
    height: Height
    round: Count
    block_hash: Hash32
    index: Count
    signature: Ed25519Signature


class RoundStatus(Struct, frozen=True, array_like=True, tag="status"):
    """What a node has, told to peers when it makes no progress, so that they send what it lacks.

    Bitmaps are little-endian integers as bytes, bit i = vote of validator i in (height, round) is known.
    """

    height: Height
    round: Count
    step: Count
    has_proposal: bool
    prevotes: Annotated[bytes, Meta(max_length=16)]
    precommits: Annotated[bytes, Meta(max_length=16)]


class CommittedBlock(Struct, frozen=True, array_like=True, tag="committed"):
    """A block with its own certificate, for peers that lag."""

    block: Block
    commit: Commit


class CatchUpRequest(Struct, frozen=True, array_like=True, tag="catch_up"):
    """Asks one peer for committed blocks `first` .. `first + count - 1`, each answered by a CommittedBlock."""

    first: Height
    count: Annotated[int, Meta(ge=1, le=limits.MAX_CATCH_UP_BLOCKS)]


ConsensusMessage = Proposal | Vote | RoundStatus | CommittedBlock | CatchUpRequest


class SignedHeader(Struct, frozen=True, array_like=True):
    """A header with a commit certificate: what a client needs to trust the roots in it."""

    header: Header
    commit: Commit


class ValidatorChange(Struct, frozen=True, array_like=True):
    """A height whose header announces another validator set for the next height, with that set (light clients)."""

    header: Header
    commit: Commit
    next_validators: ValidatorList


def vote_body(*, layer: str, height: int, round_number: int, block_hash: bytes) -> bytes:
    """What a vote's signature covers beside tag, genesis hash and protocol version."""
    return encode((layer, height, round_number, block_hash))


def proposal_body(*, layer: str, height: int, round_number: int, valid_round: int, block_hash: bytes) -> bytes:
    """What a proposal's signature covers beside tag, genesis hash and protocol version."""
    return encode((layer, height, round_number, valid_round, block_hash))


class Event(Struct, frozen=True, array_like=True):
    """What a block did, for people and for the bridge: a kind and ordered (name, value) pairs, values as text."""

    kind: ShortText
    attributes: Annotated[
        tuple[tuple[ShortText, Annotated[str, Meta(max_length=4096)]], ...],
        Meta(max_length=64),
    ]


class EntryResult(Struct, frozen=True, array_like=True):
    """Outcome of one entry of a block: code "ok" or an error code, one sentence, events."""

    code: ShortText
    error: Annotated[str, Meta(max_length=1024)]
    events: Annotated[tuple[Event, ...], Meta(max_length=256)]
