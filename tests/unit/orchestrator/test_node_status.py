"""Asking nodes over plain HTTP."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.node_status import Answer, parse_answer, request


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", Answer(404, b"")),
        (b"HTTP/1.0 200 OK\r\n\r\nall until the end", Answer(200, b"all until the end")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\n", None),
        (b"SSH-2.0-x\r\n\r\n", None),
        (b"HTTP/1.1 abc\r\n\r\n", None),
        (b"", None),
    ],
)
def test_an_answer_is_whole_or_none(received: bytes, answer: Answer | None) -> None:
    """A cut, chunked or foreign answer is no answer."""
    assert parse_answer(received) == answer


def test_nobody_listening_and_a_silent_server_are_no_answer() -> None:
    """Both end within the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert request("127.0.0.1", port, "/status", timeout_seconds=0.05) is None
    assert request("127.0.0.1", port, "/status", timeout_seconds=1.0) is None


def test_a_body_is_sent_with_its_length() -> None:
    """What is posted arrives whole."""
    got: list[bytes] = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            data = b""
            while not data.endswith(b"{1}"):
                data += connection.recv(1000)
            got.append(data)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        answer = request("127.0.0.1", server.getsockname()[1], "/x", method="POST", body=b"{1}", timeout_seconds=5.0)
        thread.join()
    assert answer == Answer(200, b"ok")
    assert b"Content-Length: 3\r\n" in got[0]
