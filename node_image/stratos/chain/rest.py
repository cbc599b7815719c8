"""The REST surface of a validator: the endpoint tables put on the HTTP application, and POST /stratos/tx.

Every argument is read by its declared kind, unknown or repeated query arguments are refused, and whatever a handler refuses
becomes a 4xx with one sentence; so the document at /openapi.json and what happens are the same thing.
"""

import base64
import binascii
import json
from inspect import isawaitable
from typing import Any

from aiohttp import web

from stratos import __version__
from stratos.chain import openapi as api
from stratos.chain.admission import Admission
from stratos.chain.application import ChainApplication
from stratos.chain.json_forms import FormError, from_json
from stratos.chain.openapi import ArgumentError, Endpoint, document, record
from stratos.chain.rest_chain import ChainEndpoints
from stratos.chain.rest_ledger import LedgerEndpoints
from stratos.chain.rest_upgrade import upgrade_endpoints
from stratos.chain.service import ChainService
from stratos.ledger.errors import UNKNOWN, LedgerError
from stratos.ledger.machine import Ledger
from stratos.net.http import METRICS_PATH, Refusal, json_response
from stratos.net.peers import RpcRefused
from stratos.wire.codec import encode
from stratos.wire.limits import MAX_TX_BYTES
from stratos.wire.txs import Tx

_CONFLICT = frozenset({"duplicate"})
_BUSY = frozenset({"full"})
_ERROR = api.record(error=record(code=api.TEXT, sentence=api.TEXT))


def add_rest(
    app: web.Application,
    *,
    service: ChainService,
    application: ChainApplication,
    ledger: Ledger,
    admission: Admission,
) -> None:
    """Put all endpoints on `app`, which already has /status, /health and, unless they have a port of their own, /metrics."""
    endpoints = (
        *ChainEndpoints(service=service, application=application, ledger=ledger).endpoints(),
        *LedgerEndpoints(application=application, ledger=ledger).endpoints(),
        *upgrade_endpoints(application.state, ledger),
    )
    for endpoint in endpoints:
        app.router.add_get(endpoint.route or endpoint.path, _handler(endpoint), allow_head=False)

    async def post_tx(request: web.Request) -> web.Response:
        _no_query(request)
        raw = _transaction_bytes(await _json_body(request))
        [verdict] = await admission.submit([raw])
        if verdict.code == "ok":
            return json_response({"hash": verdict.tx_hash.hex(), "code": "ok"})
        status = 409 if verdict.code in _CONFLICT else 429 if verdict.code in _BUSY else 403
        raise Refusal(status, verdict.code, verdict.error)

    own = _own_paths()
    if all(resource.canonical != METRICS_PATH for resource in app.router.resources()):
        del own[METRICS_PATH]
    described = document(endpoints, own, version=__version__, network=ledger.genesis.network)

    async def get_document(request: web.Request) -> web.Response:
        _no_query(request)
        return json_response(described)

    app.router.add_post("/stratos/tx", post_tx)
    app.router.add_get("/openapi.json", get_document)


def _handler(endpoint: Endpoint) -> Any:
    by_name = {param.name: param for param in endpoint.params if param.query}

    async def handle(request: web.Request) -> web.Response:
        for name in request.query:
            if name not in by_name or len(request.query.getall(name)) > 1:
                known = ", ".join(by_name) or "none"
                raise Refusal(
                    400, "invalid", f"query argument {name[:40]!r} is unknown or repeated; known here: {known}"
                )
        arguments: dict[str, Any] = {}
        try:
            for param in endpoint.params:
                text = request.query.get(param.name) if param.query else request.match_info[param.name]
                arguments[param.name] = param.default if text is None else _read(param, text)
            answer = endpoint.answer(arguments)
            if isawaitable(answer):
                answer = await answer
        except RpcRefused as refused:
            raise Refusal(404, refused.code, refused.sentence) from refused
        except LedgerError as refused:
            raise Refusal(404 if refused.code == UNKNOWN else 409, refused.code, refused.sentence) from refused
        return json_response(answer)

    return handle


