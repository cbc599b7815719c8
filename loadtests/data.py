"""Data that anybody can make again from a seed: what load users upload and what downloads are checked against.

Object `number` of a run is the AES-256-CTR key stream of BLAKE3(seed, number): as cheap as copying (several GB/s), as
incompressible as real media, different in every slice, and seekable, so that any range can be checked without keeping
anything. Sizes are drawn log-uniformly between two bounds, again from the seed.
"""

import random
from dataclasses import dataclass

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

_BLOCK = 16


@dataclass(frozen=True, slots=True)
class SeededObject:
    """One object: its bytes follow from (seed, number, size) alone."""

    seed: str
    number: int
    size: int

    @property
    def name(self) -> str:
        """The name it is stored under."""
        return f"load-{self.seed}-{self.number:06d}.bin"

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes [offset, offset + length), shorter at the end."""
        end = self.size if length is None else min(self.size, offset + length)
        if offset >= end:
            return b""
        first_block, skip = divmod(offset, _BLOCK)
        key = blake3(f"{self.seed}/{self.number}".encode()).digest()
        stream = Cipher(AES256(key), CTR(first_block.to_bytes(_BLOCK, "big"))).encryptor()
        return stream.update(bytes(end - offset + skip))[skip:]

    def digest(self) -> bytes:
        """BLAKE3 of the whole."""
        return blake3(self.read()).digest()


def seeded_object(seed: str, number: int, smallest: int, largest: int) -> SeededObject:
    """Object `number` of a run, its size log-uniform in [smallest, largest]."""
    if not 0 <= smallest <= largest:
        raise ValueError(f"object sizes {smallest}..{largest} are no range; give the smaller one first")
    exponent = random.Random(f"{seed}/{number}/size").random()
    size = round(max(smallest, 1) * (max(largest, 1) / max(smallest, 1)) ** exponent)
    return SeededObject(seed, number, min(max(size, smallest), largest))


def parse_size(text: str) -> int:
    """Bytes in `10KiB`, `1MiB`, `2GiB`, `512` and the like; raises ValueError."""
    units = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    digits = text.strip().rstrip("bBiIkKmMgG").strip()
    unit = text.strip()[len(digits) :].strip().upper()
    if not digits.isascii() or not digits.isdigit() or unit not in units:
        raise ValueError(f"{text!r} is not a size; write it like 64KiB, 1MiB or 4096")
    return int(digits) * units[unit]
