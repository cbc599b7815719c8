"""`checksums.json`: the SHA-256 of every published file, signed by the coordinator, so that a mirror need not be trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from stratos.crypto.keys import NodeKey, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import encode
from stratos.wire.scalars import TimeMs

SUMS_VERSION = 1
SUMS_FILE = "checksums.json"
TAG_PUBLISHED = b"published"
HexText = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$", max_length=128)]


class Sums(Struct, frozen=True, kw_only=True):
    """`files`: name -> SHA-256 in hex; all hex. The signature covers everything else."""

    version: int
    network: str
    genesis_hash: HexText
    coordinator: HexText
    time_ms: TimeMs
    files: dict[str, str]
    signature: HexText


def sign_sums(key: NodeKey, *, network: str, genesis_hash: bytes, time_ms: int, files: Mapping[str, bytes]) -> Sums:
    """Check sums of `files` (name -> content), signed."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    signed = _body(network, time_ms, digests)
    return Sums(
        version=SUMS_VERSION,
        network=network,
        genesis_hash=genesis_hash.hex(),
        coordinator=key.public_key.hex(),
        time_ms=time_ms,
        files=digests,
        signature=key.sign(sign_bytes(TAG_PUBLISHED, genesis_hash, signed)).hex(),
    )


def check_sums(sums: Sums, files: Mapping[str, bytes], *, coordinator: bytes, genesis_hash: bytes) -> str:
    """What is wrong with `files`; empty when each is as this coordinator published it for this network."""
    if sums.version != SUMS_VERSION:
        return f"their version is {sums.version}, this program knows {SUMS_VERSION}"
    if bytes.fromhex(sums.genesis_hash) != genesis_hash:
        return f"they are of the network with genesis {sums.genesis_hash}, not {genesis_hash.hex()}"
    if bytes.fromhex(sums.coordinator) != coordinator:
        return f"they are signed by {sums.coordinator}, not by the coordinator {coordinator.hex()}"
    signed = sign_bytes(TAG_PUBLISHED, genesis_hash, _body(sums.network, sums.time_ms, sums.files))
    if not verify_node(coordinator, signed, bytes.fromhex(sums.signature)):
        return "the signature over the check sums is not the coordinator's"
    for name, content in files.items():
        if sums.files.get(name) != hashlib.sha256(content).hexdigest():
            return f"{name} is not the file that was signed"
    return ""


def _body(network: str, time_ms: int, digests: Mapping[str, str]) -> bytes:
    return encode((SUMS_VERSION, network, time_ms, sorted(digests.items())))
