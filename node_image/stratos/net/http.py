"""What every node says over HTTP: /status, /health, /metrics, and how its errors look.

One aiohttp application per node, plain HTTP, for people and scrapers; nothing secret is served and nothing is changed by a
GET. Every refused request is JSON {"error": {"code", "sentence"}} with a 4xx status, including those aiohttp itself
refuses; a bug is a 500 with no internals in it. aiohttp is imported with this module: the lean parts of the
node do without it.
"""

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from stratos.net.rpc import PortInUse

MAX_HTTP_BODY_BYTES = 256 * 1024
METRICS_PATH = "/metrics"
_log = structlog.get_logger("stratos.net.http")
_encoder = msgspec.json.Encoder()

StatusSource = Callable[[], Mapping[str, Any]]
HealthSource = Callable[[], str | None]
"""None when healthy, else one sentence."""


class Refusal(Exception):
    """Raised by a handler to refuse a request: HTTP status, code, one sentence with the fix."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence


def json_response(document: Any, *, status: int = 200) -> web.Response:
    """A JSON answer; integers that people would lose digits of must already be strings."""
    return web.Response(body=_encoder.encode(document), status=status, content_type="application/json")


def error_response(status: int, code: str, sentence: str) -> web.Response:
    """The JSON form of a refusal."""
    return json_response({"error": {"code": code, "sentence": sentence}}, status=status)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return error_response(refusal.status, refusal.code, refusal.sentence)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = error_response(
            error.status, "http", f"{error.reason} for {request.method} {request.path[:200]}; see /openapi.json"
        )
        for header in ("Allow",):
            if header in error.headers:
                answer.headers[header] = error.headers[header]
        return answer
    except Exception as error:  # noqa: BLE001 - a bug in one handler must not end the node
        _log.error("request failed", path=request.path, error=str(error), exc_info=error)
        return error_response(500, "internal", "the node failed to answer this; see its log")


def build_app(*, status: StatusSource, health: HealthSource, registry: CollectorRegistry | None) -> web.Application:
    """The application with /status, /health and, of a registry, /metrics; rooms add their own routes before it is served."""
    app = web.Application(middlewares=[_errors], client_max_size=MAX_HTTP_BODY_BYTES)

    async def get_status(_request: web.Request) -> web.Response:
        return json_response(status())

    async def get_health(_request: web.Request) -> web.Response:
        reason = health()
        if reason is None:
            return json_response({"healthy": True})
        return json_response({"healthy": False, "reason": reason}, status=503)

    app.router.add_get("/status", get_status)
    app.router.add_get("/health", get_health)
    if registry is not None:
        _add_metrics(app, registry)
    return app


def build_metrics_app(registry: CollectorRegistry) -> web.Application:
    """The application with /metrics and nothing else, for a port that is not for everybody."""
    app = web.Application(middlewares=[_errors], client_max_size=MAX_HTTP_BODY_BYTES)
    _add_metrics(app, registry)
    return app


def _add_metrics(app: web.Application, registry: CollectorRegistry) -> None:
    async def get_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")

    app.router.add_get(METRICS_PATH, get_metrics)


class HttpServer:
    """Serves one application; `start` returns the port."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=30.0, shutdown_timeout=1.0
        )
        self.port = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; raises PortInUse."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                reason = os.strerror(error.errno)
                raise PortInUse(
                    error.errno, f"cannot listen on {host}:{port} ({reason}); stop its user or choose another port"
                ) from error
            raise
        self.port = int(self._runner.addresses[0][1])
        return self.port

    async def close(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()
