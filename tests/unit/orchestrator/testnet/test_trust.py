"""What a client with only the genesis file believes, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from orchestrator.errors import VerdictFailed
from orchestrator.testnet.trust import genesis_validators, proven_value, trusted_header
from stratos.bft.blocks import header_hash
from stratos.bft.signing import vote_bytes
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.state import Branch, State
from stratos.wire.block import HEADER_VERSION, NIL_HASH, PRECOMMIT, Commit, Header, PrecommitSignature
from stratos.wire.chainrpc import ProofAnswer
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis, GenesisValidator, genesis_hash

KEYS = [NodeKey.from_seed(bytes([number]) * 32) for number in range(1, 5)]
OWNER = WalletKey.from_secret(b"\x09" * 32)
GENESIS = Genesis(
    network="proofs",
    time_ms=1_800_000_000_000,
    validators=tuple(
        GenesisValidator(
            operator=OWNER.address, node_public_key=key.public_key, stake_wei=str(10**21), name=f"v{index}"
        )
        for index, key in enumerate(KEYS)
    ),
)


def test_the_first_validators_follow_from_the_genesis() -> None:
    """Every genesis validator is in the first set with the weight of its stake."""
    members = genesis_validators(GENESIS)
    assert {member.public_key for member in members} == {key.public_key for key in KEYS}
    assert {member.weight for member in members} == {10**21 // int(GENESIS.ledger.staking.power_unit_wei)}


def signed(header: Header, signers: list[NodeKey]) -> Commit:
    """A certificate for the header by these keys."""
    members = genesis_validators(GENESIS)
    block_hash = header_hash(header)
    message = vote_bytes(
        genesis_hash(GENESIS),
        layer="value",
        kind=PRECOMMIT,
        height=header.height,
        round_number=0,
        block_hash=block_hash,
    )
    signatures = []
    for key in signers:
        index = members.index_of(key.address)
        assert index is not None
        signatures.append(PrecommitSignature(index, key.sign(message)))
    return Commit(header.height, 0, block_hash, tuple(sorted(signatures, key=lambda one: one.index)))


def header_over(root: bytes) -> Header:
    members = genesis_validators(GENESIS)
    empty = NIL_HASH
    return Header(
        HEADER_VERSION, "value", genesis_hash(GENESIS), 7, GENESIS.time_ms + 1, empty, empty, empty, root, empty, empty,
        members.hash, members.hash, KEYS[0].address,
    )  # fmt: skip


class AnsweringApi:
    """A validator that answers whatever the test says."""

    def __init__(self, answer: ProofAnswer) -> None:
        self.answer = answer

    def proof(self, key_text: str) -> ProofAnswer:
        return self.answer

    def validator_changes(self) -> list[Any]:
        return []


@pytest.fixture
def honest() -> ProofAnswer:
    """A true answer about key `bank/x`, whose value is 5."""
    state = State()
    branch: Branch = state.fork()
    branch.set(b"bank/x", b"5")
    branch.set(b"bank/y", b"6")
    root = state.commit(branch, 7)
    header = header_over(root)
    return ProofAnswer(b"bank/x", b"5", encode(state.prove(b"bank/x")), header, signed(header, KEYS))


def ask(answer: ProofAnswer, key: bytes = b"bank/x") -> Any:
    return proven_value(GENESIS, AnsweringApi(answer), key)  # type: ignore[arg-type]


def test_a_true_answer_is_believed(honest: ProofAnswer) -> None:
    """The value, its height and its root come out of a proof that holds."""
    proven = ask(honest)
    assert (proven.value, proven.height, proven.state_root) == (b"5", 7, honest.header.state_root)


def test_a_changed_value_key_root_or_proof_is_refused(honest: ProofAnswer) -> None:
    """Changing anything in an answer makes it worthless."""
    forged = [
        structs.replace(honest, value=b"6"),
        structs.replace(honest, value=None),
        structs.replace(honest, key=b"bank/y"),
        structs.replace(honest, proof=b"\x00"),
        structs.replace(honest, header=structs.replace(honest.header, state_root=bytes(32))),
        structs.replace(honest, header=structs.replace(honest.header, genesis_hash=bytes(32))),
        structs.replace(honest, commit=structs.replace(honest.commit, signatures=honest.commit.signatures[:2])),
    ]
    for answer in forged:
        with pytest.raises(VerdictFailed):
            ask(answer)


def test_too_few_or_foreign_signatures_are_refused(honest: ProofAnswer) -> None:
    """More than two thirds of the genesis stake must have signed; half is not enough, three of four are."""
    trusted_header(GENESIS, honest.header, signed(honest.header, KEYS[:3]), [])
    with pytest.raises(VerdictFailed):
        trusted_header(GENESIS, honest.header, signed(honest.header, KEYS[:2]), [])


def test_absence_is_proved_too(honest: ProofAnswer) -> None:
    """A key that is not there has a proof of that."""
    state = State()
    branch = state.fork()
    branch.set(b"bank/x", b"5")
    root = state.commit(branch, 7)
    header = header_over(root)
    answer = ProofAnswer(b"bank/z", None, encode(state.prove(b"bank/z")), header, signed(header, KEYS))
    assert ask(answer, b"bank/z").value is None
