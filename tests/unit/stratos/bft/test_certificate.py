"""A certificate proves that more than two thirds of the weight decided one block."""

from collections.abc import Sequence

import pytest

from stratos.bft.certificate import CertificateError, verify_commit
from stratos.bft.signing import vote_bytes
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import NodeKey, verify_node
from stratos.sim.cluster import sim_key
from stratos.wire.block import PRECOMMIT, PREVOTE, Commit, PrecommitSignature, Validator

GENESIS = b"g" * 32
BLOCK = b"b" * 32
KEYS = sorted((sim_key(2, "certificate", index) for index in range(4)), key=lambda key: key.address)
WEIGHTS = (10, 1, 1, 1)
VOTERS = ValidatorSet(Validator(key.address, key.public_key, weight) for key, weight in zip(KEYS, WEIGHTS, strict=True))


def signature(key: NodeKey, *, kind: int = PRECOMMIT, round_number: int = 0, layer: str = "value") -> bytes:
    return key.sign(vote_bytes(GENESIS, layer=layer, kind=kind, height=7, round_number=round_number, block_hash=BLOCK))


def commit(indices: Sequence[int]) -> Commit:
    return Commit(7, 0, BLOCK, tuple(PrecommitSignature(index, signature(KEYS[index])) for index in indices))


def check(certificate: Commit, *, block_hash: bytes = BLOCK, height: int = 7, layer: str = "value") -> None:
    verify_commit(block_hash, certificate, VOTERS, height=height, genesis_hash=GENESIS, layer=layer, verify=verify_node)


def test_weight_decides_not_heads() -> None:
    """One voter with most of the weight suffices, three light ones do not."""
    check(commit([0]))
    with pytest.raises(CertificateError, match="weigh 3 of 13"):
        check(commit([1, 2, 3]))


@pytest.mark.parametrize("indices", [[0, 0], [1, 0], [0, 4]])
def test_indices_are_distinct_sorted_and_known(indices: list[int]) -> None:
    """A voter counts once, and only one certificate can be written for a set of votes."""
    votes = tuple(PrecommitSignature(index, signature(KEYS[index % 4])) for index in indices)
    with pytest.raises(CertificateError, match="signer index"):
        check(Commit(7, 0, BLOCK, votes))


def test_one_wrong_signature_spoils_it() -> None:
    """Even when the rest would be enough."""
    votes = (PrecommitSignature(0, signature(KEYS[0])), PrecommitSignature(1, signature(KEYS[2])))
    with pytest.raises(CertificateError, match="signature"):
        check(Commit(7, 0, BLOCK, votes))


@pytest.mark.parametrize(
    "wrong",
    [{"kind": PREVOTE}, {"round_number": 1}, {"layer": "meta"}],
    ids=["prevote", "other round", "other layer"],
)
def test_a_vote_of_another_kind_round_or_layer_is_no_precommit(wrong: dict[str, object]) -> None:
    """Signatures mean one thing only."""
    votes = (PrecommitSignature(0, signature(KEYS[0], **wrong)),)  # type: ignore[arg-type]
    with pytest.raises(CertificateError):
        check(Commit(7, 0, BLOCK, votes))


def test_it_is_for_the_expected_height_and_block() -> None:
    """A good certificate of another block proves nothing here."""
    with pytest.raises(CertificateError, match="certificate is for"):
        check(commit([0]), block_hash=b"c" * 32)
    with pytest.raises(CertificateError, match="certificate is for"):
        check(commit([0]), height=8)
