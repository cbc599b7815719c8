"""What a signature is over: (type tag, protocol version, genesis hash, body), protocol 1.

The four parts are joined unambiguously (lengths first), so no body of one kind can be read as another kind, and a signature made
for one chain or one protocol version means nothing on another. Wallets (secp256k1) sign the Keccak-256 digest of these
bytes; nodes and sessions (ed25519) sign the bytes themselves.
"""

from stratos.crypto.errors import CryptoError
from stratos.crypto.keccak import keccak256

PROTOCOL_VERSION = 1
_DOMAIN = b"stratos\x00"
_HASH_BYTES = 32


def sign_bytes(tag: bytes, genesis_hash: bytes, body: bytes, version: int = PROTOCOL_VERSION) -> bytes:
    """The bytes that an ed25519 key signs for `body`: domain | u8 tag length | tag | u16 version | genesis | u32 length | body."""
    if not 1 <= len(tag) <= 255:
        raise CryptoError(f"a signature tag has 1 to 255 bytes, not {len(tag)}")
    if len(genesis_hash) != _HASH_BYTES:
        raise CryptoError(f"a genesis hash has {_HASH_BYTES} bytes, not {len(genesis_hash)}")
    head = _DOMAIN + len(tag).to_bytes(1, "big") + tag + version.to_bytes(2, "big") + genesis_hash
    return head + len(body).to_bytes(4, "big") + body


def wallet_digest(tag: bytes, genesis_hash: bytes, body: bytes, version: int = PROTOCOL_VERSION) -> bytes:
    """The 32-byte digest that a wallet signs for `body`."""
    return keccak256(sign_bytes(tag, genesis_hash, body, version))
