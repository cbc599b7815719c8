"""Connections to machines for day-two commands: one per machine, kept for the process, many used at once.

`connect` gives a fabric connection that goes the way the inventory says (user, port, key, jump host, known hosts). Host keys are checked
strictly unless the inventory's ssh arguments say otherwise. Commands run through `run` and `run_all` rather than through fabric's own `run`, because that
feeds stdin a character at a time and mixes text with bytes; here stdin and stdout are bytes and a deadline ends the wait whatever the
other side does. A machine of connection `local` is this machine and needs no SSH. `run_all` never waits for a late host longer than its time: the
thread that hangs is left behind and the host is reported.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from orchestrator.errors import StratosctlError
from orchestrator.fleet.failures import (
    BROKEN,
    Failure,
    HostFailed,
    Way,
    failure_of,
    sudo_failure,
    timed_out,
    too_long,
)
from orchestrator.fleet.ssh_route import SshTarget, label, prepare
from orchestrator.fleet.sudo_passwords import password_of

if TYPE_CHECKING:
    import fabric
    import paramiko

T = TypeVar("T")
CONNECT_SECONDS = 10.0
AT_ONCE = 32
GRACE_SECONDS = 2.0
CLOSE_SECONDS = 5.0
SESSIONS = 8
SESSION_SECONDS = 10.0
LONGEST_ANSWER_BYTES = 80 * 1024 * 1024
"""What a command may write on either output: the longest log that is asked for, and more. A machine is not trusted with our memory."""
_CHUNK = 1 << 16


class _TooLong(Exception):
    """The machine writes more than anybody asked for."""


class Result(Struct, frozen=True, kw_only=True):
    """A command that ran to its end; `code` is its exit code."""

    machine: str
    command: str
    code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """stdout as text without the last line's end."""
        return self.stdout.decode(errors="replace").rstrip("\n")

    @property
    def said(self) -> str:
        """stderr as text."""
        return self.stderr.decode(errors="replace").strip()


