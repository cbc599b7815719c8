"""Endpoints as data: one table gives the routes, the parsing of every argument, and /openapi.json.

An argument has one `Kind`: how it is read, what the document says about it, and the sentence for a wrong one. So a document that
promises something else than the code does cannot be written. Every answer that is not 200 is an error object
{"error": {"code", "sentence"}}; which ones an endpoint may give is part of its declaration.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from stratos.crypto.bech32 import NODE, WALLET, Bech32Error, decode
from stratos.state.keys import KeyTextError, key_from_text

Json = dict[str, Any]
Arguments = Mapping[str, Any]
Answer = Callable[[Arguments], Any]


class ArgumentError(ValueError):
    """A path or query argument is not what it should be."""


class Kind(Struct, frozen=True, kw_only=True):
    """A type of argument. `read` turns its text into a value or raises ArgumentError."""

    read: Callable[[str], Any]
    schema: Json
    about: str


class Param(Struct, frozen=True, kw_only=True):
    """An argument of an endpoint. Query arguments are optional and have a default."""

    name: str
    kind: Kind
    query: bool = False
    default: Any = None


class Endpoint(Struct, frozen=True, kw_only=True):
    """One GET endpoint. `answer` gets the read arguments and returns (or awaits) a JSON-ready document."""

    path: str
    summary: str
    answer: Callable[[Arguments], Any | Awaitable[Any]]
    schema: Json
    params: tuple[Param, ...] = ()
    missing: bool = False
    """Whether 404 (unknown thing) is possible although the arguments are right."""
    conflict: bool = False
    """Whether 409 (no answer in this state) is possible."""
    route: str = ""
    """Route pattern when it differs from the path."""
    tag: str = "chain"


TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
INTEGER: Json = {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}
DECIMAL: Json = {"type": "string", "pattern": "^[0-9]+\\.[0-9]{18}$"}
HEX: Json = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
HEX_OR_NULL: Json = {"type": ["string", "null"], "pattern": "^([0-9a-f]{2})*$"}
ANY_OBJECT: Json = {"type": "object"}


def record(**properties: Json) -> Json:
    """Schema of an object with exactly these properties, all required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listing(items: Json) -> Json:
    """Schema of a list."""
    return {"type": "array", "items": items}


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"0|[1-9][0-9]{0,39}", text) or not low <= int(text) <= high:
            raise ArgumentError(f"{text[:60]!r} is not an integer from {low} to {high}")
        return int(text)

    return read


def _hex(length: int) -> Callable[[str], bytes]:
    def read(text: str) -> bytes:
        if not re.fullmatch(rf"[0-9a-f]{{{2 * length}}}", text):
            raise ArgumentError(f"{text[:80]!r} is not {2 * length} lower-case hex digits")
        return bytes.fromhex(text)

    return read


def _address(prefix: str) -> Callable[[str], bytes]:
    read_hex = _hex(20)

    def read(text: str) -> bytes:
        if not text.startswith("st"):
            return read_hex(text)
        try:
            return decode(prefix, text)
        except Bech32Error as error:
            raise ArgumentError(str(error)) from error

    return read


_KEY_PATTERN = "^(hex:([0-9a-f]{2}){1,256}|[a-z]{1,20}/[a-z_]{1,40}(/([0-9a-f]{2}){0,64})?)$"
_KEY_TEXT = re.compile(_KEY_PATTERN[:-2] + "|[a-z]{1,20}/[a-z_]{1,40}/st[a-z0-9]{1,100})")


def _state_key(text: str) -> bytes:
    if not _KEY_TEXT.fullmatch(text):
        raise ArgumentError(f"{text[:80]!r} is not a state key; write room/name/<address or hex>, or hex:<hex>")
    try:
        return key_from_text(text)
    except KeyTextError as error:
        raise ArgumentError(str(error)) from error


def number(low: int, high: int, about: str) -> Kind:
    """An integer argument."""
    return Kind(read=_number(low, high), schema={"type": "integer", "minimum": low, "maximum": high}, about=about)


def _hex_schema(length: int) -> Json:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * length}}}$"}


MAX_AMOUNT = 10**30
HEIGHT = number(1, 2**53, "A height.")
HEIGHT_OR_NEWEST = number(0, 2**53, "A height; 0 is the newest.")
EPOCH = number(0, 2**53, "An epoch.")
WAIT_MS = number(0, 1_000, "Milliseconds to wait for it.")
AMOUNT = Kind(
    read=_number(0, MAX_AMOUNT),
    schema={"type": "string", "pattern": "^(0|[1-9][0-9]{0,29})$"},
    about="An amount of wei.",
)
WALLET_ADDRESS = Kind(
    read=_address(WALLET), schema=_hex_schema(20), about="A wallet: 40 hex digits, or its bech32 form st1..."
)
NODE_ADDRESS = Kind(
    read=_address(NODE), schema=_hex_schema(20), about="A node: 40 hex digits, or its bech32 form stsds1..."
)
HASH = Kind(read=_hex(32), schema=_hex_schema(32), about="A hash, 64 hex digits.")
FILE_HASH = Kind(
    read=lambda text: text, schema={"type": "string", "minLength": 1, "maxLength": 80}, about="A file CID (v...)."
)
STATE_KEY = Kind(
    read=_state_key,
    schema={"type": "string", "pattern": _KEY_PATTERN},
    about="A state key: hex:<hex>, or as text, e.g. bank/balance/st1... (slashes may stay unescaped).",
)

_ERROR = record(error=record(code=TEXT, sentence=TEXT))


def _error_response(about: str) -> Json:
    return {"description": about, "content": {"application/json": {"schema": _ERROR}}}


def _parameter(param: Param) -> Json:
    found: Json = {
        "name": param.name,
        "in": "query" if param.query else "path",
        "required": not param.query,
        "description": param.kind.about,
        "schema": param.kind.schema,
    }
    return found


def operation(endpoint: Endpoint) -> Json:
    """The OpenAPI operation of an endpoint."""
    responses: Json = {
        "200": {"description": "The answer.", "content": {"application/json": {"schema": endpoint.schema}}}
    }
    # Unknown query arguments are refused too, so any endpoint may answer 400.
    responses["400"] = _error_response("An argument is malformed.")
    if endpoint.missing:
        responses["404"] = _error_response("There is no such thing.")
    if endpoint.conflict:
        responses["409"] = _error_response("The present state has no answer.")
    return {
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [_parameter(param) for param in endpoint.params],
        "responses": responses,
    }


def document(endpoints: tuple[Endpoint, ...], extra_paths: Json, *, version: str, network: str) -> Json:
    """The whole OpenAPI document."""
    paths: Json = {endpoint.path: {"get": operation(endpoint)} for endpoint in endpoints}
    paths.update(extra_paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stratos value layer",
            "version": version,
            "description": f"REST surface of a validator of network {network}. Integers are JSON strings, bytes are hex.",
        },
        "paths": dict(sorted(paths.items())),
    }
