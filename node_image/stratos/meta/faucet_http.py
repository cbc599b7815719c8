"""The faucet over HTTP: POST /stratos/faucet/v1/request, its limits, and the document that describes both.

Every meta node answers under this path, so that a wrong address is told from a broken faucet: a node without one says so
with 404. A refusal always has a code, a sentence, and Retry-After when asking again can help.
"""

import functools
from typing import Any

import msgspec
from aiohttp import web

from stratos import __version__
from stratos.meta.faucet import Faucet
from stratos.meta.faucet_book import FaucetRefusal
from stratos.net.http import Refusal, error_response, json_response
from stratos.wire.faucet import FAUCET_PATH, FaucetPayment, FaucetRequest

MAX_REQUEST_BYTES = 16 * 1024
_decoder = msgspec.json.Decoder(FaucetRequest)


def add_faucet(app: web.Application, faucet: Faucet | None) -> None:
    """Routes under /stratos/faucet/v1."""

    def present() -> Faucet:
        if faucet is None:
            raise Refusal(
                404, "no_faucet", "this meta node has no faucet; the join ticket and the status page name the one"
            )
        return faucet

    async def request(asked: web.Request) -> web.Response:
        return await _request(present(), asked)

    async def limits(_asked: web.Request) -> web.Response:
        return json_response(present().limits())

    async def openapi(_asked: web.Request) -> web.Response:
        return json_response(faucet_document())

    app.router.add_post(f"{FAUCET_PATH}/request", request)
    app.router.add_get(f"{FAUCET_PATH}/limits", limits, allow_head=False)
    app.router.add_get(f"{FAUCET_PATH}/openapi.json", openapi, allow_head=False)


async def _request(faucet: Faucet, asked: web.Request) -> web.Response:
    body = await asked.content.read(MAX_REQUEST_BYTES + 1)
    while len(body) <= MAX_REQUEST_BYTES and (more := await asked.content.read(MAX_REQUEST_BYTES + 1 - len(body))):
        body += more
    if len(body) > MAX_REQUEST_BYTES:
        raise Refusal(413, "invalid", f"a faucet request has at most {MAX_REQUEST_BYTES} bytes")
    try:
        ask = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, "invalid", f"not a faucet request: {error}; see {FAUCET_PATH}/openapi.json") from error
    try:
        grant = await faucet.request(ask, asked.remote)
    except FaucetRefusal as refusal:
        answer = error_response(refusal.status, refusal.code, refusal.sentence)
        if refusal.retry_seconds:
            answer.headers["Retry-After"] = str(refusal.retry_seconds)
        return answer
    payment = FaucetPayment(
        wallet=grant.wallet, amount_wei=str(grant.amount_wei), tx_hash=grant.tx_hash, height=str(grant.height)
    )
    return json_response(payment)


@functools.cache
def faucet_document() -> dict[str, Any]:
    """OpenAPI 3.1, its schemas made from the records themselves."""
    (ask, payment), components = msgspec.json.schema_components(
        (FaucetRequest, FaucetPayment), ref_template="#/components/schemas/{name}"
    )
    error = {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"code": {"type": "string"}, "sentence": {"type": "string"}},
                "required": ["code", "sentence"],
            }
        },
        "required": ["error"],
    }
    refusals = {
        "400": "not a request",
        "403": "signature, time or ticket refused, or more than is allowed",
        "404": "this node has no faucet",
        "409": "the nonce was used for another amount",
        "413": "too long",
        "429": "a limit; Retry-After says when",
        "503": "cannot pay now: closed, empty, spent, busy, no validator, or not in a block yet; ask with the same nonce",
    }

    def answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    return {
        "openapi": "3.1.0",
        "info": {"title": "Stratos faucet", "version": __version__},
        "paths": {
            f"{FAUCET_PATH}/request": {
                "post": {
                    "summary": "Pay a wallet, once per nonce; answered when the payment is in a block.",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": ask}}},
                    "responses": {
                        "200": answer("paid", payment),
                        **{status: answer(text, error) for status, text in refusals.items()},
                    },
                }
            },
            f"{FAUCET_PATH}/limits": {
                "get": {
                    "summary": "What the faucet may still give, and whose tickets it honours.",
                    "responses": {
                        "200": answer("limits", {"type": "object", "additionalProperties": {"type": "string"}}),
                        "404": answer("this node has no faucet", error),
                    },
                }
            },
        },
        "components": {"schemas": components},
    }
