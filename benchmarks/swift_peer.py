"""OpenStack Swift from the package index, in its best documented setting, as a peer on loopback.

Own virtual environment, three devices with three replicas, one process per server (object, container and account of each
device, one proxy), memcached for its tokens and rings, 1 MiB chunks, logs off. Started and stopped by this program and
nothing else. Its client connection is plain HTTP or TLS 1.3, ended by the proxy itself (hitch, nginx and stunnel in front
of it were tried and were not faster); among themselves its servers always speak plain HTTP.
"""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stratos.crypto.keys import NodeKey
from stratos.crypto.tls import tls_identity
from stratos.net.tls import client_context

BASE_PORT = 6200
MEMCACHED_PORT = 28111
START_SECONDS = 60.0
KINDS = {"object": 1, "container": 2, "account": 3}
CHUNK = 1 << 20


class SwiftMissing(Exception):
    """Swift or memcached cannot be had on this machine."""


def install(folder: Path) -> Path:
    """The bin folder of a virtual environment with Swift in it; made once."""
    programs = folder / "swift-venv" / "bin"
    if not (programs / "swift-proxy-server").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "swift-venv")], check=True)
        done = subprocess.run([programs / "pip", "install", "-q", "swift"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SwiftMissing(f"swift cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    if shutil.which("memcached") is None:
        raise SwiftMissing("memcached is not on the PATH; install the Debian package memcached")
    return programs


@contextmanager
def swift(programs: Path, folder: Path, *, tls: bool = False) -> Iterator["SwiftClient"]:
    """A running Swift with its data in `folder`; with `tls` its proxy is reached over TLS 1.3 only."""
    etc = folder / "etc"
    etc.mkdir(parents=True)
    (folder / "run").mkdir()
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = x\nswift_hash_path_prefix = y\n"
        "[storage-policy:0]\nname = gold\ndefault = yes\n"
    )
    environment = {**os.environ, "SWIFT_DIR": str(etc)}
    _configure(etc, folder, tls=tls)
    _rings(programs, etc, environment)
    processes = [
        subprocess.Popen(["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(MEMCACHED_PORT), "-m", "64"])
    ]
    try:
        processes += [
            _start(programs, f"swift-{kind}-server", etc / f"{kind}-{device}.conf", environment)
            for device in (1, 2, 3)
            for kind in KINDS
        ]
        processes.append(_start(programs, "swift-proxy-server", etc / "proxy.conf", environment))
        ports = [BASE_PORT] + [BASE_PORT + 10 * number + device for number in KINDS.values() for device in (1, 2, 3)]
        _wait(ports)
        client = SwiftClient(client_context() if tls else None)
        client.make_container()
        yield client
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=20)


class SwiftClient:
    """PUT and GET as curl does them: from a file, into a file, one connection each."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls

    def make_container(self) -> None:
        """The one container used."""
        connection = self._connect()
        connection.request("PUT", "/v1/AUTH_t/c", headers={"Content-Length": "0"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (201, 202), answer.status

    def put(self, name: str, source: Path) -> None:
        """Store a file."""
        connection = self._connect()
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            connection.putrequest("PUT", f"/v1/AUTH_t/c/{name}")
            connection.putheader("Content-Length", str(size))
            connection.endheaders()
            assert connection.sock is not None
            connection.sock.sendfile(file)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201, answer.status

    def get(self, name: str, target: Path) -> None:
        """Fetch into a file."""
        connection = self._connect()
        connection.request("GET", f"/v1/AUTH_t/c/{name}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        buffer = memoryview(bytearray(CHUNK))
        with target.open("wb", buffering=0) as file:
            while count := answer.readinto(buffer):
                file.write(buffer[:count])

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection("127.0.0.1", BASE_PORT, timeout=60)
        return http.client.HTTPSConnection("127.0.0.1", BASE_PORT, timeout=60, context=self._tls)


def _configure(etc: Path, folder: Path, *, tls: bool) -> None:
    for device in (1, 2, 3):
        (folder / f"srv{device}" / f"d{device}").mkdir(parents=True)
        for kind, number in KINDS.items():
            (etc / f"{kind}-{device}.conf").write_text(
                f"[DEFAULT]\ndevices = {folder}/srv{device}\nmount_check = false\ndisable_fallocate = true\n"
                f"bind_ip = 127.0.0.1\nbind_port = {BASE_PORT + 10 * number + device}\nworkers = 0\nuser = root\n"
                f"swift_dir = {etc}\nlog_level = ERROR\nlog_address = /dev/null\nrecon_cache_path = {folder}/run\n"
                f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
            )
    identity = tls_identity(NodeKey.from_seed(os.urandom(32)))
    (etc / "proxy.key").write_bytes(identity.key_pem)
    (etc / "proxy.key").chmod(0o600)
    (etc / "proxy.pem").write_bytes(identity.certificate_pem)
    encrypted = f"cert_file = {etc}/proxy.pem\nkey_file = {etc}/proxy.key\n" if tls else ""
    (etc / "proxy.conf").write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {BASE_PORT}\nworkers = 0\nuser = root\nswift_dir = {etc}\n"
        f"log_level = ERROR\nlog_address = /dev/null\n{encrypted}"
        "[pipeline:main]\npipeline = catch_errors healthcheck cache proxy-server\n"
        "[filter:catch_errors]\nuse = egg:swift#catch_errors\n[filter:healthcheck]\nuse = egg:swift#healthcheck\n"
        f"[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:{MEMCACHED_PORT}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n"
        f"object_chunk_size = {CHUNK}\nclient_chunk_size = {CHUNK}\n"
    )


def _rings(programs: Path, etc: Path, environment: dict[str, str]) -> None:
    for kind, number in KINDS.items():
        builder = [str(programs / "swift-ring-builder"), f"{kind}.builder"]
        steps = [["create", "8", "3", "1"]]
        steps += [
            ["add", f"r1z{device}-127.0.0.1:{BASE_PORT + 10 * number + device}/d{device}", "1"] for device in (1, 2, 3)
        ]
        for step in [*steps, ["rebalance"]]:
            subprocess.run([*builder, *step], cwd=etc, env=environment, capture_output=True, check=True)


def _start(programs: Path, program: str, config: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [programs / program, config], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait(ports: list[int]) -> None:
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise SwiftMissing(f"swift does not listen on port {port}") from None
                time.sleep(0.05)
