"""Text forms of addresses and public keys: bech32 (BIP-173) with the prefixes of protocol 2.

One value has one text: lower case only, zero padding bits, and exactly as many bytes as the prefix calls for, so that a
decoded address can be compared, stored and signed without a second look. Upper case, which BIP-173 tolerates, is refused.
"""

from collections.abc import Iterable

from stratos.crypto.errors import CryptoError

WALLET = "st"
WALLET_PUBLIC = "stpub"
VALIDATOR_OPERATOR = "stvaloper"
VALIDATOR_CONSENSUS = "stvalcons"
NODE = "stsds"
NODE_PUBLIC = "stsdspub"

PAYLOAD_BYTES = {
    WALLET: 20,
    WALLET_PUBLIC: 33,
    VALIDATOR_OPERATOR: 20,
    VALIDATOR_CONSENSUS: 20,
    NODE: 20,
    NODE_PUBLIC: 32,
}
"""Bytes behind each prefix: addresses 20, compressed secp256k1 keys 33, ed25519 keys 32."""

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LETTERS = 6


class Bech32Error(CryptoError):
    """A text is not the bech32 form that was asked for."""


def encode(prefix: str, payload: bytes) -> str:
    """Text of `payload` under one of the known prefixes."""
    if len(payload) != _payload_bytes(prefix):
        raise Bech32Error(
            f"{prefix} carries {_payload_bytes(prefix)} bytes, not {len(payload)}; pass the raw address or key"
        )
    data = _regroup(payload, 8, 5, pad=True)
    expanded = _expand(prefix)
    check = _polymod([*expanded, *data, *([0] * _CHECKSUM_LETTERS)]) ^ 1
    data += [(check >> 5 * (5 - i)) & 31 for i in range(_CHECKSUM_LETTERS)]
    return f"{prefix}1" + "".join(_ALPHABET[value] for value in data)


def decode(prefix: str, text: str) -> bytes:
    """The payload of `text`, which must carry `prefix`; raises Bech32Error with what is wrong."""
    found, payload = decode_any(text)
    if found != prefix:
        raise Bech32Error(f"{_shown(text)} has the prefix {found}, not {prefix}; pass a {prefix}1... text")
    return payload


def decode_any(text: str) -> tuple[str, bytes]:
    """(prefix, payload) of `text` under any known prefix; raises Bech32Error with what is wrong."""
    prefix, separator, letters = text.rpartition("1")
    if not separator:
        raise Bech32Error(f"{_shown(text)} is not an address; it should look like st1...")
    expected = _payload_bytes(prefix)
    if len(letters) != (expected * 8 + 4) // 5 + _CHECKSUM_LETTERS:
        raise Bech32Error(
            f"{_shown(text)} has {len(text)} characters, which is not a whole {prefix} text; copy it again"
        )
    try:
        data = [_VALUE[letter] for letter in letters]
    except KeyError as error:
        raise Bech32Error(
            f"{_shown(text)} contains {error.args[0]!r}, which bech32 does not use (lower case only); copy it again"
        ) from None
    if _polymod([*_expand(prefix), *data]) != 1:
        raise Bech32Error(f"{_shown(text)} has a wrong checksum; a character was mistyped, copy it again")
    values = _regroup(data[:-_CHECKSUM_LETTERS], 5, 8, pad=False)
    return prefix, bytes(values)


def _payload_bytes(prefix: str) -> int:
    try:
        return PAYLOAD_BYTES[prefix]
    except KeyError:
        known = ", ".join(PAYLOAD_BYTES)
        raise Bech32Error(f"{_shown(prefix)} is not a prefix of this network; known are {known}") from None


def _expand(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                check ^= generator
    return check


def _regroup(values: Iterable[int], from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    accumulator = bits = 0
    out: list[int] = []
    for value in values:
        accumulator = accumulator << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            out.append(accumulator >> bits & ((1 << to_bits) - 1))
        accumulator &= (1 << bits) - 1
    if pad:
        if bits:
            out.append(accumulator << (to_bits - bits))
    elif accumulator:
        raise Bech32Error("the text carries stray bits after its last byte; copy it again")
    return out


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
