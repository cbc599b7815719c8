"""File handles, `sdm://<wallet>/<file CID>[/name]` (protocol 2): what `put` prints and `get` takes.

The name is what a person called the file and goes for display and for the default output path, so it must be one harmless
path component. Parsing is strict and the text of a parsed handle is the text that was parsed.
"""

from dataclasses import dataclass

from stratos.crypto import bech32
from stratos.crypto.cid import CidError, cid_kind, cid_text, parse_cid
from stratos.crypto.errors import CryptoError

_SCHEME = "sdm://"
_MAX_NAME_BYTES = 255


class HandleError(CryptoError):
    """A text is not a file handle."""


@dataclass(frozen=True, slots=True)
class Handle:
    """Owner's wallet address (20 bytes), file or video CID (24 bytes) and the optional name."""

    wallet: bytes
    cid: bytes
    name: str | None = None

    def __post_init__(self) -> None:
        if cid_kind(self.cid) == "slice":
            raise HandleError(f"{cid_text(self.cid)} names a slice; a handle carries the name of a whole file")
        if self.name is not None:
            check_name(self.name)

    def __str__(self) -> str:
        text = f"{_SCHEME}{bech32.encode(bech32.WALLET, self.wallet)}/{cid_text(self.cid)}"
        return text if self.name is None else f"{text}/{self.name}"


def parse_handle(text: str) -> Handle:
    """The handle in `text`; raises HandleError naming the part that is wrong."""
    shown = repr(text if len(text) <= 120 else text[:117] + "...")
    if not text.startswith(_SCHEME):
        raise HandleError(f"{shown} is not a handle; it should look like sdm://st1.../v...")
    parts = text[len(_SCHEME) :].split("/", 2)
    if len(parts) < 2:
        raise HandleError(f"{shown} has no file name part; it should look like sdm://st1.../v...")
    try:
        wallet = bech32.decode(bech32.WALLET, parts[0])
        cid = parse_cid(parts[1])
    except (bech32.Bech32Error, CidError) as error:
        raise HandleError(f"in the handle {shown}: {error}") from error
    return Handle(wallet, cid, parts[2] if len(parts) == 3 else None)


def check_name(name: str) -> None:
    """Raise HandleError unless `name` can be the name in a handle."""
    harmless = name.isprintable() and "/" not in name and "\\" not in name and name not in ("", ".", "..")
    if not harmless or len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        raise HandleError(
            f"the name {name[:60]!r} cannot be a file's name; use 1 to {_MAX_NAME_BYTES} printable bytes without slashes"
        )
