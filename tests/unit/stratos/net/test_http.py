"""Where a node serves its metrics: beside the rest of its HTTP, or on a port of their own and nowhere else."""

from __future__ import annotations

import asyncio
import http.client

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from stratos.net.http import HttpServer, build_app, build_metrics_app


def registry() -> CollectorRegistry:
    """One number."""
    found = CollectorRegistry()
    Gauge("stratos_answer", "A number.", registry=found).set(42)
    return found


async def answers(app: web.Application, *paths: str) -> list[tuple[int, bytes]]:
    """What each path says over a real socket."""
    server = HttpServer(app)
    await server.start("127.0.0.1", 0)

    def ask(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    try:
        return [await asyncio.to_thread(ask, path) for path in paths]
    finally:
        await server.close()


async def test_metrics_are_beside_the_rest_or_not_at_all() -> None:
    """Without a registry there is no /metrics, said in one sentence as any other path that is none."""
    both = await answers(build_app(status=dict, health=lambda: None, registry=registry()), "/status", "/metrics")
    assert both[0] == (200, b"{}") and b"stratos_answer 42.0" in both[1][1]
    bare = await answers(build_app(status=dict, health=lambda: None, registry=None), "/status", "/metrics")
    assert [status for status, _ in bare] == [200, 404]
    assert b"Not Found for GET /metrics" in bare[1][1]


async def test_a_port_for_metrics_says_nothing_else() -> None:
    """Neither status nor health, which everybody may ask elsewhere."""
    found = await answers(build_metrics_app(registry()), "/metrics", "/status", "/health")
    assert [status for status, _ in found] == [200, 404, 404]
    assert b"stratos_answer 42.0" in found[0][1]
