"""The two kinds of key: wallets (secp256k1) and nodes or sessions (ed25519), protocol 2.

Consensus depends on all nodes giving one answer to "is this signature good?", so each curve is checked by exactly one library:
libsecp256k1 (which refuses high-s twins) and libsodium (which refuses non-canonical scalars and small-order keys). Both
release the interpreter lock, so checks may be spread over threads. Verification takes bytes from outside and answers
False for anything malformed; it never raises. Secrets are never part of a repr, an error or an equality that leaks them.
"""

import hashlib
import secrets
from functools import lru_cache
from typing import Any

from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from stratos.crypto import bech32
from stratos.crypto.errors import CryptoError
from stratos.crypto.keccak import keccak256

SIGNATURE_BYTES = 64
WALLET_PUBLIC_BYTES = 33
NODE_PUBLIC_BYTES = 32
ADDRESS_BYTES = 20
_SECRET_BYTES = 32

_context = GLOBAL_CONTEXT.ctx
_new = ffi.new
_SIGNATURE = ffi.typeof("secp256k1_ecdsa_signature *")
_PUBLIC = ffi.typeof("secp256k1_pubkey *")


class MalformedKeyError(CryptoError):
    """A secret or public key is malformed."""


class WalletKey:
    """A wallet: secp256k1 secret, 33-byte public key, 20-byte Ethereum-style address."""

    __slots__ = ("_private", "address", "public_key")

    def __init__(self, secret: bytes) -> None:
        try:
            self._private = PrivateKey(_checked_secret(secret))
        except ValueError:
            raise MalformedKeyError(
                "this secret is not a secp256k1 key (0 or over the group order); make a new one"
            ) from None
        self.public_key: bytes = self._private.public_key.format(compressed=True)
        self.address: bytes = _address_of_point(self._private.public_key)

    @classmethod
    def from_secret(cls, secret: bytes) -> "WalletKey":
        """The wallet of a 32-byte secret."""
        return cls(secret)

    @classmethod
    def from_mnemonic(cls, words: str, passphrase: str = "", *, path: str | None = None) -> "WalletKey":
        """The wallet of BIP-39 words at m/44'/606'/0'/0/0."""
        from stratos.crypto import hd  # word list and BIP-32: only for those who type words

        return cls(hd.derive(hd.seed_from_mnemonic(words, passphrase), path or hd.WALLET_PATH))

    @classmethod
    def generate(cls) -> "WalletKey":
        """A new wallet from the operating system's random source."""
        while True:
            secret = secrets.token_bytes(_SECRET_BYTES)
            try:
                return cls(secret)
            except MalformedKeyError:
                continue

    @property
    def secret(self) -> bytes:
        """The 32-byte secret, for key files only."""
        return self._private.secret

    @property
    def text(self) -> str:
        """The address as st1..."""
        return bech32.encode(bech32.WALLET, self.address)

    def sign(self, digest: bytes, /) -> bytes:
        """r || s (64 bytes, low s, RFC 6979 nonce) over a 32-byte digest."""
        if len(digest) != 32:
            raise CryptoError(
                f"a wallet signs a 32-byte digest, not {len(digest)} bytes; hash with wallet_digest first"
            )
        return self._private.sign_recoverable(digest, hasher=None)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"<WalletKey {self.text}>"


class NodeKey:
    """A node's or a session's identity: ed25519 seed, 32-byte public key, 20-byte address."""

    __slots__ = ("_secret", "_seed", "address", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._seed = _checked_secret(seed)
        self.public_key: bytes
        self.public_key, self._secret = crypto_sign_seed_keypair(self._seed)
        self.address: bytes = node_address(self.public_key)

    @classmethod
    def from_seed(cls, seed: bytes) -> "NodeKey":
        """The identity of a 32-byte seed."""
        return cls(seed)

    @classmethod
    def from_mnemonic(cls, words: str, passphrase: str = "") -> "NodeKey":
        """The identity of BIP-39 words: the BIP-32 key at m/44'/606'/0/0 used as seed."""
        from stratos.crypto import hd  # word list and BIP-32: only for those who type words

        return cls(hd.derive(hd.seed_from_mnemonic(words, passphrase), hd.NODE_PATH))

    @classmethod
    def generate(cls) -> "NodeKey":
        """A new identity from the operating system's random source."""
        return cls(secrets.token_bytes(_SECRET_BYTES))

    @property
    def seed(self) -> bytes:
        """The 32-byte seed, for key files and TLS keys only."""
        return self._seed

    @property
    def text(self) -> str:
        """The address as stsds1..."""
        return bech32.encode(bech32.NODE, self.address)

    def sign(self, message: bytes, /) -> bytes:
        """The 64-byte signature over `message` (usually `sign_bytes(...)`)."""
        return crypto_sign(message, self._secret)[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"<NodeKey {self.text}>"


def wallet_address(public_key: bytes) -> bytes:
    """The 20-byte address of a 33-byte compressed public key; raises when it is no point of the curve."""
    try:
        if len(public_key) != WALLET_PUBLIC_BYTES:
            raise ValueError
        return _address_of_point(PublicKey(public_key))
    except ValueError:
        raise MalformedKeyError(
            f"{public_key[:40].hex()} is not a 33-byte secp256k1 public key; copy it again"
        ) from None


def node_address(public_key: bytes) -> bytes:
    """The 20-byte address of a 32-byte ed25519 public key: the first 20 bytes of its SHA-256."""
    if len(public_key) != NODE_PUBLIC_BYTES:
        raise MalformedKeyError(f"{public_key[:40].hex()} is not a 32-byte ed25519 public key; copy it again")
    return hashlib.sha256(public_key).digest()[:ADDRESS_BYTES]


def verify_wallet(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` (r || s, low s only) over the 32-byte digest is by the 33-byte public key."""
    if len(signature) != SIGNATURE_BYTES or len(digest) != 32:
        return False
    point = _parsed_public(public_key)
    if point is None:
        return False
    parsed = _new(_SIGNATURE)
    if not lib.secp256k1_ecdsa_signature_parse_compact(_context, parsed, signature):
        return False
    return bool(lib.secp256k1_ecdsa_verify(_context, parsed, digest, point))


def verify_node(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` is by the ed25519 public key."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != NODE_PUBLIC_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


@lru_cache(maxsize=8192)
def _parsed_public(public_key: bytes) -> Any:
    # Decompressing a point is a square root, a fifth of a whole check; the same wallets come again and again.
    if len(public_key) != WALLET_PUBLIC_BYTES:
        return None
    point = _new(_PUBLIC)
    return point if lib.secp256k1_ec_pubkey_parse(_context, point, public_key, WALLET_PUBLIC_BYTES) else None


def _address_of_point(public: PublicKey) -> bytes:
    return keccak256(public.format(compressed=False)[1:])[-ADDRESS_BYTES:]


def _checked_secret(secret: bytes) -> bytes:
    if len(secret) != _SECRET_BYTES:
        raise MalformedKeyError(f"a secret has {_SECRET_BYTES} bytes, not {len(secret)}; pass the raw key")
    return bytes(secret)
