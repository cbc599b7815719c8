"""Records as JSON for people and plain HTTP clients: fields by name, integers as strings, bytes as hex.

`to_json` is for reading only. `from_json` is its inverse for what may come in over HTTP (a transaction): it follows
the record's own type, so an unknown field, a missing one or a value of the wrong kind is refused with its path; the bounds of
the type are then checked by msgspec as for any other input.
"""

from typing import Any

import msgspec
from msgspec import Struct, inspect

from stratos.wire.block import Event


class FormError(ValueError):
    """JSON from outside is not the record it should be."""


def to_json(value: Any) -> Any:
    """The JSON form of a record or of anything built from records."""
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Event):
        return {"kind": value.kind, "attributes": dict(value.attributes)}
    if isinstance(value, Struct):
        document: dict[str, Any] = {}
        tag = value.__struct_config__.tag
        if tag is not None:
            document["type"] = tag
        for name in value.__struct_fields__:
            document[name] = to_json(getattr(value, name))
        return document
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    return str(value)


def from_json(document: Any, kind: type[Struct]) -> Any:
    """The record of type `kind` in a JSON form; raises FormError naming the field."""
    plain = _plain(inspect.type_info(kind), document, "$")
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise FormError(str(error)) from error


def _plain(node: inspect.Type, value: Any, path: str) -> Any:
    """What msgspec converts: arrays for array-like records, bytes and ints as themselves."""
    if isinstance(node, inspect.Metadata):
        return _plain(node.type, value, path)
    if isinstance(node, inspect.BytesType):
        if not isinstance(value, str):
            raise FormError(f"{path} should be a hex string")
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise FormError(f"{path} should be hex digits") from None
    if isinstance(node, inspect.IntType):
        return _integer(value, path)
    if isinstance(node, inspect.VarTupleType):
        if not isinstance(value, list):
            raise FormError(f"{path} should be a list")
        return [_plain(node.item_type, item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(node, inspect.UnionType):
        return _one_of(node, value, path)
    if isinstance(node, inspect.StructType):
        return _record(node, value, path)
    return value


def _one_of(node: inspect.UnionType, value: Any, path: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise FormError(f'{path} should be an object with a "type"')
    for member in node.types:
        if isinstance(member, inspect.StructType) and member.tag == value["type"]:
            return _record(member, value, path)
    known = sorted(str(member.tag) for member in node.types if isinstance(member, inspect.StructType))
    raise FormError(f"{path}.type is {value['type'][:40]!r}, known are {', '.join(known)}")


def _record(node: inspect.StructType, value: Any, path: str) -> list[Any]:
    if not isinstance(value, dict):
        raise FormError(f"{path} should be an object")
    names = [field.name for field in node.fields]
    unknown = sorted(set(value) - set(names) - ({"type"} if node.tag is not None else set()))
    if unknown:
        raise FormError(f"{path} has the unknown field {unknown[0][:40]!r}")
    items: list[Any] = [] if node.tag is None else [node.tag]
    for field in node.fields:
        if field.name not in value:
            raise FormError(f"{path}.{field.name} is missing")
        items.append(_plain(field.type, value[field.name], f"{path}.{field.name}"))
    return items


def _integer(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= 40 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise FormError(f"{path} should be an integer")
