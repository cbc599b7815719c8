"""The small server of the public files: it gives the files of its folder, and nothing else whatever is asked."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVER = ROOT / "playbooks" / "roles" / "stratos_public" / "files" / "static_server.py"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """It serves a folder that has more in it than is public."""
    public = tmp_path / "public"
    (public / "sub").mkdir(parents=True)
    (tmp_path / "secret.json").write_text("secret")
    (public / "sub" / "a.json").write_text("secret")
    (public / ".hidden.json").write_text("secret")
    (public / "key.pem").write_text("secret")
    (public / "link.json").symlink_to(tmp_path / "secret.json")
    (public / "genesis.json").write_text('{"network": "net"}')
    (public / "index.html").write_text("<p>page</p>")
    (public / "empty.json").write_text("")
    command = [sys.executable, "-I", str(SERVER), "--port", "0", str(public)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline().rsplit(maxsplit=1)[-1])
        finally:
            server.terminate()
            assert server.wait(timeout=30) == 0


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_public_files_are_given(port: int) -> None:
    """With their type, never from a cache, and the page is what the folder itself answers."""
    status, body, headers = ask(port, "/genesis.json?now")
    assert (status, body) == (200, b'{"network": "net"}')
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", "no-cache")
    status, body, headers = ask(port, "/")
    assert (status, body, headers["content-type"]) == (200, b"<p>page</p>", "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(port, "/empty.json")[:2] == (200, b"")
    status, body, headers = ask(port, "/genesis.json", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", "18")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.json",
        "/..%2fsecret.json",
        "//etc/passwd.json",
        "/sub/a.json",
        "/sub",
        "/.hidden.json",
        "/key.pem",
        "/link.json",
        "/absent.json",
    ],
)
def test_everything_else_is_not_there(path: str, port: int) -> None:
    """Other folders, hidden files, links, other types: 404, without the bytes."""
    status, body, _ = ask(port, path)
    assert status == 404
    assert b"secret" not in body


def test_only_reading_is_served(port: int) -> None:
    """Other methods are refused."""
    assert ask(port, "/genesis.json", "DELETE")[0] == 501
