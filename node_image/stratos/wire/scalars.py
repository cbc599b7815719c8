"""Bounded field types shared by all records.

Amounts of money exceed 64 bits, which msgpack integers cannot carry, so they travel as canonical decimal strings
(`Amount`) and become Python ints inside handlers. Addresses are the raw 20 bytes; text forms (bech32) belong to
the surfaces for people.
"""

from typing import Annotated

from msgspec import Meta

from stratos.wire import limits

Address = Annotated[bytes, Meta(min_length=20, max_length=20)]
"""20-byte address of a wallet (Keccak of the secp256k1 key) or of a node (SHA-256 of the ed25519 key)."""

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Ed25519Public = Annotated[bytes, Meta(min_length=32, max_length=32)]
Ed25519Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
WalletPublic = Annotated[bytes, Meta(min_length=33, max_length=33)]
WalletSignature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Nonce = Annotated[bytes, Meta(min_length=limits.NONCE_BYTES, max_length=limits.NONCE_BYTES)]

CidBytes = Annotated[bytes, Meta(min_length=24, max_length=26)]
"""Binary CIDv1 of a file or a slice (protocol 2)."""

Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,30})$", max_length=31)]
"""A non-negative integer (wei or noz) in canonical decimal."""

Uint = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Height = Annotated[int, Meta(ge=0, le=2**53)]
TimeMs = Annotated[int, Meta(ge=0, le=2**53)]
"""Milliseconds since the Unix epoch."""

Name = Annotated[str, Meta(max_length=limits.MAX_NAME_BYTES)]
ShortText = Annotated[str, Meta(max_length=64)]
ErrorText = Annotated[str, Meta(max_length=1024)]
Layer = Annotated[str, Meta(pattern="^(value|meta)$")]
