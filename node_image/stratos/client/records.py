"""What the client's methods return and take: frozen, typed, ready for JSON.

Amounts are integers: noz (one noz pays for one byte of traffic) and wei. Handles are text (`sdm://wallet/cid/name`).
"""

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta, Struct

from stratos.wire.config import HexKey, HostPort
from stratos.wire.scalars import Name

ProgressCallback = Callable[[int, int], None]
"""(bytes done, bytes in all); called from worker threads, often, so it should only note the numbers."""


class PutResult(Struct, frozen=True, kw_only=True):
    """One stored file. `copies` is the smallest number of durable copies of any slice; `degraded` means it is below the
    network's setting. `charged_noz` is what uploading cost this wallet (deduplicated slices cost nothing); for a
    batch the batch's whole charge is on the first result and 0 on the others."""

    handle: str
    bytes: int
    slices: int
    copies: int
    charged_noz: int
    degraded: bool
    seconds: float


class GetResult(Struct, frozen=True, kw_only=True):
    """A verified download. `path` is empty when it went to a file object or memory."""

    handle: str
    bytes: int
    charged_noz: int
    seconds: float
    path: str = ""


class PrepayResult(Struct, frozen=True, kw_only=True):
    """A prepay in a committed block. `bought_noz` as the ledger's event says."""

    tx_hash: str
    height: int
    amount_wei: int
    bought_noz: int


class BalanceView(Struct, frozen=True, kw_only=True):
    """Ozone of a wallet: free to use, and reserved by open sessions."""

    wallet: str
    available_noz: int
    reserved_noz: int


class FileEntry(Struct, frozen=True, kw_only=True):
    """One line of `ls`."""

    handle: str
    name: str
    size: int
    video: bool
    copies: int
    created_ms: int


class ObjectToPut(Struct, frozen=True, kw_only=True):
    """A small object for `put_many`."""

    name: str
    data: bytes


class UploadFile(Struct, frozen=True, kw_only=True):
    """A file of an `Upload`: which slices, in order. `multihash` is H(file) (22 bytes) when the name is that of other
    bytes than the slices put together (a video's original); None: the client hashed the slices as they were added."""

    name: str
    slices: tuple[int, ...]
    multihash: bytes | None = None
    video: bool = False
    tag: str = ""
    note: bytes = b""


class ValidatorEndpoint(Struct, frozen=True, kw_only=True):
    """`http` is the REST base URL, `p2p` host:port."""

    name: Name
    http: str
    p2p: HostPort
    public_key: HexKey | None = None


class MetaEndpoint(Struct, frozen=True, kw_only=True):
    """`rpc` is host:port of the framed RPC, answered by the holder of `public_key`."""

    name: Name
    rpc: HostPort
    public_key: HexKey
    http: str = ""


class ResourceEndpoint(Struct, frozen=True, kw_only=True):
    """`bulk` is host:port of the slice port. Only a convenience for people: clients learn holders from the meta layer."""

    name: Name
    bulk: str = ""
    public_key: str = ""
    http: str = ""
    rpc: str = ""


class Endpoints(Struct, frozen=True, kw_only=True):
    """`endpoints.json` of a testnet folder: where its nodes answer."""

    validators: Annotated[tuple[ValidatorEndpoint, ...], Meta(max_length=10_000)] = ()
    meta: Annotated[tuple[MetaEndpoint, ...], Meta(max_length=10_000)] = ()
    resource: Annotated[tuple[ResourceEndpoint, ...], Meta(max_length=100_000)] = ()
    slice_transport: Annotated[str, Meta(pattern="^(tls|plain)$")] = "tls"
