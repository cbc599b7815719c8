"""Keccak-256 with its original padding (Ethereum's), which is not SHA3-256 of the standard library."""

from Crypto.Util import _raw_api

# When pycryptodome loads libraries with ctypes, it starts a process (`file`) to learn whether this is Windows. The answer is
# kept in this list, and it is no.
_architecture = getattr(_raw_api, "cached_architecture", None)
if _architecture == []:
    _architecture.extend(("64bit", "ELF"))

from Crypto.Hash import keccak  # noqa: E402 - it loads its library at once

Buffer = bytes | bytearray | memoryview


def keccak256(data: Buffer) -> bytes:
    """The 32-byte Keccak-256 of `data`."""
    return keccak.new(digest_bits=256, data=data).digest()


class Keccak256:
    """Keccak-256 of data fed in chunks; `digest` may be taken once, at the end."""

    __slots__ = ("_state",)

    def __init__(self, data: Buffer = b"") -> None:
        self._state = keccak.new(digest_bits=256, data=data)

    def update(self, data: Buffer) -> None:
        """Feed the next chunk."""
        self._state.update(data)

    def digest(self) -> bytes:
        """The 32-byte hash of everything fed."""
        return self._state.digest()
