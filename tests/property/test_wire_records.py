"""Every record that crosses a socket: bounded by its type, one byte string each, and junk is a WireError.

The records are found by walking `stratos.wire`, and their strategies are made from the types themselves, so a record that is added
later is under these rules from its first day.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect as shapes

import stratos.wire
from stratos.wire.block import ConsensusMessage
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.metalog import Entry
from stratos.wire.metarpc import MetaRequest, MetaResponse
from stratos.wire.transfer import BulkMessage
from stratos.wire.txs import Tx

ENTRANCES: tuple[Any, ...] = (ConsensusMessage, Entry, MetaRequest, MetaResponse, BulkMessage, Tx)
"""What a socket's bytes are decoded as before anything looks at them."""

BOUNDED_ELSEWHERE = {
    "Genesis",  # our own file, read within a limit of its own
    "LedgerParams",  # part of the genesis file
    "ProofAnswer",  # by its frame; believed only after the proof
    "Placement",  # certified by the authorities
    "RepairOrder",  # certified by the authorities
    "Explanation",  # bounded by its frame, shown to a person
}


def _records() -> Iterator[type[msgspec.Struct]]:
    for module in pkgutil.iter_modules(stratos.wire.__path__, "stratos.wire."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.name:
                yield value


RECORDS = tuple(_records())


def _unbounded(shape: shapes.Type) -> Iterator[str]:
    if isinstance(shape, shapes.BytesType | shapes.StrType):
        if shape.max_length is None and not (isinstance(shape, shapes.StrType) and shape.pattern):
            yield type(shape).__name__
    elif isinstance(shape, shapes.VarTupleType | shapes.ListType):
        if shape.max_length is None:
            yield "a list"
        yield from _unbounded(shape.item_type)
    elif isinstance(shape, shapes.TupleType):
        for part in shape.item_types:
            yield from _unbounded(part)
    elif isinstance(shape, shapes.UnionType):
        for part in shape.types:
            yield from _unbounded(part)
    elif isinstance(shape, shapes.DictType):
        yield "a dict"
    elif isinstance(shape, shapes.IntType) and shape.le is None and shape.lt is None:
        yield "an integer"


def _values(shape: shapes.Type) -> st.SearchStrategy[Any]:
    """Values of a type, small ones: at most two items in a list."""
    match shape:
        case shapes.IntType():
            least = shape.ge if shape.ge is not None else -(2**63)
            return st.integers(int(least), int(shape.le if shape.le is not None else 2**63 - 1))
        case shapes.FloatType():
            least = next((bound for bound in (shape.ge, shape.gt) if bound is not None), 0.0)
            most = next((bound for bound in (shape.le, shape.lt) if bound is not None), 1e6)
            return st.floats(least, most, exclude_min=shape.gt is not None, exclude_max=shape.lt is not None)
        case shapes.BytesType():
            least = shape.min_length or 0
            return st.binary(min_size=least, max_size=max(least, min(shape.max_length or 64, 64)))
        case shapes.StrType(pattern=str(pattern)):
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= (shape.max_length or 999))
        case shapes.StrType():
            return st.text(min_size=shape.min_length or 0, max_size=min(shape.max_length or 16, 16))
        case shapes.BoolType():
            return st.booleans()
        case shapes.NoneType():
            return st.none()
        case shapes.VarTupleType():
            least = shape.min_length or 0
            items = st.deferred(lambda: _values(shape.item_type))
            return st.lists(items, min_size=least, max_size=max(least, min(shape.max_length or 2, 2))).map(tuple)
        case shapes.TupleType():
            return st.tuples(*[_values(part) for part in shape.item_types])
        case shapes.UnionType():
            return st.one_of([_values(part) for part in shape.types])
        case shapes.StructType():
            return st.builds(shape.cls, **{field.name: _values(field.type) for field in shape.fields})
    raise AssertionError(f"no strategy for {shape}; add one")


def _record(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return _values(shapes.type_info(kind))


any_record = st.sampled_from(RECORDS).flatmap(_record)
any_entrance = st.sampled_from(ENTRANCES)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_every_field_has_its_bound(kind: type[msgspec.Struct]) -> None:
    """Text, bytes, lists and numbers of a record from outside say how large they may be."""
    if kind.__name__ not in BOUNDED_ELSEWHERE:
        shape = shapes.type_info(kind)
        assert isinstance(shape, shapes.StructType)
        assert [(field.name, what) for field in shape.fields for what in _unbounded(field.type)] == []


@given(any_record)
def test_a_record_has_one_byte_string(record: msgspec.Struct) -> None:
    """What is encoded decodes to the same record, and encodes to the same bytes again."""
    data = encode(record)
    again = decode(data, type(record))
    assert again == record
    assert encode(again) == data


@given(any_entrance, st.binary(max_size=200))
def test_junk_is_a_wire_error(entrance: Any, data: bytes) -> None:
    """Bytes that nobody encoded are refused with the one typed error, whatever they are decoded as."""
    with pytest.raises(WireError):
        decode(data, entrance)


@given(st.data(), any_record, any_entrance)
def test_a_damaged_record_is_refused_or_still_a_record(data: st.DataObject, record: Any, entrance: Any) -> None:
    """One byte changed, left out or added, or the end cut off: the typed error, or a record in its canonical form."""
    whole = encode(record)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=1))
    rest = data.draw(st.sampled_from([whole[at + 1 :], whole[at:], b""]))
    damaged = whole[:at] + byte * bool(rest) + rest
    for kind in (type(record), entrance):
        try:
            found = decode(damaged, kind)
        except WireError:
            continue
        assert encode(found) == damaged


@given(st.recursive(st.integers(0, 2**64 - 1) | st.binary(max_size=8), st.lists, max_leaves=50), any_entrance)
def test_msgpack_that_is_no_message_is_refused(value: object, entrance: Any) -> None:
    """Well-formed msgpack of another shape is the typed error too."""
    with pytest.raises(WireError):
        decode(encode(value), entrance)


@pytest.mark.parametrize("entrance", ENTRANCES, ids=str)
@pytest.mark.parametrize("head", [b"\x91", b"\x81\xa1k", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_depth_and_promised_sizes_cost_nothing(entrance: Any, head: bytes) -> None:
    """Nesting without end, and lengths that the bytes do not have, are refused."""
    with pytest.raises(WireError):
        decode(head * 20_000, entrance)