class _Kept:
    """What is kept for one way to a machine. Servers allow ten sessions on a connection (MaxSessions); we use fewer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sessions = threading.BoundedSemaphore(SESSIONS)
        self.connection: fabric.Connection | None = None


_kept: dict[tuple[object, ...], _Kept] = {}
_kept_lock = threading.Lock()


def _keeping(machine: SshTarget) -> _Kept:
    key = (machine.address, machine.user, machine.port, machine.key_file, machine.ssh_args)
    with _kept_lock:
        return _kept.setdefault(key, _Kept())


def connect(machine: SshTarget, *, timeout: float = CONNECT_SECONDS) -> fabric.Connection:
    """An open connection to a machine, the same one each time; raises HostFailed."""
    kept = _keeping(machine)
    with kept.lock:  # whoever comes meanwhile waits for this one, rather than logging in beside it
        if kept.connection is None or not kept.connection.is_connected:
            kept.connection = _connected(machine, timeout)
        return kept.connection


def _connected(machine: SshTarget, timeout: float) -> fabric.Connection:
    connection, way = prepare(machine, timeout)
    try:
        connection.open()
        assert connection.transport is not None
        connection.transport.set_keepalive(15)
    except Exception as error:
        _close_quietly(connection)
        raise HostFailed(failure_of(error, way)) from error
    return connection


def give_up(machine: SshTarget, connection: fabric.Connection) -> None:
    """Do not use this connection again: it is broken."""
    kept = _keeping(machine)
    with kept.lock:
        if kept.connection is connection:
            kept.connection = None
    _close_quietly(connection)


def close_all() -> None:
    """Close every connection this process keeps."""
    with _kept_lock:
        ways = list(_kept.values())
        _kept.clear()
    for kept in ways:
        if kept.connection is not None:
            _close_quietly(kept.connection)


def run(machine: SshTarget, command: str, *, timeout: float, sudo: bool = False, stdin: bytes = b"") -> Result:
    """Run a shell command on a machine, as root with `sudo`; raises HostFailed. A non-zero exit code is a result, not a failure."""
    began = time.monotonic()
    wrapped = as_root(command) if sudo else command
    code, out, err = _run_on(machine, command, wrapped, stdin, timeout)
    if sudo and code != 0:
        refused = _refused(machine, err)
        if refused is not None and (password := password_of(label(machine))):
            wrapped, given = as_root(command, password=True), password.encode() + b"\n" + stdin
            code, out, err = _run_on(machine, command, wrapped, given, timeout)
            refused = _refused(machine, err) if code != 0 else None
        if refused is not None:
            raise HostFailed(refused)
    return Result(
        machine=label(machine), command=command, code=code, stdout=out, stderr=err, seconds=time.monotonic() - began
    )


def run_all(
    machines: Iterable[SshTarget],
    command: str,
    *,
    timeout: float,
    say: Callable[[str], None] | None = None,
    sudo: bool = False,
    stdin: bytes = b"",
) -> dict[str, Result | Failure]:
    """`run` on every machine at once; machine name -> what came of it. `say` gets one sentence per failure, when it happens."""

    def one(machine: SshTarget) -> Result:
        return run(machine, command, timeout=timeout, sudo=sudo, stdin=stdin)

    return each(machines, one, timeout=timeout + CONNECT_SECONDS, say=say, what=command)


def each(
    machines: Iterable[SshTarget],
    work: Callable[[SshTarget], T],
    *,
    timeout: float,
    say: Callable[[str], None] | None = None,
    what: str = "the work",
) -> dict[str, T | Failure]:
    """Call `work` for every machine in threads of its own, at most AT_ONCE at a time; a machine over its time is a Failure."""
    waiting = list(machines)
    order = [machine.name for machine in waiting]
    labels = {machine.name: label(machine) for machine in waiting}
    done: queue.SimpleQueue[tuple[str, T | Failure]] = queue.SimpleQueue()
    deadlines: dict[str, float] = {}
    found: dict[str, T | Failure] = {}

    def attempt(machine: SshTarget) -> None:
        done.put((machine.name, _outcome(machine, work)))

    while waiting or deadlines:
        while waiting and len(deadlines) < AT_ONCE:
            machine = waiting.pop(0)
            deadlines[machine.name] = time.monotonic() + timeout + GRACE_SECONDS
            threading.Thread(target=attempt, args=(machine,), name=f"fleet-{machine.name}", daemon=True).start()
        try:
            name, outcome = done.get(timeout=max(0.0, min(deadlines.values()) - time.monotonic()))
        except queue.Empty:
            late = [name for name, deadline in deadlines.items() if deadline <= time.monotonic()]
            arrived: list[tuple[str, T | Failure]] = [(name, timed_out(labels[name], what, timeout)) for name in late]
        else:
            arrived = [(name, outcome)] if name in deadlines else []
        for name, outcome in arrived:
            del deadlines[name]
            found[name] = outcome
            if say is not None and isinstance(outcome, Failure):
                say(outcome.sentence)
    return {name: found[name] for name in order}


def _outcome(machine: SshTarget, work: Callable[[SshTarget], T]) -> T | Failure:
    try:
        return work(machine)
    except HostFailed as error:
        return error.failure
    except StratosctlError as error:
        return Failure(machine=label(machine), kind=BROKEN, reason=str(error), fix="correct it and run again")
    except Exception as error:  # noqa: BLE001 - a thread's failure must reach whoever waits for it
        way = Way(machine=label(machine), address=machine.address, port=machine.port or 22, user=machine.user)
        return failure_of(error, way)


def as_root(command: str, *, password: bool = False) -> str:
    """`command` for a shell, run as root: directly by root, else by sudo; with `password` as the first line of stdin."""
    quoted = shlex.quote(command)
    sudo = (
        "sudo -k -S -p ''" if password else "sudo -n"
    )  # -k: a remembered login would leave the password to the command
    return f'if [ "$(id -u)" = 0 ]; then exec /bin/sh -c {quoted}; else exec {sudo} -- /bin/sh -c {quoted}; fi'


def _refused(machine: SshTarget, said: bytes) -> Failure | None:
    return sudo_failure(label(machine), machine.user or "the login user", said.decode(errors="replace"))


def _run_on(machine: SshTarget, command: str, wrapped: str, stdin: bytes, timeout: float) -> tuple[int, bytes, bytes]:
    way = _run_here if machine.connection == "local" else _run_there
    return way(machine, command, wrapped, stdin, timeout)


def _run_here(machine: SshTarget, command: str, wrapped: str, stdin: bytes, timeout: float) -> tuple[int, bytes, bytes]:
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", wrapped], input=stdin, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise HostFailed(timed_out(label(machine), command, timeout)) from error
    return done.returncode, done.stdout, done.stderr


def _run_there(
    machine: SshTarget, command: str, wrapped: str, stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    deadline = time.monotonic() + timeout
    with _keeping(machine).sessions:
        connection, channel = _session(machine, deadline)
        try:
            channel.exec_command(wrapped)
            out, err = _talk(channel, stdin, deadline)
            if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            return channel.recv_exit_status(), out, err
        except TimeoutError as error:  # others may be using the connection: it stays
            raise HostFailed(timed_out(label(machine), command, timeout)) from error
        except _TooLong as error:
            raise HostFailed(too_long(label(machine), command, LONGEST_ANSWER_BYTES)) from error
        except Exception as error:
            give_up(machine, connection)
            raise HostFailed(failure_of(error, _way(machine, connection, timeout))) from error
        finally:
            try:
                channel.close()
            except (OSError, EOFError):
                pass  # its connection is gone already


def _session(machine: SshTarget, deadline: float) -> tuple[fabric.Connection, paramiko.Channel]:
    """A session on the machine's connection; on a new one when the kept one turns out to be dead. Nothing has run yet."""
    for last in (False, True):
        left = max(1.0, deadline - time.monotonic())
        connection = connect(machine, timeout=min(left, CONNECT_SECONDS))
        try:
            assert connection.transport is not None
            return connection, connection.transport.open_session(timeout=min(left, SESSION_SECONDS))
        except Exception as error:
            give_up(machine, connection)
            if last:
                raise HostFailed(failure_of(error, _way(machine, connection, left))) from error
    raise AssertionError


