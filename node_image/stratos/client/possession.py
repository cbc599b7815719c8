"""Does this holder really have this slice, now? Fresh challenges, judged by the asker (protocol 7, verification).

A challenge names a random piece of 64 KiB and a fresh nonce. The holder answers with the piece, its Merkle path to the
root that the placement committed to, and its signature over nonce and piece hash. So the answer can neither be prepared,
nor replayed, nor taken from another network; a copy counts when it was proven, not when the index says so.
"""

import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3
from msgspec import Struct

from stratos.crypto.keys import NodeKey, verify_node
from stratos.crypto.merkle import verify_merkle
from stratos.crypto.signing import sign_bytes
from stratos.resource.frames import RefusedByPeer
from stratos.resource.link import TRANSFER_ERRORS, BulkLink, LinkPool
from stratos.wire.limits import NONCE_BYTES, PROOF_PIECE_BYTES
from stratos.wire.metalog import HolderInfo, SliceSpec
from stratos.wire.transfer import TAG_POSSESSION, PossessionProof, ProvePossession

SLOW_DOWN = -1
SECONDS_PER_HOLDER = 60.0


class CopyCheck(Struct, frozen=True):
    """The outcome of one challenge; `reason` says why a copy was not proven."""

    slice_digest: bytes
    holder: bytes
    proven: bool
    reason: str = ""


def check_proof(
    proof: PossessionProof, *, spec: SliceSpec, piece: int, nonce: bytes, holder_key: bytes, genesis_hash: bytes
) -> str:
    """Why the answer proves nothing, or "" when it proves possession. Pure."""
    count = -(-spec.length // PROOF_PIECE_BYTES)
    expected = min(PROOF_PIECE_BYTES, spec.length - piece * PROOF_PIECE_BYTES)
    if proof.count != count or len(proof.piece_bytes) != expected:
        return f"answered {len(proof.piece_bytes)} bytes of {proof.count} pieces, wanted {expected} of {count}"
    piece_hash = blake3(proof.piece_bytes).digest()
    if not verify_merkle(spec.digest, piece_hash, piece, count, proof.path):
        return "the piece is not the one the placement committed to"
    signed = sign_bytes(TAG_POSSESSION, genesis_hash, nonce + piece_hash)
    return "" if verify_node(holder_key, signed, proof.signature) else "the answer is not signed by the holder"


def challenge_copies(
    copies: Iterable[tuple[SliceSpec, HolderInfo]],
    *,
    genesis_hash: bytes,
    transport: str,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    threads: int = 6,
) -> list[CopyCheck]:
    """Challenge every (slice, holder), each holder over one connection, holders side by side."""
    by_holder: dict[bytes, tuple[HolderInfo, list[SliceSpec]]] = {}
    for spec, holder in copies:
        by_holder.setdefault(holder.address, (holder, []))[1].append(spec)
    links = LinkPool(identity=NodeKey.generate(), genesis_hash=genesis_hash, transport=transport, now=time.monotonic)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="possession") as pool:
            work = [
                pool.submit(_challenge_holder, links, holder, specs, genesis_hash, random_bytes)
                for holder, specs in by_holder.values()
            ]
            return [check for one in work for check in one.result()]
    finally:
        links.close()


def _challenge_holder(
    links: LinkPool,
    holder: HolderInfo,
    specs: list[SliceSpec],
    genesis_hash: bytes,
    random_bytes: Callable[[int], bytes],
) -> list[CopyCheck]:
    checks: list[CopyCheck] = []
    link: BulkLink | None = None
    deadline = time.monotonic() + SECONDS_PER_HOLDER
    for spec in specs:
        try:
            link = link or links.get(holder.address, holder.network_address)
            reason = _challenge(link, holder, spec, genesis_hash, random_bytes, deadline)
        except TRANSFER_ERRORS as error:
            reason = str(error)
            if not isinstance(error, RefusedByPeer) and link is not None:
                link.close()
                link = None
        checks.append(CopyCheck(spec.digest, holder.address, not reason, reason))
    if link is not None:
        link.close()
    return checks


def _challenge(
    link: BulkLink,
    holder: HolderInfo,
    spec: SliceSpec,
    genesis_hash: bytes,
    random_bytes: Callable[[int], bytes],
    deadline: float,
) -> str:
    """One challenge; a holder that asks guests to slow down is asked again a little later."""
    while True:
        nonce = random_bytes(NONCE_BYTES)
        pieces = -(-spec.length // PROOF_PIECE_BYTES)
        piece = int.from_bytes(random_bytes(8), "big") % pieces
        try:
            link.send(ProvePossession(spec.digest, piece, nonce))
            proof = link.expect(PossessionProof)
        except RefusedByPeer as error:
            if error.code != SLOW_DOWN or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        return check_proof(
            proof, spec=spec, piece=piece, nonce=nonce, holder_key=holder.public_key, genesis_hash=genesis_hash
        )
