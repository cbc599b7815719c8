"""The table of what a server answers: request type -> handler and the classes that may ask.

A room registers its tagged array records; their union gives one decoder, so a body is a known, bounded, typed record
before any handler sees it. A handler may be a plain function (answered at once, no task) or a coroutine.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Union

import msgspec
from msgspec import Struct

from stratos.net.peers import EVERYONE, NODES, PeerIdentity
from stratos.wire.codec import WireError

Answer = Struct | msgspec.Raw
Handler = Callable[[PeerIdentity, Any], Answer | Awaitable[Answer]]
NotifyHandler = Callable[[PeerIdentity, Any], None]


class Route(NamedTuple):
    """A handler of requests and the classes allowed to call it."""

    handler: Handler
    allow: frozenset[str]


class NotifyRoute(NamedTuple):
    """A handler of notifications and the classes allowed to send them."""

    handler: NotifyHandler
    allow: frozenset[str]


class Routes:
    """Requests and notifications one port understands. Fill it before the server or mesh starts."""

    def __init__(self) -> None:
        self._requests: dict[type[Struct], Route] = {}
        self._notifies: dict[type[Struct], NotifyRoute] = {}
        self._request_decoder: msgspec.msgpack.Decoder[Struct] | None = None
        self._notify_decoder: msgspec.msgpack.Decoder[Struct] | None = None

    def on_request(self, kind: type[Struct], handler: Handler, *, allow: frozenset[str] = EVERYONE) -> None:
        """Answer requests of type `kind` with `handler(peer, request)`."""
        if kind in self._requests:
            raise ValueError(f"{kind.__name__} already has a handler")
        self._requests[kind] = Route(handler, allow)
        self._request_decoder = None

    def on_notify(self, kind: type[Struct], handler: NotifyHandler, *, allow: frozenset[str] = NODES) -> None:
        """Pass notifications of type `kind` to `handler(peer, message)`."""
        if kind in self._notifies:
            raise ValueError(f"{kind.__name__} already has a handler")
        self._notifies[kind] = NotifyRoute(handler, allow)
        self._notify_decoder = None

    def decode_request(self, body: bytes) -> tuple[Struct, Route]:
        """The request in `body` and its route; raises WireError."""
        if self._request_decoder is None:
            self._request_decoder = _union_decoder(self._requests)
        request = _decoded(self._request_decoder, body)
        return request, self._requests[type(request)]

    def decode_notify(self, body: bytes) -> tuple[Struct, NotifyRoute]:
        """The notification in `body` and its route; raises WireError."""
        if self._notify_decoder is None:
            self._notify_decoder = _union_decoder(self._notifies)
        message = _decoded(self._notify_decoder, body)
        return message, self._notifies[type(message)]


class _Nothing(Struct, frozen=True, array_like=True, tag="nothing"):
    """Keeps an empty table decodable."""


def _union_decoder(table: "dict[type[Struct], Any]") -> "msgspec.msgpack.Decoder[Struct]":
    kinds = tuple(table) or (_Nothing,)
    return msgspec.msgpack.Decoder(Union[kinds])  # noqa: UP007 - built at run time


def _decoded(decoder: "msgspec.msgpack.Decoder[Struct]", body: bytes) -> Struct:
    try:
        record = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a known message: {error}") from error
    if isinstance(record, _Nothing):
        raise WireError("not a known message: this node answers nothing of the kind")
    return record
