"""Content names of files and slices (protocol 2).

A CID is a name, not an integrity check (that is BLAKE3's work). In memory and on the wire it is its 24 bytes:
01 (CIDv1) | codec | 1b 14 | 20 bytes of Keccak-256. The text form is 40 characters, `v` + base32hex, lower case, no padding.
Text has exactly one spelling: anything that would not be written back letter by letter is refused.

Files and slices are fed in chunks, so a file of any size is named in constant memory, and a slice is hashed while it moves.
"""

import base64

from stratos.crypto.errors import CryptoError
from stratos.crypto.keccak import Buffer, Keccak256, keccak256

FILE_CODEC = 0x66
VIDEO_CODEC = 0x72
SLICE_CODEC = 0x55
CID_BYTES = 24
CID_TEXT_LENGTH = 40
MULTIHASH_BYTES = 22
SLICE_BYTES = 33_554_432
"""Default slice size, 32 MiB (protocol 7)."""

_CODECS = {FILE_CODEC: "file", VIDEO_CODEC: "video", SLICE_CODEC: "slice"}
_VERSION = b"\x01"
_MULTIHASH_PREFIX = b"\x1b\x14"
_HASH_BYTES = 20
_MULTIBASE = "v"
_MAX_TAG_LENGTH = 64


class CidError(CryptoError):
    """A content name, or what should become one, is malformed."""


class FileHasher:
    """H(file) of a file fed in chunks."""

    __slots__ = ("_keccak",)

    def __init__(self) -> None:
        self._keccak = Keccak256()

    def update(self, data: Buffer) -> None:
        """Feed the next chunk of the file."""
        self._keccak.update(data)

    def multihash(self) -> bytes:
        """H(file): 22 bytes. Taken once, at the end."""
        return _multihash_of(self._keccak.digest())


class SliceHasher:
    """The slice CID of one slice fed in chunks; `number` counts from 1."""

    __slots__ = ("_keccak",)

    def __init__(self, number: int) -> None:
        if not 1 <= number < 1 << 64:
            raise CidError(f"slice number {number} is out of range; slices are numbered from 1")
        self._keccak = Keccak256(number.to_bytes(8, "big"))

    def update(self, data: Buffer) -> None:
        """Feed the next chunk of the slice (the encrypted bytes when encrypted)."""
        self._keccak.update(data)

    def cid(self, file_cid: bytes) -> bytes:
        """The slice CID within the file `file_cid`. Taken once, at the end."""
        check_cid(file_cid)
        of_file = file_cid[2:]
        of_slice = _multihash_of(self._keccak.digest())
        mixed = int.from_bytes(of_file, "big") ^ int.from_bytes(of_slice, "big")
        return _cid(SLICE_CODEC, multihash(mixed.to_bytes(MULTIHASH_BYTES, "big")))


def multihash(data: Buffer) -> bytes:
    """H(data): 1b 14 and the first 20 bytes of Keccak-256."""
    return _multihash_of(keccak256(data))


def file_cid(file_multihash: bytes, *, tag: str = "", video: bool = False) -> bytes:
    """The file CID over H(tag || H(file)); `file_multihash` is H(file), 22 bytes, from `multihash` or a FileHasher."""
    if len(file_multihash) != MULTIHASH_BYTES or not file_multihash.startswith(_MULTIHASH_PREFIX):
        raise CidError(
            f"{file_multihash.hex()} is not a 22-byte hash 1b14...; pass what multihash() or FileHasher gave"
        )
    if not tag.isascii() or len(tag) > _MAX_TAG_LENGTH:
        raise CidError(f"the tag {tag[:80]!r} is not ASCII of at most {_MAX_TAG_LENGTH} characters; choose another")
    return _cid(VIDEO_CODEC if video else FILE_CODEC, multihash(tag.encode("ascii") + file_multihash))


def slice_cid(file_cid: bytes, number: int, data: Buffer) -> bytes:
    """The CID of slice `number` (from 1) of a file, given the slice's bytes."""
    hasher = SliceHasher(number)
    hasher.update(data)
    return hasher.cid(file_cid)


def cid_text(cid: bytes) -> str:
    """The 40-character text of a CID."""
    check_cid(cid)
    return _MULTIBASE + base64.b32hexencode(cid).decode("ascii").rstrip("=").lower()


def parse_cid(text: str) -> bytes:
    """The 24 bytes of a CID text; raises CidError unless it is the one canonical spelling."""
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    if len(text) != CID_TEXT_LENGTH or not text.startswith(_MULTIBASE) or not text.isascii():
        raise CidError(f"{shown} is not a content name; it is v and 39 more letters and digits, copy it again")
    try:
        cid = base64.b32hexdecode(text[1:].upper() + "=")
    except ValueError:
        raise CidError(f"{shown} contains a character that base32hex does not use; copy it again") from None
    check_cid(cid)
    if cid_text(cid) != text:
        raise CidError(f"{shown} is not in canonical spelling; write it as {cid_text(cid)}")
    return cid


def check_cid(cid: bytes) -> None:
    """Raise CidError unless `cid` is the 24 bytes of a file, video or slice CID."""
    if len(cid) != CID_BYTES or cid[:1] != _VERSION or cid[1] not in _CODECS or cid[2:4] != _MULTIHASH_PREFIX:
        raise CidError(f"{cid[:32].hex()} is not a file, video or slice name of {CID_BYTES} bytes; copy it again")


def cid_kind(cid: bytes) -> str:
    """`file`, `video` or `slice`."""
    check_cid(cid)
    return _CODECS[cid[1]]


def _multihash_of(digest: bytes) -> bytes:
    return _MULTIHASH_PREFIX + digest[:_HASH_BYTES]


def _cid(codec: int, hashed: bytes) -> bytes:
    return _VERSION + bytes((codec,)) + hashed
