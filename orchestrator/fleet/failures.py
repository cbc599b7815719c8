"""Why a machine did not do what it was asked, as a typed record that reads as one sentence with its fix.

The kinds are what an operator can do something about, not what a library happens to raise. `failure_of` is the only place that knows the
exceptions of paramiko and the operating system; it looks at them by class name where importing the library would cost every
command 120 ms.
"""

from __future__ import annotations

import errno
import socket

from msgspec import Struct

from orchestrator.errors import EnvironmentFault

UNREACHABLE = "unreachable"
WRONG_KEY = "wrong_key"
HOST_KEY_CHANGED = "host_key_changed"
HOST_KEY_UNKNOWN = "host_key_unknown"
SUDO_REFUSED = "sudo_refused"
TIMEOUT = "timeout"
LOST = "lost"
BROKEN = "broken"
"""The connection or its means failed in a way that none of the other kinds describes."""


class Failure(Struct, frozen=True, kw_only=True):
    """`machine` is the host's name in the inventory; `reason` and `fix` are halves of the sentence."""

    machine: str
    kind: str
    reason: str
    fix: str

    @property
    def sentence(self) -> str:
        """`machine: reason; fix`."""
        return f"{self.machine}: {self.reason}; {self.fix}"


class HostFailed(EnvironmentFault):
    """One machine failed; `failure` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class Way(Struct, frozen=True, kw_only=True):
    """How a machine was approached, for the sentence."""

    machine: str
    address: str
    port: int
    user: str
    keys: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def place(self) -> str:
        """`address port N`."""
        return f"{self.address} port {self.port}"


def failure_of(error: BaseException, way: Way) -> Failure:
    """What `error`, raised while connecting or talking over `way`, means."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "BadHostKeyException" in names:
        return Failure(
            machine=way.machine,
            kind=HOST_KEY_CHANGED,
            reason=f"{way.place} shows another host key than the one in {_first(way.known_hosts)}",
            fix=f"if the machine was installed anew, run `ssh-keygen -R {_known_as(way)} -f {_first(way.known_hosts)}` and"
            " accept its new key with ssh once; if not, somebody stands in between",
        )
    if "UnknownHostKey" in names:
        return Failure(
            machine=way.machine,
            kind=HOST_KEY_UNKNOWN,
            reason=f"the host key of {way.place} is not in {_first(way.known_hosts)}",
            fix=f"compare and accept it once: `ssh -p {way.port} {way.user}@{way.address} true`",
        )
    if "PasswordRequiredException" in names:
        return Failure(
            machine=way.machine,
            kind=WRONG_KEY,
            reason=f"the key {_first(way.keys)} is locked by a passphrase",
            fix="add it to the agent with ssh-add",
        )
    # paramiko reads a key file as every kind of key in turn, and the last kind's complaint hides that the host refused the key.
    if "AuthenticationException" in names or ("SSHException" in names and " key, expected " in str(error)):
        with_keys = f"with key {', '.join(way.keys)}" if way.keys else "with the keys of the agent and of ~/.ssh"
        return Failure(
            machine=way.machine,
            kind=WRONG_KEY,
            reason=f"{way.place} refuses user {way.user} {with_keys}",
            fix=f"set ansible_user and ansible_ssh_private_key_file of {way.machine}, or add the public key to"
            f" ~{way.user}/.ssh/authorized_keys there",
        )
    return _network_failure(error, way, names)


def _network_failure(error: BaseException, way: Way, names: set[str]) -> Failure:
    fix = f"check that {way.machine} is up and that ansible_host and ansible_port are right"
    if isinstance(error, TimeoutError) or "CommandTimedOut" in names:
        return Failure(
            machine=way.machine, kind=UNREACHABLE, reason=f"{way.place} gave no answer in {way.seconds:g} s", fix=fix
        )
    if isinstance(error, socket.gaierror):
        reason = f"the name {way.address!r} is not known ({error.strerror})"
        return Failure(
            machine=way.machine, kind=UNREACHABLE, reason=reason, fix=f"correct ansible_host of {way.machine}"
        )
    if "NoValidConnectionsError" in names:
        causes = list(getattr(error, "errors", {}).values())
        if causes:
            return _network_failure(causes[0], way, {kind.__name__ for kind in type(causes[0]).__mro__})
    if isinstance(error, ConnectionRefusedError):
        reason = f"{way.place} refuses connections"
        return Failure(machine=way.machine, kind=UNREACHABLE, reason=reason, fix=f"start sshd there, or {fix}")
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        reason = f"there is no route to {way.place}"
        return Failure(machine=way.machine, kind=UNREACHABLE, reason=reason, fix=fix)
    if isinstance(error, EOFError | ConnectionError) or "SSHException" in names or "ChannelException" in names:
        return Failure(
            machine=way.machine,
            kind=LOST,
            reason=f"the connection to {way.place} broke ({_text(error)})",
            fix="run the command again; if it repeats, look at sshd's log and the jump host",
        )
    return Failure(machine=way.machine, kind=BROKEN, reason=f"no connection to {way.place} ({_text(error)})", fix=fix)


def timed_out(machine: str, command: str, seconds: float) -> Failure:
    """The machine is there, and the command took too long."""
    return Failure(
        machine=machine,
        kind=TIMEOUT,
        reason=f"`{_short(command)}` was not done in {seconds:g} s",
        fix="look at the machine's load and disk, then run the command again",
    )


def too_long(machine: str, command: str, most_bytes: int) -> Failure:
    """The machine answers more than is read of any answer."""
    return Failure(
        machine=machine,
        kind=BROKEN,
        reason=f"`{_short(command)}` wrote more than {most_bytes >> 20} MiB",
        fix="have it write less, or look at what is in the way there",
    )


def sudo_failure(machine: str, user: str, said: str) -> Failure | None:
    """What sudo's words on stderr mean; None when they are no refusal."""
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "").strip()
    fix = (
        f"let {user} run sudo there without a password (a NOPASSWD line in /etc/sudoers.d), or put ansible_become_password"
        " into the inventory's vault"
    )
    signs = (
        "a password is required",
        "incorrect password attempt",
        "no password was provided",
        "a terminal is required",
        "is not in the sudoers file",
        "is not allowed to",
        "may not run sudo",
        "you must have a tty",
    )
    if any(sign in said for sign in signs):
        return Failure(machine=machine, kind=SUDO_REFUSED, reason=f"sudo refuses user {user} ({_short(last)})", fix=fix)
    if "sudo: not found" in said or "sudo: command not found" in said or "sudo: No such file" in said:
        return Failure(
            machine=machine,
            kind=SUDO_REFUSED,
            reason="sudo is not installed",
            fix="install it there, or connect as root (ansible_user: root)",
        )
    return None


def _first(names: tuple[str, ...]) -> str:
    return names[0] if names else "~/.ssh/known_hosts"


def _known_as(way: Way) -> str:
    return way.address if way.port == 22 else f"'[{way.address}]:{way.port}'"


def _text(error: BaseException) -> str:
    return _short(" ".join(str(error).split()) or type(error).__name__)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
