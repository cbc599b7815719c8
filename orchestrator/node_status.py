"""Plain HTTP to nodes, and what they answer to GET /status; no answer is an answer too."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from orchestrator.plan.plan import NodePlan

MOST_AT_ONCE = 16
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Answer(Struct, frozen=True):
    """Status code and body of an HTTP answer."""

    status: int
    body: bytes


def request(
    host: str, port: int, path: str, *, method: str = "GET", body: bytes | None = None, timeout_seconds: float
) -> Answer | None:
    """What a node's HTTP port answers, or None when nobody does in time.

    One request on one connection, without the standard library's HTTP client: its import is longer than many answers take.
    """
    deadline = time.monotonic() + timeout_seconds
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", "Accept: application/json"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
            received = bytearray()
            while len(received) < MAX_ANSWER_BYTES:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                data = connection.recv(262_144)
                if not data:
                    return parse_answer(bytes(received))
                received += data
    except (OSError, UnicodeError):
        return None
    return None


def parse_answer(received: bytes) -> Answer | None:
    """The answer in everything a server sent before it closed; None when it is not whole."""
    head, separator, body = received.partition(b"\r\n\r\n")
    status_line, *headers = head.split(b"\r\n")
    words = status_line.split(b" ", 2)
    if not separator or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return None
    fields = dict(header.lower().split(b":", 1) for header in headers if b":" in header)
    length = fields.get(b"content-length", b"").strip()
    if b"transfer-encoding" in fields or (length.isdigit() and int(length) != len(body)):
        return None
    return Answer(int(words[1]), body)


def node_status(node: NodePlan, *, timeout_seconds: float = 2.0) -> dict[str, Any] | None:
    """The node's /status document, or None."""
    return _status_at(*node.http_address, timeout_seconds=timeout_seconds)


def base_status(url: str, *, timeout_seconds: float = 2.0) -> dict[str, Any] | None:
    """The /status document behind a base URL, or None."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        return None
    return _status_at(parts.hostname, parts.port, timeout_seconds=timeout_seconds)


def _status_at(host: str, port: int, *, timeout_seconds: float) -> dict[str, Any] | None:
    answer = request(host, port, "/status", timeout_seconds=timeout_seconds)
    if answer is None or answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def all_statuses(nodes: Iterable[NodePlan], *, timeout_seconds: float = 2.0) -> dict[str, dict[str, Any] | None]:
    """Every node's /status, asked at the same time."""
    wanted = list(nodes)
    with ThreadPoolExecutor(max_workers=min(MOST_AT_ONCE, max(1, len(wanted)))) as pool:
        answers = pool.map(lambda node: node_status(node, timeout_seconds=timeout_seconds), wanted)
        return {node.name: answer for node, answer in zip(wanted, answers, strict=True)}