def _read(param: api.Param, text: str) -> Any:
    try:
        return param.kind.read(text)
    except ArgumentError as error:
        raise Refusal(400, "invalid", f"{param.name}: {error}") from error


def _no_query(request: web.Request) -> None:
    if request.query_string:
        raise Refusal(400, "invalid", f"{request.path} takes no query arguments")


async def _json_body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise Refusal(415, "invalid", f"the body is {request.content_type[:60]}; send application/json")
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid", f"the body is not JSON: {str(error)[:200]}") from error


def _transaction_bytes(body: Any) -> bytes:
    """Canonical bytes of the transaction in a POST body: {"tx": base64} or the JSON form of the record."""
    if not isinstance(body, dict):
        raise Refusal(400, "invalid", 'the body should be an object: {"tx": "<base64>"} or body, public_key, signature')
    if set(body) == {"tx"} and isinstance(body["tx"], str):
        try:
            raw = base64.b64decode(body["tx"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(400, "invalid", f"tx is not base64: {error}") from error
        if not 1 <= len(raw) <= MAX_TX_BYTES:
            raise Refusal(400, "invalid", f"a transaction has 1 to {MAX_TX_BYTES} bytes, not {len(raw)}")
        return raw
    try:
        return encode(from_json(body, Tx))
    except FormError as error:
        raise Refusal(400, "invalid", f"not a transaction: {error}") from error


def _own_paths() -> api.Json:
    """What is not in the endpoint tables: status, health, metrics, the document, and submitting a transaction."""

    def plain(
        summary: str, schema: api.Json, others: api.Json | None = None, media: str = "application/json"
    ) -> api.Json:
        responses = {"200": {"description": "The answer.", "content": {media: {"schema": schema}}}, **(others or {})}
        return {"get": {"summary": summary, "tags": ["node"], "responses": responses}}

    def error(about: str) -> api.Json:
        return {"description": about, "content": {"application/json": {"schema": _ERROR}}}

    health = record(healthy=api.FLAG)
    unhealthy = {
        "description": "Unhealthy.",
        "content": {"application/json": {"schema": record(healthy=api.FLAG, reason=api.TEXT)}},
    }
    refused = error("An argument is malformed.")
    by_bytes = {
        "type": "object",
        "properties": {"tx": {"type": "string", "pattern": "^([A-Za-z0-9+/]{4}){1,64}$"}},
        "required": ["tx"],
        "additionalProperties": False,
        "description": "base64 of the canonical bytes of a signed transaction",
    }
    return {
        "/status": plain("Where this node is.", api.ANY_OBJECT),
        "/health": plain("Whether blocks come.", health, {"503": unhealthy}),
        METRICS_PATH: plain("Numbers for Prometheus.", api.TEXT, media="text/plain"),
        "/openapi.json": plain("This document.", api.ANY_OBJECT, {"400": refused}),
        "/stratos/tx": {
            "post": {
                "summary": "Submit a signed transaction: base64 of its bytes, or the record as JSON (body, public_key, "
                "signature; integers as strings, bytes as hex). Answered when it is admitted, not when committed.",
                "tags": ["chain"],
                "requestBody": {"required": True, "content": {"application/json": {"schema": by_bytes}}},
                "responses": {
                    "200": {
                        "description": "Admitted.",
                        "content": {"application/json": {"schema": record(hash=api.HEX, code=api.TEXT)}},
                    },
                    "400": error("The body is malformed."),
                    "403": error("The transaction is refused: invalid, signature, sequence or fee."),
                    "409": error("The transaction is known already."),
                    "413": error("The body is too large."),
                    "415": error("The body is not JSON."),
                    "429": error("Too many transactions wait."),
                },
            }
        },
    }
