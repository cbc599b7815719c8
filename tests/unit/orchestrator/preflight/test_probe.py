"""The probe on this machine: it measures, it holds ports for whoever has the token, and it leaves nothing behind."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.fleet.failures import HostFailed
from orchestrator.preflight import probe
from orchestrator.preflight.bandwidth import Pace, Place, measure
from orchestrator.preflight.clock import Sample, estimate
from orchestrator.preflight.measurements import read_measured
from orchestrator.preflight.run import HERE, preflight
from orchestrator.preflight.session import ProbeRefused, ProbeSession
from orchestrator.topology.topology import read_topology

TOKEN = "a" * 32


@pytest.fixture
def session() -> Iterator[ProbeSession]:
    running = ProbeSession(HERE)
    running.start(become=False)
    yield running
    running.close()


def test_the_probe_needs_nothing_but_an_old_python() -> None:
    """Its syntax is Python 3.9's and it imports the standard library only."""
    text = Path(probe.__file__).read_text()
    tree = ast.parse(text, feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_it_measures_this_machine(session: ProbeSession, tmp_path: Path) -> None:
    """Every number is there, plausible, and the disk is as it was."""
    found = read_measured(session.ask("measure", folder=str(tmp_path / "not" / "there"), quick=True))
    assert found.problems == ()
    assert 0 < found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 100 << 20
    assert found.disk_folder == str(tmp_path)
    assert found.disk_bytes >= found.disk_free_bytes > 0
    assert found.write_mb_s > 0 and found.sync_ms > 0
    assert 0.3 < found.ghz_measured < 8 or found.ghz_measured == 0
    assert "127.0.0.1" in found.addresses
    assert list(tmp_path.iterdir()) == []


def test_its_clock_is_ours(session: ProbeSession) -> None:
    """On one machine the offset is none within the error; a clock 10 s off is seen as that, from real round trips."""
    samples = session.sample_clock(10)
    clock = estimate(samples)
    assert clock is not None
    assert abs(clock.offset_seconds) <= clock.error_seconds + 0.001
    off = estimate([Sample(one.sent, one.there - 10, one.received) for one in samples])
    assert off is not None
    assert off.offset_seconds == pytest.approx(-10, abs=0.1)


def test_ports_are_held_for_the_token_and_given_back(session: ProbeSession) -> None:
    """A held port says hello to the token only, a taken one names its owner, and the end frees them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        answer = session.ask("hold", token=TOKEN, ports=[0, busy])
        (port,) = answer["bound"]
        assert f"(pid {os.getpid()})" in answer["taken"][str(busy)]
    assert probe.knock("127.0.0.1", port, TOKEN)["hello"].endswith("127.0.0.1")
    with pytest.raises((ValueError, OSError)):
        probe.knock("127.0.0.1", port, "b" * 32)
    session.close()
    with pytest.raises(ConnectionRefusedError):
        probe.knock("127.0.0.1", port, TOKEN)


def test_bandwidth_is_counted_by_the_receiver_and_bounded(session: ProbeSession) -> None:
    """Both directions move no more than asked for, and the session itself is a way too."""
    (port,) = session.ask("hold", token=TOKEN, ports=[0])["bound"]
    up, down, why = measure(session, Place(address="127.0.0.1", port=port, token=TOKEN), Pace(up_mbit=1, down_mbit=1))
    assert up is not None and down is not None
    assert up.mbit > 1 and down.mbit > 1
    assert why == ""
    moved = probe.transfer("127.0.0.1", port, TOKEN, to_holder=False, size=1_000_000, seconds=1)
    assert 900_000 < moved["bytes"] <= 1_000_000 + probe.CHUNK
    assert session.push(3_000_000, timeout=20)["bytes"] == 3_000_000
    assert session.pull(3_000_000, timeout=20) > 0
    assert "time_ns" in session.ask("clock")


def test_a_request_it_does_not_know_is_answered_with_the_reason(session: ProbeSession) -> None:
    """A refusal is an error of its own, and the session goes on."""
    with pytest.raises(ProbeRefused, match="unknown request"):
        session.ask("format-disk")
    with pytest.raises(ProbeRefused):
        session.ask("knock", host="127.0.0.1", port=1, token=TOKEN)
    assert "time_ns" in session.ask("clock")


def test_killed_while_it_writes_it_leaves_no_file(tmp_path: Path) -> None:
    """The test file has no name, so SIGKILL cleans up as well."""
    command, first = probe.loader(Path(probe.__file__).read_bytes())
    with subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        child.stdin.write(first + b'{"op": "measure", "folder": "%s"}\n' % str(tmp_path).encode())
        child.stdin.flush()
        links = Path(f"/proc/{child.pid}/fd")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if any(str(tmp_path) in name for name in _opened(links)):
                break
        else:
            pytest.fail("the probe never wrote")
        child.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def _opened(folder: Path) -> list[str]:
    """What a process has open, as far as it stays open while we look."""
    found = []
    for number in range(3, 20):
        try:
            found.append(str((folder / str(number)).readlink()))
        except OSError:
            continue
    return found


def test_a_machine_without_python_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's complaint becomes a sentence with the fix."""
    monkeypatch.setattr(probe, "loader", lambda text: ("echo gone >&2; exit 127", b""))
    with pytest.raises(HostFailed, match=r"localhost: the probe ended early \(gone\); "):
        ProbeSession(HERE).start(become=False)
    monkeypatch.setattr(probe, "loader", lambda text: ("echo 'sh: 1: exec: python3: not found' >&2", b""))
    with pytest.raises(HostFailed, match="there is no python3; install python3 there"):
        ProbeSession(HERE).start(become=False)


def test_sudo_that_refuses_is_a_line_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the probe runs as the login user, and the refusal is kept for the judge."""
    monkeypatch.setattr(
        "orchestrator.preflight.session.as_root",
        lambda command, password: "echo 'sudo: a password is required' >&2; exit 1",
    )
    refused = ProbeSession(HERE)
    refused.start(become=True)
    assert "time_ns" in refused.ask("clock")
    assert "NOPASSWD" in refused.sudo_problem
    refused.close()


def test_a_whole_preflight_covers_every_machine(tmp_path: Path) -> None:
    """A local machine is judged line by line; one that nobody answers for is a failed line, and nothing waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    inventory = tmp_path / "net.yml"
    inventory.write_text(f"""
all:
  vars: {{stratos_runtime: machines, stratos_hardware_factor: 0.001, stratos_copies: 1, ansible_become: false}}
  children:
    validators: {{hosts: {{v1: {{ansible_connection: local, ansible_host: 127.0.0.1}}}}}}
    meta: {{hosts: {{m1: {{ansible_connection: local, ansible_host: 127.0.0.1}}}}}}
    resource: {{hosts: {{r1: {{ansible_host: 127.0.0.2, ansible_port: {port}, ansible_user: nobody}}}}}}
""")
    said: list[str] = []
    report = preflight(read_topology(inventory), say=said.append, quick=True, folder=str(tmp_path))
    here, there = report.machines
    assert (here.host, here.nodes, there.host) == ("v1", ("v1", "m1"), "r1")
    lines = {line.check: line for line in here.lines}
    assert {lines[check].verdict for check in ("cores", "memory", "disk", "clock", "bandwidth up")} == {"pass"}
    assert "port 26656" in lines
    assert [line.check for line in there.lines] == ["connection"]
    assert there.verdict == report.verdict == "fail"
    assert report.failures()[there.name].startswith("r1: connection: unreachable: 127.0.0.2 port ")
    assert any(sentence.startswith("r1: ") for sentence in said)