def _way(machine: SshTarget, connection: fabric.Connection, seconds: float) -> Way:
    return Way(
        machine=label(machine),
        address=connection.host,
        port=int(connection.port),
        user=connection.user,
        seconds=seconds,
    )


def _talk(channel: paramiko.Channel, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Send stdin, read both outputs to their ends; raises TimeoutError at the deadline, _TooLong for too much on stdout."""
    err = bytearray()

    def drain_stderr() -> None:
        try:
            while chunk := channel.recv_stderr(_CHUNK):
                err.extend(chunk[: LONGEST_ANSWER_BYTES - len(err)])
        except (OSError, TimeoutError):
            pass  # the channel was closed at the deadline

    def feed() -> None:
        try:
            if stdin:
                channel.sendall(stdin)
            channel.shutdown_write()
        except OSError:
            pass  # the command ended without reading all of it

    channel.settimeout(max(0.1, deadline - time.monotonic()))
    helpers = [threading.Thread(target=part, daemon=True) for part in (drain_stderr, feed)]
    for helper in helpers:
        helper.start()
    out = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        chunk = channel.recv(_CHUNK)
        if not chunk:
            break
        out.extend(chunk)
        if len(out) > LONGEST_ANSWER_BYTES:
            raise _TooLong
    for helper in helpers:
        helper.join(max(0.0, deadline - time.monotonic()))
    return bytes(out), bytes(err)


def _close_quietly(connection: fabric.Connection) -> None:
    transport = connection.transport or getattr(connection.client, "_transport", None)
    proxy: subprocess.Popen[bytes] | None = getattr(getattr(transport, "sock", None), "process", None)
    try:
        connection.close()
    except Exception:  # noqa: BLE001, S110 - it is being given up
        pass
    if transport is not None and proxy is not None:  # of a ProxyCommand, which paramiko starts and does not wait for
        transport.join(CLOSE_SECONDS)  # its thread signals the process at its end, so that must not be gone before
        proxy.kill()
        for pipe in (proxy.stdin, proxy.stdout, proxy.stderr):
            if pipe is not None:
                pipe.close()
        proxy.wait()
