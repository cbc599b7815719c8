"""A node without a testnet: it writes ready.json, and obeys files in its home that ask it to misbehave."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.runtimes.identity import lock_holder, send_signal
from orchestrator.runtimes.process import ProcessRuntime

TRIVIAL_NODE = """
import json, os, random, signal, sys, threading, time
from pathlib import Path

def preload():
    if os.environ.get("TRIVIAL_THREAD"):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

def run_node(home):
    home = Path(home)
    print("starting", home.name, flush=True)
    if (home / "config.json").read_text() == "crash":
        sys.exit(9)
    if (home / "config.json").read_text() == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fds = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
    ready = {"pid": os.getpid(), "session": os.getsid(0), "descriptors": fds, "random": random.random(),
             "config": (home / "config.json").read_text(), "umask": os.umask(0o077)}
    temporary = home / ".ready"
    temporary.write_text(json.dumps(ready))
    temporary.replace(home / "ready.json")
    while True:
        signal.pause()

if __name__ == "__main__":
    preload()
    run_node(sys.argv[sys.argv.index("--home") + 1])
"""


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable trivial node module."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "trivial_node.py").write_text(TRIVIAL_NODE)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    return "trivial_node"


@pytest.fixture
def runtime(tmp_path: Path, entry: str) -> Iterator[ProcessRuntime]:
    """A runtime over an empty folder; whatever it left running is ended."""
    folder = tmp_path / "net"
    folder.mkdir()
    runtime = ProcessRuntime(folder, code="one", entry=entry)
    yield runtime
    runtime.close()
    ProcessRuntime(folder, code="one", entry=entry).finish()


def eventually(condition: object, *, seconds: float = 120.0) -> None:
    """Wait until `condition()` is true; fail at the deadline."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def kill_parent(runtime: ProcessRuntime) -> int:
    """SIGKILL the fork parent; its pid."""
    parent = lock_holder(runtime.own / "lock")
    assert parent is not None
    send_signal(parent, signal.SIGKILL)
    eventually(lambda: lock_holder(runtime.own / "lock") is None)
    return parent.pid


def processes_under(folder: Path) -> list[int]:
    """Pids of live processes whose output goes to a file under `folder`: nodes and parents."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            target = str((entry / "fd" / "1").readlink())
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(int(entry.name))
    return found
