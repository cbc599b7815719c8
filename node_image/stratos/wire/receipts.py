"""Receipts: what giver and taker of bytes both sign (protocol 5, 7).

One record serves all three kinds of work; `task` says what was assigned:
- upload: task = upload id; the holder is the taker, the client's session key the giver;
- download: task = session id; the holder is the giver, the client's session key the taker;
- repair: task = repair order id; the new holder is the taker, the source holder the giver.
Receipts are cumulative per (kind, task, earner): `total_noz` is a running total and only the highest one counts.
`digest` commits to what the total is made of, so that a receipt cannot be stretched over other bytes:
- upload and repair: BLAKE3 of the sorted slice indices (u32 big-endian each) that the earner holds durably for this task;
- download: the running hash `chain_digest` over the served `DownloadTask`s in order.
"""

from typing import Annotated

from blake3 import blake3
from msgspec import Meta, Struct

from stratos.wire import limits
from stratos.wire.codec import encode
from stratos.wire.scalars import Address, Count, Hash32, Uint

UPLOAD = 1
DOWNLOAD = 2
REPAIR = 3
TAG_RECEIPT = b"receipt"
EMPTY_CHAIN = b"\0" * 32

TaskId = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""Upload, session or repair order id."""


class ReceiptBody(Struct, frozen=True, array_like=True):
    """The signed part. `epoch` is the epoch in which it was signed (accepted for one epoch more, then void)."""

    kind: Annotated[int, Meta(ge=1, le=3)]
    task: TaskId
    earner: Address
    epoch: Uint
    total_noz: Uint
    digest: Hash32


class Receipt(Struct, frozen=True, array_like=True):
    """Both signatures cover sign_bytes(TAG_RECEIPT, genesis hash, encode(body)). Empty bytes: not signed yet."""

    body: ReceiptBody
    giver_signature: Annotated[bytes, Meta(max_length=64)]
    taker_signature: Annotated[bytes, Meta(max_length=64)]


class DownloadTask(Struct, frozen=True, array_like=True):
    """One paid step of a download: bytes of one slice served by the earner. `attempt` = how many holders that
    come earlier in the fixed order of (wallet, slice, epoch) were skipped."""

    slice_digest: Hash32
    offset: Count
    length: Count
    attempt: Annotated[int, Meta(ge=0, le=limits.MAX_COPIES)]


def chain_digest(previous: bytes, task: DownloadTask) -> bytes:
    """Running hash of a download receipt after one more task."""
    return blake3(previous + encode(task)).digest()


def indices_digest(indices: list[int] | tuple[int, ...]) -> bytes:
    """Digest of a set of slice indices of an upload or repair order."""
    return blake3(b"".join(i.to_bytes(4, "big") for i in sorted(indices))).digest()
