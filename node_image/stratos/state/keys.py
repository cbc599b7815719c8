"""Text form of a state key, for URLs and the command line.

A key is a room in ASCII (`bank/balance/`) and raw bytes after it. In text the raw part is a bech32 address (`st1...`
wallet, `stsds1...` node) or hex; rooms whose suffix is a number or a composite take hex. `hex:<whole key in hex>`
always works, and a key without a raw part (`sds/remaining_limit`) is its own text.
"""

from stratos.crypto import bech32
from stratos.state.memory import room_of

_WALLET_ROOMS = frozenset(
    {b"bank/balance/", b"bank/sequence/", b"pot/mature/", b"pot/immature_total/", b"pot/slashing/"}
)
_NODE_ROOMS = frozenset({b"register/resource/", b"register/meta/", b"staking/validator/"})


class KeyTextError(ValueError):
    """The text does not name a state key."""


def key_from_text(text: str) -> bytes:
    """The state key named by `text`; KeyTextError when it names none."""
    if text.startswith("hex:"):
        return _unhex(text[4:], text)
    if not text or not text.isascii() or len(text) > 512:
        raise KeyTextError(f"{text[:80]!r} is not a state key; write room/name/<address or hex>, or hex:<hex>")
    raw = text.encode()
    room = room_of(raw)
    suffix = text[len(room) :]
    if not suffix:
        return raw
    if "1" in suffix and suffix.startswith("st"):
        try:
            return room + bech32.decode_any(suffix)[1]
        except bech32.Bech32Error as error:
            raise KeyTextError(f"{text!r}: {error}") from error
    return room + _unhex(suffix, text)


def key_to_text(key: bytes) -> str:
    """The text of a state key; `key_from_text` gives the key back."""
    room = room_of(key)
    suffix = key[len(room) :]
    if not room.isascii() or room.startswith(b"hex:") or b"/" not in room:
        return "hex:" + key.hex()
    if not suffix:
        return room.decode()
    if len(suffix) == 20 and room in _WALLET_ROOMS:
        return room.decode() + bech32.encode(bech32.WALLET, suffix)
    if len(suffix) == 20 and room in _NODE_ROOMS:
        return room.decode() + bech32.encode(bech32.NODE, suffix)
    return room.decode() + suffix.hex()


def _unhex(digits: str, text: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise KeyTextError(f"{text[:80]!r}: {digits[:80]!r} is neither an address nor hex") from error
