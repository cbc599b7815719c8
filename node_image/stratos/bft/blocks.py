"""Hashes of blocks and the one way to put a block together.

A block's hash is that of its header alone; the header commits to entries, certificate and roots. Entries are always
moved whole, so their root is a plain hash of hashes (state, results and bridge have authenticated roots of
their own, made by the application). Votes and proposals are signed over tag, genesis hash and protocol version, so a
signature means nothing on another network, layer, height or round.
"""

from collections.abc import Sequence

from blake3 import blake3

from stratos.bft.events import BlockTemplate
from stratos.wire.block import HEADER_VERSION, Block, Commit, Header
from stratos.wire.codec import encode


def header_hash(header: Header) -> bytes:
    """The block hash: BLAKE3 of the canonical header."""
    return blake3(encode(header)).digest()


def commit_hash(commit: Commit) -> bytes:
    """Hash of a certificate, as found in the next block's header."""
    return blake3(encode(commit)).digest()


def entries_root(entries: Sequence[bytes]) -> bytes:
    """BLAKE3 over the BLAKE3 of each entry, in order; an empty list hashes the empty string."""
    return blake3(b"".join([blake3(entry).digest() for entry in entries])).digest()


def seal(
    template: BlockTemplate,
    *,
    entries: tuple[bytes, ...],
    state_root: bytes,
    results_root: bytes,
    bridge_root: bytes,
) -> Block:
    """The block of `template` with its entries and the roots after executing them."""
    header = Header(
        HEADER_VERSION,
        template.layer,
        template.genesis_hash,
        template.height,
        template.time_ms,
        template.previous_hash,
        commit_hash(template.last_commit),
        entries_root(entries),
        state_root,
        results_root,
        bridge_root,
        template.validators_hash,
        template.next_validators_hash,
        template.proposer,
    )
    return Block(header, template.last_commit, entries)
