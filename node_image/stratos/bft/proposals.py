"""Checks on blocks and proposals that need no execution: header against the chain, time, size, certificate, polka.

What is wrong here is wrong for everyone, so a proposal that fails is treated as if it never came. Only the time
rule depends on the local clock (protocol 3), so it is not an error but a property of an arrival (`is_timely`), which the
prevote rule weighs.
"""

from stratos.bft.blocks import commit_hash, entries_root
from stratos.bft.certificate import certificate_checks, signature_checks
from stratos.bft.height import HeightState, Tip
from stratos.bft.signing import SignatureCheck, proposal_bytes, vote_bytes
from stratos.bft.votes import VoteSet
from stratos.wire.block import EMPTY_COMMIT, HEADER_VERSION, PREVOTE, Block, Header, Proposal
from stratos.wire.genesis import ConsensusParams


class BlockError(ValueError):
    """A block or proposal that cannot follow the committed chain."""


def check_identity(header: Header, *, layer: str, genesis_hash: bytes, height: int) -> None:
    """The header is of this version, network, layer and height."""
    if header.version != HEADER_VERSION:
        raise BlockError(f"header version {header.version} is unknown here; update this node")
    if header.layer != layer or header.genesis_hash != genesis_hash:
        raise BlockError(f"header is of layer {header.layer}, network {header.genesis_hash.hex()[:16]}; wrong peer")
    if header.height != height:
        raise BlockError(f"header is of height {header.height}, expected {height}")


def check_succession(header: Header, tip: Tip) -> None:
    """The header continues the chain after `tip`."""
    if header.previous_hash != tip.block_hash:
        raise BlockError(
            f"block {header.height} follows {header.previous_hash.hex()[:16]}, committed is {tip.block_hash.hex()[:16]}"
        )
    if header.time_ms <= tip.time_ms:
        raise BlockError(f"block time {header.time_ms} is not after {tip.time_ms}; block time must increase")
    if header.validators_hash != tip.validators.hash or header.next_validators_hash != tip.next_validators.hash:
        raise BlockError(f"block {header.height} names other validators than the chain decided")


def check_body(block: Block, params: ConsensusParams) -> None:
    """Entries and certificate are those the header commits to, and not too many bytes."""
    size = sum(map(len, block.entries))
    if size > params.max_block_bytes:
        raise BlockError(f"block of {size} bytes of entries is over the limit of {params.max_block_bytes}")
    if block.header.entries_root != entries_root(block.entries):
        raise BlockError(f"entries of block {block.header.height} are not those of its header")
    if block.header.last_commit_hash != commit_hash(block.last_commit):
        raise BlockError(f"certificate in block {block.header.height} is not that of its header")


def last_commit_checks(
    block: Block, tip: Tip, *, genesis_hash: bytes, layer: str, known: VoteSet | None
) -> list[SignatureCheck]:
    """Signatures of the previous block's certificate that are not known yet; raises CertificateError."""
    if tip.commit == EMPTY_COMMIT:
        if block.last_commit != EMPTY_COMMIT:
            raise BlockError("the first block carries a certificate; there is nothing before it to certify")
        return []
    return certificate_checks(
        block.last_commit,
        tip.voters,
        genesis_hash=genesis_hash,
        layer=layer,
        height=tip.height,
        block_hash=tip.block_hash,
        known=known,
    )


def proposal_checks(
    proposal: Proposal, block_hash: bytes, state: HeightState, *, genesis_hash: bytes, layer: str
) -> list[SignatureCheck]:
    """Signatures of a proposal: its proposer's, and its polka's as far as unknown; raises BlockError, CertificateError."""
    if proposal.valid_round >= proposal.round:
        raise BlockError(f"valid round {proposal.valid_round} is not before round {proposal.round}")
    if proposal.valid_round < 0 and proposal.polka:
        raise BlockError("a new block was proposed with a polka; a polka needs its valid round")
    if state.validators.index_of(proposal.block.header.proposer) is None:
        raise BlockError(f"block names proposer {proposal.block.header.proposer.hex()}, who is not a validator")
    proposer = state.validators.proposer(proposal.height, proposal.round)
    if proposal.valid_round < 0 and proposal.block.header.proposer != proposer.address:
        raise BlockError(
            f"block names proposer {proposal.block.header.proposer.hex()}, "
            f"round {proposal.round} belongs to {proposer.address.hex()}"
        )
    message = proposal_bytes(
        genesis_hash,
        layer=layer,
        height=proposal.height,
        round_number=proposal.round,
        valid_round=proposal.valid_round,
        block_hash=block_hash,
    )
    checks = [SignatureCheck(proposer.public_key, message, proposal.signature)]
    if proposal.valid_round >= 0:
        known = state.votes.round(proposal.valid_round).prevotes if state.votes.keeps(proposal.valid_round) else None
        polka_message = vote_bytes(
            genesis_hash,
            layer=layer,
            kind=PREVOTE,
            height=proposal.height,
            round_number=proposal.valid_round,
            block_hash=block_hash,
        )
        checks += signature_checks(
            proposal.polka,
            state.validators,
            message=polka_message,
            round_number=proposal.valid_round,
            block_hash=block_hash,
            known=known,
        )
    return checks


def is_timely(time_ms: int, wall_ms: int, params: ConsensusParams) -> bool:
    """Not too far ahead of the local clock, not too far behind it (protocol 3)."""
    ahead_ms = time_ms - wall_ms
    return -params.message_delay_seconds * 1000 <= ahead_ms <= params.clock_drift_seconds * 1000
