"""Commit certificates: making them from votes, and checking them with nothing but the validator set.

Valid means: for the expected height and block hash, indices strictly ascending and inside the set, every signature
right, and the signers' weight more than two thirds. One wrong signature spoils a certificate even when the rest would
do, so that there is no unsigned freight in something whose hash others build on. `certificate_checks` separates the
arithmetic from the signatures: a caller with threads, or one who has seen most votes before, checks only the rest.
"""

from stratos.bft.signing import SignatureCheck, Verifier, vote_bytes
from stratos.bft.validator_set import ValidatorSet
from stratos.bft.votes import VoteSet
from stratos.wire.block import NIL_HASH, PRECOMMIT, Commit, VoteSignatures


class CertificateError(ValueError):
    """A certificate that does not prove what it should."""


def make_commit(*, height: int, round_number: int, block_hash: bytes, precommits: VoteSet) -> Commit:
    """The certificate made of all precommits for the block that are known."""
    return Commit(height, round_number, block_hash, precommits.signatures(block_hash))


def signature_checks(
    signatures: VoteSignatures,
    validators: ValidatorSet,
    *,
    message: bytes,
    round_number: int,
    block_hash: bytes,
    known: VoteSet | None,
) -> list[SignatureCheck]:
    """Signatures left to check in a list that claims a quorum; raises CertificateError when it cannot be one.

    `known` are checked votes of the same kind and height; those of the same round and block need no second check.
    """
    previous = -1
    weight = 0
    checks = []
    for signature in signatures:
        index = signature.index
        if index <= previous or index >= len(validators):
            raise CertificateError(
                f"signer index {index} after {previous} in a set of {len(validators)}; sort by index, each once"
            )
        previous = index
        validator = validators[index]
        weight += validator.weight
        vote = known.votes.get(index) if known is not None else None
        if (
            vote is None
            or vote.round != round_number
            or vote.block_hash != block_hash
            or vote.signature != signature.signature
        ):
            checks.append(SignatureCheck(validator.public_key, message, signature.signature))
    if not validators.is_quorum(weight):
        raise CertificateError(
            f"signers weigh {weight} of {validators.total}, which is not more than two thirds; collect more votes"
        )
    return checks


def certificate_checks(
    commit: Commit,
    validators: ValidatorSet,
    *,
    genesis_hash: bytes,
    layer: str,
    height: int,
    block_hash: bytes,
    known: VoteSet | None = None,
) -> list[SignatureCheck]:
    """Everything about a certificate but its signatures, which are returned (without those in `known`)."""
    if commit.height != height or commit.block_hash != block_hash or block_hash == NIL_HASH:
        raise CertificateError(
            f"certificate is for height {commit.height} block {commit.block_hash.hex()[:16]}, "
            f"wanted height {height} block {block_hash.hex()[:16]}"
        )
    message = vote_bytes(
        genesis_hash,
        layer=layer,
        kind=PRECOMMIT,
        height=height,
        round_number=commit.round,
        block_hash=block_hash,
    )
    return signature_checks(
        commit.signatures,
        validators,
        message=message,
        round_number=commit.round,
        block_hash=block_hash,
        known=known,
    )


def run_checks(checks: list[SignatureCheck], verify: Verifier) -> None:
    """Check signatures one by one; raises CertificateError at the first wrong one."""
    for check in checks:
        if not verify(check.public_key, check.message, check.signature):
            raise CertificateError(f"signature by key {check.public_key.hex()[:16]} is wrong; the vote was not cast")


def verify_commit(
    block_hash: bytes,
    commit: Commit,
    validators: ValidatorSet,
    *,
    height: int,
    genesis_hash: bytes,
    layer: str,
    verify: Verifier,
) -> None:
    """Raise CertificateError unless `commit` proves that more than 2/3 of `validators` decided this block."""
    run_checks(
        certificate_checks(
            commit, validators, genesis_hash=genesis_hash, layer=layer, height=height, block_hash=block_hash
        ),
        verify,
    )
