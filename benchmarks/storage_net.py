"""A testnet for storage benchmarks, the yardsticks of the same run, and the verdict whether a run counts.

Shared by `put_get` and `swift_compare`. The net is raised by the command line a user types, in a folder of its own, and taken
down at the end. A run is void when the calibration (ed25519 checks, a 64 MiB copy, an fdatasync) moved by more than 15 %
between its two ends: then the machine was busy with something else. Void runs are reported too.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stratos.crypto.keys import NodeKey, verify_node

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
VOID_ABOVE = 0.15
CHUNK = MIB
CALIBRATION_COPIES = 8
"""The quickest of these counts: one copy of 64 MiB varies by a quarter on an idle machine."""

INVENTORY = """
all:
  vars:
    ansible_connection: local
    stratos_copies: {copies}
    stratos_slice_transport: {transport}
    stratos_block_seconds: 5
    stratos_meta_block_seconds: 5
    stratos_epoch_seconds: 60
    stratos_status_seconds: 5
  children:
    validators: {{hosts: {{"validator-[1:{validators}]": }}}}
    meta: {{hosts: {{"meta-[1:{meta}]": }}}}
    resource: {{hosts: {{"resource-[1:{resource}]": }}}}
"""


@contextmanager
def running_testnet(
    *, copies: int, transport: str, folder: Path | None, validators: int = 1, meta: int = 4, resource: int = 6
) -> Iterator[Path]:
    """The folder of a running testnet."""
    with tempfile.TemporaryDirectory(prefix="stratos-bench-", dir=folder) as scratch:
        inventory = Path(scratch) / "bench.yml"
        inventory.write_text(
            INVENTORY.format(copies=copies, transport=transport, validators=validators, meta=meta, resource=resource)
        )
        environment = {**os.environ, "STRATOS_TESTNETS": str(Path(scratch) / "testnets")}
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main"]

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [*program, arguments[0], "-i", str(inventory), *arguments[1:]],
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"stratosctl {arguments[0]} failed: {done.stderr.strip()}")
            return done.stdout

        report = json.loads(run("up", "--json"))
        try:
            yield Path(report["folder"])
        finally:
            run("down", "--purge")


def calibration(folder: Path) -> dict[str, float]:
    """Seconds of three fixed pieces of work: processor, memory, disk."""
    key = NodeKey.from_seed(b"\7" * 32)
    signature = key.sign(b"calibration")
    began = time.perf_counter()
    for _ in range(2_000):
        assert verify_node(key.public_key, b"calibration", signature)
    verified = time.perf_counter()
    source, target = bytearray(64 * MIB), bytearray(64 * MIB)
    copies = []
    for _ in range(CALIBRATION_COPIES):
        start = time.perf_counter()
        target[:] = source
        copies.append(time.perf_counter() - start)
    with tempfile.TemporaryFile(dir=folder) as file:
        samples = []
        for _ in range(20):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - start)
    return {
        "verify_2000": verified - began,
        "copy_64mib": min(copies),
        "fdatasync": statistics.median(samples),
    }


def drift(before: dict[str, float], after: dict[str, float]) -> float:
    """How much the processor's and memory's calibration moved, as a fraction (a single disk sync is too noisy to judge by)."""
    return max(abs(after[name] / before[name] - 1) for name in ("verify_2000", "copy_64mib"))


def loopback_mb_per_second(total: int = 256 * MIB) -> float:
    """Plain TCP between two threads, MB/s."""
    listener = socket.create_server(("127.0.0.1", 0))
    got = 0

    def take() -> None:
        nonlocal got
        peer, _ = listener.accept()
        with peer:
            buffer = bytearray(CHUNK)
            while count := peer.recv_into(buffer):
                got += count

    thread = threading.Thread(target=take)
    thread.start()
    data = bytes(CHUNK)
    began = time.perf_counter()
    with socket.create_connection(listener.getsockname()) as out:
        for _ in range(total // CHUNK):
            out.sendall(data)
    thread.join()
    listener.close()
    assert got == total
    return total / 1e6 / (time.perf_counter() - began)


def write_floor_mb_per_second(folder: Path, *, copies: int, size: int) -> float:
    """User MB/s when `size` bytes are written `copies` times, each file synced: what no replicated store can beat."""
    data = os.urandom(CHUNK)
    began = time.perf_counter()
    paths = []
    for number in range(copies):
        path = folder / f"floor-{number}"
        paths.append(path)
        with path.open("wb", buffering=0) as file:
            for _ in range(size // CHUNK):
                file.write(data)
            os.fdatasync(file.fileno())
    seconds = time.perf_counter() - began
    for path in paths:
        path.unlink()
    return size / 1e6 / seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median with least and most."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "runs": len(values),
    }


def show(document: dict[str, Any], *, as_json: bool) -> None:
    """Print a result document."""
    if as_json:
        print(json.dumps(document, indent=2))
        return
    for name, value in document.items():
        print(f"{name:32} {json.dumps(value) if isinstance(value, dict | list) else value}")
