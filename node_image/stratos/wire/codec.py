"""The one way between records and bytes: typed, canonical msgpack.

`decode` refuses bytes that do not match the type, are longer than the bound, or are not exactly what `encode`
would have written (so that one record has one byte string, one hash and one signature).
"""

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from stratos.wire.limits import MAX_FRAME_BYTES

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class WireError(ValueError):
    """Bytes from outside are not the record they should be."""


@lru_cache(maxsize=512)
def _decoder(kind: Any) -> "msgspec.msgpack.Decoder[Any]":
    return msgspec.msgpack.Decoder(kind)


def prepare_decoders(package: str) -> None:
    """Work out now how each record type that `package` has defined so far is decoded; a process forked later need not."""
    waiting: list[type[msgspec.Struct]] = [msgspec.Struct]
    for kind in waiting:
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(f"{package}."):
            _decoder(kind)


def encode(record: object) -> bytes:
    """Canonical bytes of a record."""
    return _encoder.encode(record)


def decode(data: bytes | bytearray | memoryview, kind: type[T], *, limit: int = MAX_FRAME_BYTES) -> T:
    """The record of type `kind` in `data`; raises WireError when too long, mistyped or not canonical."""
    if len(data) > limit:
        raise WireError(f"{kind_name(kind)} of {len(data)} bytes is over the limit of {limit}; send less at once")
    try:
        record: T = _decoder(cast(Hashable, kind)).decode(data)
    except (
        msgspec.DecodeError,
        msgspec.ValidationError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise WireError(f"not a valid {kind_name(kind)}: {error}") from error
    if _encoder.encode(record) != data:
        raise WireError(f"{kind_name(kind)} is not in canonical form; encode it with the shortest msgpack forms")
    return record


def kind_name(kind: object) -> str:
    """Name of a record type for error sentences."""
    return getattr(kind, "__name__", str(kind))
