"""Connections to machines: the inventory's way is gone, keys are checked, and each failure is one sentence with its fix."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.fleet import connections, failures, sudo_passwords
from orchestrator.fleet.connections import Result, close_all, connect, run, run_all
from orchestrator.fleet.failures import Failure, HostFailed, sudo_failure
from orchestrator.fleet.ssh_options import Jump, parse_jump, parse_ssh_options
from orchestrator.fleet.sudo_passwords import use_inventory


class Target(Struct, frozen=True, kw_only=True):
    """A machine as the connection layer sees one."""

    name: str = "box"
    address: str = "127.0.0.1"
    connection: str = "ssh"
    user: str = "admin"
    port: int = 0
    key_file: str = ""
    ssh_args: str = ""
    become: bool = True


class SmallServer(paramiko.ServerInterface):
    """An SSH server that lets one key in and runs commands in a shell of this machine."""

    def __init__(self, key: paramiko.PKey) -> None:
        self._key = key

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if key == self._key else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._serve, args=(channel, command.decode()), daemon=True).start()
        return True

    def _serve(self, channel: paramiko.Channel, command: str) -> None:
        with subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            given = bytearray()
            while chunk := channel.recv(65_536):
                given.extend(chunk)
            out, err = child.communicate(bytes(given))
            try:
                channel.sendall_stderr(err)
                channel.sendall(out)
                channel.send_exit_status(child.returncode)
                channel.close()
            except OSError:
                pass  # the client has left


class Lab:
    """The server's address, its keys and the files a client needs."""

    def __init__(self, folder: Path) -> None:
        self.host_key = paramiko.ECDSAKey.generate()
        self.user_key = paramiko.ECDSAKey.generate()
        self.key_file = folder / "id"
        self.user_key.write_private_key_file(str(self.key_file))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.known = folder / "known_hosts"
        self.knows(self.host_key)
        self.connections = 0
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def knows(self, key: paramiko.PKey) -> None:
        self.known.write_text(f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n")

    def target(self, **changes: object) -> Target:
        usual: dict[str, object] = {
            "port": self.port,
            "key_file": str(self.key_file),
            "ssh_args": f"-o UserKnownHostsFile={self.known} -o IdentitiesOnly=yes -o ControlPersist=60s",
        }
        return Target(**{**usual, **changes})  # type: ignore[arg-type]

    def close(self) -> None:
        self.listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection."""
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            transport = paramiko.Transport(peer)
            self._transports.append(transport)
            transport.add_server_key(self.host_key)
            try:
                transport.start_server(server=SmallServer(self.user_key))
            except (paramiko.SSHException, EOFError):
                continue


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HOME", str(tmp_path))
    server = Lab(tmp_path)
    yield server
    close_all()
    server.close()


def test_a_machine_cannot_fill_our_memory(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine writes is read up to a limit, and then it has failed; what it complains of is cut off."""
    monkeypatch.setattr(connections, "LONGEST_ANSWER_BYTES", 1 << 20)
    with pytest.raises(HostFailed, match=r"box: `head .*` wrote more than 1 MiB"):
        run(lab.target(), "head -c 3000000 /dev/zero", timeout=10)
    loud = run(lab.target(), "head -c 3000000 /dev/zero >&2; echo done", timeout=10)
    assert (loud.text, len(loud.stderr)) == ("done", 1 << 20)


def test_bytes_go_in_and_come_out_and_one_connection_serves_all(lab: Lab) -> None:
    """stdin and stdout are bytes, a non-zero exit code is a result, and a second command uses the open connection."""
    payload = bytes(range(256)) * 1_000
    assert run(lab.target(), "cat", timeout=20, stdin=payload).stdout == payload
    done = run(lab.target(), "echo no >&2; exit 3", timeout=20)
    assert (done.code, done.said) == (3, "no")
    assert lab.connections == 1
    assert connect(lab.target()).is_connected


def test_many_at_once_share_one_connection_and_a_dead_one_is_replaced(lab: Lab) -> None:
    """Threads wait for the login of the first; a connection that broke meanwhile costs one more login and no failure."""
    target = lab.target()
    threads = [threading.Thread(target=run, args=(target, "sleep 0.05"), kwargs={"timeout": 60}) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lab.connections == 1
    lab.cut()
    assert run(target, "echo back", timeout=20).text == "back"
    assert lab.connections == 2


def test_a_proxy_command_is_the_way_and_ends_with_it(lab: Lab, tmp_path: Path) -> None:
    """Bytes go through the program the inventory names, and closing leaves no process of it."""
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    known = tmp_path / "known_hosts"
    arguments = f"-o UserKnownHostsFile={known} -o 'ProxyCommand={sys.executable} {relay} %h {lab.port}'"
    target = lab.target(ssh_args=arguments)
    assert run(target, "echo through", timeout=30).text == "through"
    process = connect(target).transport.sock.process
    close_all()
    assert process.returncode is not None


def test_another_host_key_is_refused_and_says_how_to_accept_it(lab: Lab) -> None:
    """A changed key and an unknown one are two failures, and neither machine is talked to."""
    lab.knows(paramiko.ECDSAKey.generate())
    with pytest.raises(HostFailed) as caught:
        run(lab.target(), "true", timeout=20)
    assert caught.value.failure.kind == failures.HOST_KEY_CHANGED
    assert f"ssh-keygen -R '[127.0.0.1]:{lab.port}'" in str(caught.value)
    lab.known.write_text("")
    with pytest.raises(HostFailed) as caught:
        run(lab.target(), "true", timeout=20)
    assert caught.value.failure.kind == failures.HOST_KEY_UNKNOWN


def test_accept_new_is_honoured_once_and_then_strict(lab: Lab) -> None:
    """With StrictHostKeyChecking=accept-new an unknown key is noted in the known-hosts file, and then holds."""
    lab.known.write_text("")
    lenient = lab.target(ssh_args=f"-oUserKnownHostsFile={lab.known} -o StrictHostKeyChecking=accept-new")
    assert run(lenient, "echo in", timeout=20).text == "in"
    close_all()
    assert run(lab.target(), "echo in", timeout=20).text == "in"


def test_a_wrong_key_names_user_key_and_fix(lab: Lab, tmp_path: Path) -> None:
    """A key the host does not let in, and one that is not there, are the key's fault."""
    paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "other"))
    for name, words in (
        ("other", "refuses user admin with key"),
        ("missing", "there is no key"),
        ("known_hosts", "is no private key"),
    ):
        with pytest.raises(HostFailed, match=words) as caught:
            run(lab.target(key_file=str(tmp_path / name)), "true", timeout=20)
        assert caught.value.failure.kind == failures.WRONG_KEY
        assert "ansible_ssh_private_key_file" in str(caught.value)


