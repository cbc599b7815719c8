"""An engine that is not there is one sentence and exit code 3, on every command that needs it."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from orchestrator.cli import main
from orchestrator.errors import EnvironmentFault
from orchestrator.image.base import registry_answers
from orchestrator.image.engine import engine


class FakeEngine(http.server.BaseHTTPRequestHandler):
    """Answers /version as an engine does, and knows no registry."""

    api_version = "1.41"

    def do_GET(self) -> None:
        found = self.path.endswith("/version")
        body = json.dumps(
            {"ApiVersion": self.api_version, "Arch": "amd64"} if found else {"message": "no such host"}
        ).encode()
        self.send_response(200 if found else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Where a fake engine answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeEngine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("words", [["build"], ["list"], ["save", "x", "-o", "/tmp/x"], ["load", "/dev/null"]])
def test_without_an_engine_there_is_one_sentence(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names where was asked and what to do."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    assert main.main(["image", *words]) == 3
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "no container engine answers at unix:///nonexistent/engine.sock" in lines[0]
    assert "DOCKER_HOST" in lines[0]


def test_an_engine_that_is_too_old_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both versions."""
    monkeypatch.setenv("DOCKER_HOST", address)
    monkeypatch.setattr(FakeEngine, "api_version", "1.40")
    with pytest.raises(EnvironmentFault, match=r"API 1\.40, older than 1\.41"):
        engine()


def test_a_registry_that_the_engine_cannot_see_does_not_answer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked, because it may be elsewhere than this tool."""
    monkeypatch.setenv("DOCKER_HOST", address)
    assert not registry_answers("python:3.12-slim-bookworm")
