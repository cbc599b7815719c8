"""Keys from words: BIP-39 mnemonics and BIP-32 derivation on secp256k1, coin type 606 (protocol 2).

Only private derivation is here; nothing in the house derives public children. A node's ed25519 seed is the 32-byte secp256k1 child
key at m/44'/606'/0/0, the last two steps not hardened, exactly as the public network does it.
"""

import hashlib
import hmac
from functools import lru_cache

from coincurve import PublicKey
from mnemonic import Mnemonic

from stratos.crypto.errors import CryptoError

WALLET_PATH = "m/44'/606'/0'/0/0"
NODE_PATH = "m/44'/606'/0/0"

_HARDENED = 1 << 31
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_MAX_DEPTH = 255


class MnemonicError(CryptoError):
    """Words are not a valid BIP-39 mnemonic. The words themselves are never in the text."""


@lru_cache(maxsize=1)
def _english() -> Mnemonic:
    return Mnemonic("english")


def new_mnemonic(entropy: bytes) -> str:
    """English words for 16 to 32 bytes of entropy (a multiple of 4), from the caller's random source."""
    if len(entropy) not in (16, 20, 24, 28, 32):
        raise MnemonicError(f"a mnemonic needs 16, 20, 24, 28 or 32 bytes of entropy, not {len(entropy)}")
    return str(_english().to_mnemonic(entropy))


def seed_from_mnemonic(words: str, passphrase: str = "") -> bytes:
    """The 64-byte BIP-39 seed; raises MnemonicError when the words or their checksum are wrong."""
    tidy = " ".join(words.split())
    count = len(tidy.split())
    if not count:
        raise MnemonicError("there are no secret words; give the 12 to 24 words of the wallet")
    if not _english().check(tidy):
        raise MnemonicError(
            f"these {count} words are not a valid English mnemonic (12 to 24 words with a checksum); check their spelling and order"
        )
    return bytes(Mnemonic.to_seed(tidy, passphrase))


def derive(seed: bytes, path: str) -> bytes:
    """The 32-byte private key at `path` (such as m/44'/606'/0'/0/0) below the BIP-32 master key of `seed`."""
    if not 16 <= len(seed) <= 64:
        raise CryptoError(f"a BIP-32 seed has 16 to 64 bytes, not {len(seed)}")
    node = hmac.digest(b"Bitcoin seed", seed, hashlib.sha512)
    for index in _parse_path(path):
        node = _child(node, index)
    key = node[:32]
    if not 0 < int.from_bytes(key, "big") < _ORDER:
        raise CryptoError("this seed gives no valid key at this path (a chance of 2^-127); use another mnemonic")
    return key


def _child(node: bytes, index: int) -> bytes:
    key, chain_code = node[:32], node[32:]
    public_or_secret = b"\x00" + key if index >= _HARDENED else PublicKey.from_valid_secret(key).format()
    mixed = hmac.digest(chain_code, public_or_secret + index.to_bytes(4, "big"), hashlib.sha512)
    tweak = int.from_bytes(mixed[:32], "big")
    secret = (tweak + int.from_bytes(key, "big")) % _ORDER
    if tweak >= _ORDER or secret == 0:
        raise CryptoError(f"this seed gives no valid key at step {index} (a chance of 2^-127); use another mnemonic")
    return secret.to_bytes(32, "big") + mixed[32:]


def _parse_path(path: str) -> list[int]:
    first, *steps = path.split("/")
    if first != "m" or len(steps) > _MAX_DEPTH:
        raise CryptoError(f"{path!r} is not a derivation path; it should look like {WALLET_PATH}")
    indices: list[int] = []
    for step in steps:
        digits = step.removesuffix("'")
        if not (digits.isascii() and digits.isdecimal()) or int(digits) >= _HARDENED:
            raise CryptoError(f"step {step!r} of the path {path!r} is not a number below 2^31 with an optional '")
        indices.append(int(digits) + (_HARDENED if step.endswith("'") else 0))
    return indices