def test_a_closed_port_and_a_silent_host_are_unreachable(lab: Lab) -> None:
    """Refused and silent differ in words, and a silent host takes the connection's time and no more."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        began = time.monotonic()
        quiet = lab.target(port=port, ssh_args=lab.target().ssh_args + " -o ConnectTimeout=1")
        with pytest.raises(HostFailed) as caught:
            run(quiet, "true", timeout=20)
        assert time.monotonic() - began < 10
        assert caught.value.failure.kind in (failures.UNREACHABLE, failures.LOST)
    with pytest.raises(HostFailed, match="refuses connections; start sshd there") as caught:
        run(lab.target(port=port), "true", timeout=20)
    assert caught.value.failure.kind == failures.UNREACHABLE
    with pytest.raises(HostFailed, match="is not known"):
        run(lab.target(address="no-such-host.invalid"), "true", timeout=20)


def test_one_late_host_hangs_nobody(lab: Lab) -> None:
    """The others' results arrive, the late one is a failure with its time, and each failure is said once."""
    said: list[str] = []
    quick, local = lab.target(name="quick"), Target(name="here", connection="local")
    slow = lab.target(name="slow", ssh_args=lab.target().ssh_args + " -o Compression=no")
    found = run_all([quick, local], "echo ok", timeout=20, say=said.append)
    assert {name: one.text for name, one in found.items() if isinstance(one, Result)} == {"quick": "ok", "here": "ok"}
    late = run_all([slow], "sleep 20", timeout=0.5, say=said.append)["slow"]
    assert isinstance(late, Failure)
    assert late.kind == failures.TIMEOUT
    assert said == [late.sentence]
    assert late.sentence.startswith("slow: `sleep 20` was not done in 0.5 s; ")


