"""The faucet's HTTP surface: every answer is JSON with a code and a sentence, and the document says what it takes."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from stratos.meta.faucet import Faucet
from stratos.meta.faucet_http import MAX_REQUEST_BYTES, add_faucet
from stratos.net.http import HttpServer, build_app
from tests.unit.stratos.meta.test_faucet import STOS, World, request, wallet

Ask = Callable[..., Any]


async def serve(faucet: Faucet | None) -> HttpServer:
    app = build_app(status=dict, health=lambda: None, registry=CollectorRegistry())
    add_faucet(app, faucet)
    server = HttpServer(app)
    await server.start("127.0.0.1", 0)
    return server


async def ask(server: HttpServer, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, dict[str, str]]:
    """Ask over a real socket, in a thread."""

    def send() -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request(method, f"/stratos/faucet/v1/{path}", body)
            answer = connection.getresponse()
            document = msgspec.json.decode(answer.read())
            return answer.status, document, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    return await asyncio.to_thread(send)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """A faucet whose chain commits at once."""
    return World(tmp_path)


@pytest.fixture
async def server(world: World) -> AsyncIterator[HttpServer]:
    """It is served."""
    server = await serve(world.faucet)
    yield server
    await server.close()


async def test_a_payment_is_answered_with_its_block(server: HttpServer) -> None:
    """What the document promises: wallet, amount, transaction and height."""
    status, document, _ = await ask(server, "POST", "request", msgspec.json.encode(request(wallet(), STOS)))
    assert (status, document["wallet"], document["amount_wei"]) == (200, wallet().text, str(STOS))
    assert set(document) == {"wallet", "amount_wei", "tx_hash", "height"}


async def test_refusals_say_why_and_when_to_come_back(server: HttpServer, world: World) -> None:
    """A 503 is never silent: code, sentence and Retry-After."""
    world.chain.silent = True
    status, document, headers = await ask(server, "POST", "request", msgspec.json.encode(request(wallet(), STOS)))
    assert (status, document["error"]["code"], headers["retry-after"]) == (503, "chain", "5")
    assert "nobody answers" in document["error"]["sentence"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{}", 400), (b"\xff", 400), (b"[" * 10_000, 400), (b"x" * (MAX_REQUEST_BYTES + 1), 413)],
)
async def test_what_is_no_request_is_refused(body: bytes, status: int, server: HttpServer) -> None:
    """Junk, something else, too deep and too long: refused before anything is looked at."""
    found, document, _ = await ask(server, "POST", "request", body)
    assert (found, document["error"]["code"]) == (status, "invalid")


async def test_the_document_describes_both_ways(server: HttpServer) -> None:
    """Every field of the request and every status that is answered is in it; its references lead somewhere."""
    status, document, _ = await ask(server, "GET", "openapi.json")
    assert status == 200
    post = document["paths"]["/stratos/faucet/v1/request"]["post"]
    assert {"200", "400", "403", "404", "409", "413", "429", "503"} == set(post["responses"])
    reference = post["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["properties"]) == set(request(wallet(), STOS).__struct_fields__)


async def test_limits_are_told(server: HttpServer, world: World) -> None:
    """What may still be given, and whose tickets count."""
    await world.ask(request(wallet(), STOS))
    _, document, _ = await ask(server, "GET", "limits")
    assert (document["day_left_wei"], document["closed"]) == (str(4_999 * STOS), "")


async def test_a_node_without_a_faucet_says_so() -> None:
    """404 with the way to the right one, not a silence."""
    server = await serve(None)
    try:
        for method, path in (("POST", "request"), ("GET", "limits")):
            status, document, _ = await ask(server, method, path, b"{}" if method == "POST" else None)
            assert (status, document["error"]["code"]) == (404, "no_faucet")
    finally:
        await server.close()
