"""A conversation with the probe on one machine: started over SSH or here, one request and one answer at a time.

The probe's text travels on stdin, so nothing is installed and nothing stays; when the connection or this process ends, the probe ends. It runs as root
where sudo lets us, because only root sees who holds a port and may write where nodes will; where sudo refuses, that is noted and
the probe runs as the login user, so that everything else is still measured.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from orchestrator.errors import EnvironmentFault
from orchestrator.fleet.connections import as_root, connect
from orchestrator.fleet.failures import BROKEN, LOST, SUDO_REFUSED, Failure, HostFailed, sudo_failure, timed_out
from orchestrator.fleet.ssh_route import SshTarget, label
from orchestrator.fleet.sudo_passwords import password_of
from orchestrator.preflight import probe
from orchestrator.preflight.clock import Sample

START_SECONDS = 20.0
ANSWER_SECONDS = 30.0
ANSWER_BYTES = 1 << 20
_BLOCK = 1 << 16


class ProbeRefused(EnvironmentFault):
    """The probe was asked something it could not do; the text is its reason."""


class _Pipe(Protocol):
    """What a socket and an SSH channel have in common."""

    def settimeout(self, timeout: float, /) -> None: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class ProbeSession:
    """One probe on one machine. Thread-safe: requests of several threads are asked in turn."""

    def __init__(self, machine: SshTarget) -> None:
        self.machine = machine
        self.sudo_problem = ""
        self._lock = threading.Lock()
        self._rest = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: _Pipe | None = None

    def start(self, *, become: bool) -> None:
        """Run the probe; raises HostFailed when the machine cannot be reached or has no Python."""
        if become:
            try:
                self._launch(root=True)
                return
            except HostFailed as error:
                self.close()
                if error.failure.kind != SUDO_REFUSED:
                    raise
                if self._launched_with_password():
                    return
                self.sudo_problem = f"{error.failure.reason}; {error.failure.fix}"
        try:
            self._launch(root=False)
        except HostFailed:
            self.close()
            raise

    def close(self) -> None:
        """End the probe."""
        pipe, process = self._pipe, self._process
        self._pipe = self._process = None
        if pipe is not None:
            try:
                pipe.close()
            except Exception:  # noqa: BLE001, S110 - a connection that is gone already is closed
                pass
        if process is not None:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()

    def ask(self, op: str, *, timeout: float = ANSWER_SECONDS, **fields: object) -> dict[str, Any]:
        """One request and its answer; raises HostFailed, and ProbeRefused with the probe's own reason."""
        with self._lock:
            self._send(op, fields, timeout)
            return self._answer(timeout)

    def sample_clock(self, count: int) -> list[Sample]:
        """Round trips for the estimate of the machine's clock."""
        samples = []
        for _ in range(count):
            sent = time.time()
            answer = self.ask("clock", timeout=10)
            received = time.time()
            samples.append(Sample(sent, int(answer["time_ns"]) / 1e9, received))
        return samples

    def push(self, size: int, *, timeout: float) -> dict[str, Any]:
        """Send `size` bytes through the session itself; what the machine counted."""
        block = bytes(_BLOCK)
        with self._lock:
            self._send("sink", {"bytes": size}, timeout)
            assert self._pipe is not None
            left = size
            try:
                while left > 0:
                    self._pipe.sendall(block[: min(left, _BLOCK)])
                    left -= _BLOCK
            except OSError as error:
                raise self._lost(error, timeout) from error
            return self._answer(timeout)

    def pull(self, size: int, *, timeout: float) -> float:
        """Fetch `size` bytes through the session itself; the seconds it took."""
        with self._lock:
            self._send("source", {"bytes": size}, timeout)
            left, began = size, 0.0
            while left > 0:
                chunk = self._receive(timeout)
                began = began or time.monotonic()
                left -= len(chunk)
                if left < 0:
                    self._rest = chunk[left:]
            seconds = time.monotonic() - began
            self._answer(timeout)
            return max(seconds, 1e-6)

    def _launched_with_password(self) -> bool:
        password = password_of(label(self.machine))
        if not password:
            return False
        try:
            self._launch(root=True, password=password)
        except HostFailed as error:
            self.close()
            if error.failure.kind != SUDO_REFUSED:
                raise
            return False
        return True

    def _launch(self, *, root: bool, password: str = "") -> None:
        command, first = probe.loader(Path(probe.__file__).read_bytes())
        if root:
            command = as_root(command, password=bool(password))
        if password:
            first = password.encode() + b"\n" + first
        if self.machine.connection == "local":
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", command], stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
                )
            self._pipe = ours
        else:
            transport = connect(self.machine).transport
            assert transport is not None
            channel = transport.open_session(timeout=START_SECONDS)
            channel.exec_command(command)
            self._pipe = channel
        self._rest = b""
        self._pipe.settimeout(START_SECONDS)
        try:
            self._pipe.sendall(first)
        except OSError:
            pass  # it ended at once, and says why below
        self.ask("clock", timeout=START_SECONDS)

    def _send(self, op: str, fields: dict[str, object], timeout: float) -> None:
        assert self._pipe is not None
        self._pipe.settimeout(timeout)
        try:
            self._pipe.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        except OSError as error:
            raise self._lost(error, timeout) from error

    def _answer(self, timeout: float) -> dict[str, Any]:
        data, self._rest = self._rest, b""
        while b"\n" not in data:
            if len(data) > ANSWER_BYTES:
                raise self._broken("its probe answers without end")
            data += self._receive(timeout)
        line, _, self._rest = data.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError as error:
            text = line[:60].decode(errors="replace")
            raise self._broken(f"its shell says {text!r} before the probe does") from error
        if not isinstance(answer, dict):
            raise self._broken("its probe answers with no object")
        if "error" in answer:
            raise ProbeRefused(str(answer["error"])[:200])
        return answer

    def _receive(self, timeout: float) -> bytes:
        assert self._pipe is not None
        if self._rest:
            chunk, self._rest = self._rest, b""
            return chunk
        self._pipe.settimeout(timeout)
        try:
            chunk = self._pipe.recv(_BLOCK)
        except OSError as error:
            raise self._lost(error, timeout) from error
        if not chunk:
            raise self._lost(EOFError(), timeout)
        return chunk

    def _lost(self, error: Exception, timeout: float) -> HostFailed:
        """Why the probe is silent: the machine, sudo, a Python that is not there, or time."""
        name = label(self.machine)
        if isinstance(error, TimeoutError):
            return HostFailed(timed_out(name, "the probe", timeout))
        said = self._stderr()
        refused = sudo_failure(name, self.machine.user or "the login user", said)
        if refused is not None:
            return HostFailed(refused)
        if "python3: not found" in said or "python3: command not found" in said:
            return self._broken("there is no python3", "install python3 there")
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        failure = Failure(
            machine=name,
            kind=LOST,
            reason=f"the probe ended early{f' ({last.strip()[:100]})' if last else ''}",
            fix="run preflight again; if it repeats, run `python3 --version` there",
        )
        return HostFailed(failure)

    def _broken(self, reason: str, fix: str = "make its login shell silent and python3 work") -> HostFailed:
        return HostFailed(Failure(machine=label(self.machine), kind=BROKEN, reason=reason, fix=fix))

    def _stderr(self) -> str:
        if self._process is not None:
            try:
                return self._process.communicate(timeout=5)[1].decode(errors="replace")
            except subprocess.TimeoutExpired:
                return ""
        heard = bytearray()
        channel: Any = self._pipe
        try:
            channel.settimeout(5)
            while len(heard) < ANSWER_BYTES and (chunk := channel.recv_stderr(_BLOCK)):
                heard += chunk
        except OSError:
            pass  # what was said so far has to do
        return heard.decode(errors="replace")