RELAY = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def there():
    while data := os.read(0, 65536):
        peer.sendall(data)
threading.Thread(target=there, daemon=True).start()
while data := peer.recv(65536):
    os.write(1, data)
"""
FAKE_SUDO = """#!/bin/sh
case "$1" in
-n) echo 'sudo: a password is required' >&2; exit 1 ;;
-k) IFS= read -r given; [ "$given" = "pass word" ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
    shift 4; [ "$1" = -- ] && shift; exec "$@" ;;
esac
"""


def test_a_password_for_sudo_comes_from_the_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read only when sudo asks, goes in on stdin before the command's own, and a wrong one is a refusal."""
    for name, text in (("sudo", FAKE_SUDO), ("id", "#!/bin/sh\necho 1000\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    inventory = tmp_path / "net.yml"
    inventory.write_text(
        "all: {hosts: {box: {ansible_become_password: 'pass word'}, other: {ansible_become_password: wrong}}}"
    )
    box, other = Target(connection="local"), Target(connection="local", name="other")
    with pytest.raises(HostFailed, match="put ansible_become_password into the inventory's vault"):
        run(box, "cat", timeout=20, sudo=True)
    use_inventory(str(inventory))
    assert run(box, "cat", timeout=20, sudo=True, stdin=b"mine").stdout == b"mine"
    with pytest.raises(HostFailed, match="incorrect password") as caught:
        run(other, "cat", timeout=20, sudo=True)
    assert caught.value.failure.kind == failures.SUDO_REFUSED
    monkeypatch.setattr(sudo_passwords, "_inventory", None)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("sudo: a password is required", failures.SUDO_REFUSED),
        ("admin is not in the sudoers file.", failures.SUDO_REFUSED),
        ("sh: 1: sudo: not found", failures.SUDO_REFUSED),
        ("cat: /x: Permission denied", None),
    ],
)
def test_a_refusal_of_sudo_is_told_from_a_command_that_failed(said: str, kind: str | None) -> None:
    """Only sudo's own words make it sudo's failure."""
    found = sudo_failure("box", "admin", said)
    assert (found.kind if found else None) == kind
    assert found is None or "box: sudo " in found.sentence


def test_options_of_ssh_are_read_as_ssh_reads_them() -> None:
    """All spellings of an option mean the same, the first said counts, and what does not decide the way is skipped."""
    options = parse_ssh_options(
        "-C -o ControlMaster=auto -oUserKnownHostsFile=/k -o 'StrictHostKeyChecking no' -J a@b:2222,c -p 24 -p 25 -i ~/k1"
        " -o IdentityFile=k2 -l root -o IdentitiesOnly=yes -F cfg -o ConnectTimeout=7 -o StrictHostKeyChecking=yes",
        host="box",
    )
    assert options.jumps == ("a@b:2222", "c")
    assert (options.known_hosts, options.strict, options.port, options.user) == (("/k",), "no", 24, "root")
    assert (options.identities, options.identities_only, options.config_file) == (("~/k1", "k2"), True, "cfg")
    assert options.connect_seconds == 7
    assert parse_ssh_options('-o ProxyCommand="ssh -W %h:%p hop"', host="box").proxy_command == "ssh -W %h:%p hop"
    assert parse_jump("a@b:2222", host="box") == Jump(host="b", user="a", port=2222)
    assert parse_jump("ssh://a@[fe80::1]:22", host="box") == Jump(host="fe80::1", user="a", port=22)


@pytest.mark.parametrize("text", ["-o 'Never closed", "-p", "-p many", "-o ConnectTimeout=soon"])
def test_options_that_make_no_sense_name_their_host(text: str) -> None:
    """A broken option is bad input, not a traceback."""
    with pytest.raises(BadInput, match="ssh arguments of box"):
        parse_ssh_options(text, host="box")
