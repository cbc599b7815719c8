#!/usr/bin/python3
"""What a machine is, measured on the machine: one file, standard library only, Python 3.9 or newer, nothing left behind.

It runs in two ways. Over SSH its text is piped to `python3 -c` and it then answers one JSON request a line on stdin and stdout, until stdin
ends; so the one who asks can time round trips for the clock, and nothing survives a broken connection. As an Ansible module (WANT_JSON) it measures once,
and can leave a holder of the ports behind that ends by itself after a few seconds.

The disk is measured on a file that has no name from the start, so not even SIGKILL leaves it. The speed of the processor is taken from what the
system says and from a chain of dependent additions in machine code, one cycle each, so that a machine that says more than it has is found out.
The bandwidth server needs a token, and bounds time and bytes of each transfer. Every number is what was seen; judging is the controller's.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import hmac
import json
import mmap
import os
import platform
import re
import secrets
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

VERSION = 1
MAX_SECONDS = 3.0
MAX_BYTES = 1 << 30
LIFE_SECONDS = 180
CHUNK = 1 << 18
WRITE_BYTES = 256 << 20
WRITE_BYTES_QUICK = 32 << 20
WRITE_CHUNK = 16 << 20
WRITE_SECONDS = 3.0
SYNCS = 40
SYNC_SECONDS = 1.0
LINE_BYTES = 1 << 16


# --- processor and memory


def cores() -> dict[str, Any]:
    """Processors this process may use: the smaller of affinity and cgroup quota."""
    online = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    quota = _cpu_quota()
    usable = min(float(allowed), quota) if quota else float(allowed)
    return {"cores": round(usable, 2), "cores_online": online, "cores_quota": round(quota, 2)}


def _cgroup_folders() -> list[Path]:
    """Folders of this process's cgroup and of its parents, both versions."""
    root = Path("/sys/fs/cgroup")
    found: list[Path] = []
    for line in _text("/proc/self/cgroup").splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        for base in (
            (root,) if not controllers else (root / controllers, *(root / name for name in controllers.split(",")))
        ):
            place = base / path.lstrip("/")
            found += [place, *(parent for parent in place.parents if root in parent.parents or parent == root)]
    return list(dict.fromkeys(found))


def _cpu_quota() -> float:
    """The narrowest CPU quota above this process, in processors; 0 when there is none."""
    quotas = []
    for folder in _cgroup_folders():
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=0.0)


def memory() -> dict[str, Any]:
    """Memory of the machine, or of the narrowest cgroup around this process."""
    match = re.search(r"MemTotal:\s+(\d+) kB", _text("/proc/meminfo"))
    total = int(match[1]) * 1024 if match else 0
    limits = [total]
    for folder in _cgroup_folders():
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name).strip()
            if text.isdigit() and 0 < int(text) < total:
                limits.append(int(text))
    return {"memory_bytes": min(limits), "memory_machine_bytes": total}


def clock_speed() -> dict[str, Any]:
    """Base clock as the system says it, and as a loop of known cycles shows it, in GHz; 0 when not to be had."""
    said, source = 0.0, ""
    base = _text("/sys/devices/system/cpu/cpu0/cpufreq/base_frequency").strip()
    info = _text("/proc/cpuinfo")
    named = re.search(r"model name.*@\s*([0-9.]+)\s*GHz", info)
    current = re.search(r"cpu MHz\s*:\s*([0-9.]+)", info)
    if base.isdigit():
        said, source = int(base) / 1e6, "base_frequency"
    elif named:
        said, source = float(named[1]), "model name"
    elif current:
        said, source = float(current[1]) / 1000, "cpu MHz"
    model = re.search(r"model name\s*:\s*(.+)", info)
    return {
        "base_ghz_said": round(said, 3),
        "base_ghz_source": source,
        "ghz_measured": round(_measured_ghz(), 3),
        "processor": (model[1] if model else platform.machine())[:80],
    }


# One addition depends on the one before it, and each takes one cycle on every processor these two architectures have had
# for fifteen years. x86-64: 64 times `add rax, rcx`, `dec rdi`, `jnz`, `ret`. AArch64: 64 times `add x2, x2, x1`, `subs x0, x0, 1`, `b.ne`, `ret`.
_CHAIN = {
    "x86_64": bytes.fromhex("4801c8") * 64 + bytes.fromhex("48ffcf0f85") + struct.pack("<i", -(64 * 3 + 9)) + b"\xc3",
    "aarch64": struct.pack("<I", 0x8B010042) * 64
    + struct.pack("<III", 0xF1000400, 0x54000001 | (((-65) & 0x7FFFF) << 5), 0xD65F03C0),
}
_ROUNDS = 40_000


def _measured_ghz() -> float:
    """Cycles a nanosecond of the best of several short runs; 0 where machine code may not be run."""
    code = _CHAIN.get(platform.machine())
    if code is None or sys.maxsize < 2**32:
        return 0.0
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:  # a hardened system
        return 0.0
    page.write(code)
    anchor = ctypes.c_char.from_buffer(page)
    chain = ctypes.CFUNCTYPE(None, ctypes.c_uint64)(ctypes.addressof(anchor))
    best = 0.0
    until = time.monotonic() + 0.25
    while time.monotonic() < until:
        began = time.perf_counter_ns()
        chain(_ROUNDS)
        best = max(best, _ROUNDS * 65 / (time.perf_counter_ns() - began))
    del chain, anchor
    # The counter's own decrement runs beside the chain, so a round is 64 cycles and now and then 65.
    return best * 64 / 65


# --- disk


def disk(folder: str, *, quick: bool, write: bool = True) -> dict[str, Any]:
    """Size, free space and speed of the disk that will hold `folder`, measured at its nearest ancestor that is there."""
    place = Path(folder)
    while not place.is_dir() and place != place.parent:
        place = place.parent
    size = os.statvfs(str(place))
    found: dict[str, Any] = {
        "disk_folder": str(place),
        "disk_bytes": size.f_blocks * size.f_frsize,
        "disk_free_bytes": size.f_bavail * size.f_frsize,
        "disk_kind": _disk_kind(place),
    }
    if not write:
        return found
    try:
        found.update(_write_speed(place, found["disk_free_bytes"], quick))
    except OSError as error:
        found["disk_problem"] = f"{place}: {error.strerror}"
    return found


def _nameless(place: Path) -> int:
    """A file descriptor of a new file that vanishes with this process."""
    try:
        return os.open(str(place), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    name = place / (f".stratos-probe-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(str(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(str(name))
    return descriptor


def _write_speed(place: Path, free: int, quick: bool) -> dict[str, Any]:
    wanted = min(WRITE_BYTES_QUICK if quick else WRITE_BYTES, free // 4)
    block = os.urandom(min(WRITE_CHUNK, max(4096, wanted)))  # random: no disk compresses it away
    descriptor = _nameless(place)
    try:
        written, began = 0, time.monotonic()
        while written < wanted and time.monotonic() - began < WRITE_SECONDS:
            written += os.write(descriptor, block)
            os.fdatasync(descriptor)
        seconds = max(time.monotonic() - began, 1e-9)
        waits: list[float] = []
        page, began = block[:4096], time.monotonic()
        while len(waits) < SYNCS and time.monotonic() - began < SYNC_SECONDS:
            before = time.monotonic()
            os.write(descriptor, page)
            os.fdatasync(descriptor)
            waits.append(time.monotonic() - before)
    finally:
        os.close(descriptor)
    waits.sort()
    return {
        "write_bytes": written,
        "write_mb_s": round(written / seconds / 1e6, 1),
        "sync_ms": round(waits[len(waits) // 2] * 1000, 3) if waits else 0.0,
        "sync_worst_ms": round(waits[-1] * 1000, 3) if waits else 0.0,
    }


def _disk_kind(place: Path) -> str:
    """ssd, hdd, or nothing when the system does not say."""
    device = place.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for folder in (node, node / ".."):
        text = _text(folder / "queue" / "rotational").strip()
        if text in ("0", "1"):
            return "hdd" if text == "1" else "ssd"
    return ""


# --- system


def system() -> dict[str, Any]:
    """Kernel, distribution, Python, cgroup version, user and machine."""
    release = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', _text("/etc/os-release"), re.MULTILINE))
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "distribution": release.get("ID", ""),
        "distribution_name": release.get("PRETTY_NAME", ""),
        "distribution_like": release.get("ID_LIKE", ""),
        "python": platform.python_version(),
        "cgroup_version": 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1,
        "root": os.geteuid() == 0,
        "hostname": socket.gethostname()[:64],
        "systemd": Path("/run/systemd/system").is_dir(),
    }


def engine(testnet: str) -> dict[str, Any]:
    """Version and API of the container engine, asked at its own socket, and the nodes of `testnet` that it runs."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not where.startswith("unix://"):
        return {"engine_problem": f"DOCKER_HOST is {where[:60]}; only a unix socket is asked"}
    try:
        fields = _ask_engine(where[len("unix://") :], "/version")
        found: dict[str, Any] = {
            "engine_version": str(fields["Version"])[:40],
            "engine_api": str(fields["ApiVersion"])[:20],
        }
        if testnet:
            wanted = json.dumps({"label": [f"network.stratos.testnet={testnet}"]}, separators=(",", ":"))
            query = "".join(letter if letter.isalnum() else f"%{ord(letter):02X}" for letter in wanted)
            running = _ask_engine(where[len("unix://") :], f"/containers/json?filters={query}")
            names = [str(one["Labels"].get("network.stratos.node", ""))[:100] for one in running]
            found["ours"] = sorted(name for name in names if name)
        return found
    except (FileNotFoundError, ConnectionRefusedError):
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"engine_problem": (getattr(error, "strerror", None) or str(error))[:100]}


def _ask_engine(path: str, what: str) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.settimeout(5)
        talk.connect(path)
        talk.sendall(f"GET {what} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        answer = bytearray()
        while len(answer) < 4 << 20:
            chunk = talk.recv(1 << 16)
            if not chunk:
                break
            answer += chunk
    return json.loads(bytes(answer).partition(b"\r\n\r\n")[2])


def addresses() -> dict[str, Any]:
    """Addresses of the interfaces, and how the one who came by SSH sees this machine."""
    found = set()
    for line in _text("/proc/net/fib_trie").split("Local:")[-1].splitlines():
        match = re.match(r"\s+\|-- ([0-9.]+)", line)
        if match:
            last = match[1]
        elif "/32 host LOCAL" in line:
            found.add(last)
    for line in _text("/proc/net/if_inet6").splitlines():
        digits = line.split()[0]
        found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return {"addresses": sorted(found), "ssh_connection": os.environ.get("SSH_CONNECTION", "")}


# --- ports and bandwidth


class PortHolder:
    """Binds ports and answers whoever has the token: hello, a bounded transfer either way, or bye."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._listeners: list[socket.socket] = []
        self.bound: list[int] = []
        self.taken: dict[str, str] = {}
        self.ended = threading.Event()

    def hold(self, ports: list[int]) -> None:
        """Listen on these ports, 0 for any; those that are taken are noted with their owner."""
        for port in ports:
            try:
                listener = _listen(port)
            except OSError as error:
                busy = error.errno == errno.EADDRINUSE
                self.taken[str(port)] = (owner_of(port) or "another program") if busy else (error.strerror or "")
                continue
            self._listeners.append(listener)
            self.bound.append(listener.getsockname()[1])
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Give the ports back."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners.clear()
        self.bound.clear()
        self.ended.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            peer.settimeout(MAX_SECONDS + 2)
            asked = json.loads(_line(peer))
            if not hmac.compare_digest(str(asked["token"]).encode(), self._token.encode()):
                return
            what = asked["op"]
            if what == "sink":
                _answer(peer, _drain(peer, MAX_BYTES, MAX_SECONDS + 1))
            elif what == "source":
                _pour(peer, min(int(asked["bytes"]), MAX_BYTES), min(float(asked["seconds"]), MAX_SECONDS))
            else:
                _answer(peer, {"hello": peer.getpeername()[0], "here": peer.getsockname()[0]})
                if what == "bye":
                    self.close()


def _listen(port: int) -> socket.socket:
    """A listener for both address families, or for IPv4 where the kernel has no other."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port))


def knock(host: str, port: int, token: str, *, op: str = "hello", seconds: float = 3.0) -> dict[str, Any]:
    """Say hello (or bye) to a holder: `{"hello": how it sees us, "here": its own address}`; raises OSError, ValueError."""
    with socket.create_connection((host, port), timeout=seconds) as peer:
        peer.sendall(json.dumps({"token": token, "op": op}).encode() + b"\n")
        answer = json.loads(_line(peer))
        if not isinstance(answer, dict) or "hello" not in answer:
            raise ValueError("no probe answers there")
        return answer


def transfer(host: str, port: int, token: str, *, to_holder: bool, size: int, seconds: float) -> dict[str, Any]:
    """Move at most `size` bytes for at most `seconds`; what the receiving side counted. Raises OSError, ValueError."""
    size, seconds = min(size, MAX_BYTES), min(seconds, MAX_SECONDS)
    with socket.create_connection((host, port), timeout=seconds + 4) as peer:
        op = "sink" if to_holder else "source"
        peer.sendall(json.dumps({"token": token, "op": op, "bytes": size, "seconds": seconds}).encode() + b"\n")
        if not to_holder:
            return _drain(peer, size, seconds + 1)
        _pour(peer, size, seconds)
        peer.shutdown(socket.SHUT_WR)
        answer = json.loads(_line(peer))
        return {"bytes": int(answer["bytes"]), "seconds": float(answer["seconds"])}


def _pour(peer: socket.socket, size: int, seconds: float) -> None:
    block, left, until = os.urandom(CHUNK), size, time.monotonic() + seconds
    while left > 0 and time.monotonic() < until:
        peer.sendall(block[: min(left, CHUNK)])
        left -= CHUNK


def _drain(peer: socket.socket, size: int, seconds: float) -> dict[str, Any]:
    buffer, count, began, last = bytearray(CHUNK), 0, 0.0, 0.0
    until = time.monotonic() + seconds
    while count < size and time.monotonic() < until:
        got = peer.recv_into(buffer)
        if not got:
            break
        last = time.monotonic()
        began = began or last
        count += got
    return {"bytes": count, "seconds": max(last - began, 1e-6)}


def _line(peer: socket.socket) -> bytes:
    """One line of a socket, byte by byte: what follows it belongs to the transfer."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < 4096:
        byte = peer.recv(1)
        if not byte:
            raise ValueError("closed")
        line += byte
    return bytes(line)


def _answer(peer: socket.socket, fields: dict[str, Any]) -> None:
    peer.sendall(json.dumps(fields).encode() + b"\n")


def owner_of(port: int) -> str:
    """Name and pid of the program that listens on `port`, as far as this user may see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _text(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for entry in Path("/proc").iterdir() if inodes else ():
        if not entry.name.isdigit():
            continue
        try:
            held = {str(link.readlink()) for link in (entry / "fd").iterdir()}
        except OSError:
            continue
        if held & inodes:
            words = _text(entry / "cmdline").replace("\0", " ").strip() or _text(entry / "comm").strip()
            return f"{words[:60]} (pid {entry.name})"
    return ""


# --- asking


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Everything about this machine that needs no other; each part that fails is named and the rest is measured."""
    quick = bool(asked.get("quick"))
    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("cores", cores),
        ("memory", memory),
        ("clock_speed", clock_speed),
        ("system", system),
        ("addresses", addresses),
        ("disk", lambda: disk(str(asked.get("folder", "/")), quick=quick, write=bool(asked.get("write", True)))),
    ]
    if asked.get("engine", True):
        parts.append(("engine", lambda: engine(str(asked.get("testnet", "")))))
    found: dict[str, Any] = {"version": VERSION, "problems": []}
    for name, part in parts:
        _add(found, name, part)
    return found


def _add(found: dict[str, Any], name: str, part: Callable[[], dict[str, Any]]) -> None:
    try:
        found.update(part())
    except Exception as error:  # noqa: BLE001 - a part that cannot be measured must not hide the others
        found["problems"].append(f"{name}: {str(error)[:120] or type(error).__name__}")


class Answers:
    """The requests of one session."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._holder: PortHolder | None = None

    def serve(self) -> None:
        """Answer until stdin ends."""
        try:
            while True:
                line = self._stdin.readline(LINE_BYTES)
                if not line.strip():
                    return
                asked = json.loads(line)
                try:
                    answer = self._one(asked)
                except Exception as error:  # noqa: BLE001 - the one who asked wants the reason
                    answer = {"error": (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]}
                self._stdout.write(json.dumps(answer).encode() + b"\n")
                self._stdout.flush()
        finally:
            if self._holder is not None:
                self._holder.close()

    def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        what = asked.get("op")
        if what == "clock":
            return {"time_ns": time.time_ns()}
        if what == "measure":
            return measure(asked)
        if what == "hold":
            self._holder = PortHolder(str(asked["token"]))
            self._holder.hold([int(port) for port in asked["ports"]])
            return {"bound": self._holder.bound, "taken": self._holder.taken}
        if what == "release":
            if self._holder is not None:
                self._holder.close()
            return {}
        if what == "knock":
            return knock(str(asked["host"]), int(asked["port"]), str(asked["token"]))
        if what == "transfer":
            return transfer(
                str(asked["host"]),
                int(asked["port"]),
                str(asked["token"]),
                to_holder=bool(asked["to_holder"]),
                size=int(asked["bytes"]),
                seconds=float(asked["seconds"]),
            )
        if what == "sink":
            return self._take(min(int(asked["bytes"]), MAX_BYTES))
        if what == "source":
            return self._give(min(int(asked["bytes"]), MAX_BYTES))
        raise ValueError(f"unknown request {what!r}")

    def _take(self, size: int) -> dict[str, Any]:
        """Count bytes that come in on stdin after the request."""
        began, left = 0.0, size
        while left > 0:
            chunk = self._stdin.read(min(left, CHUNK))
            if not chunk:
                break
            began = began or time.monotonic()
            left -= len(chunk)
        return {"bytes": size - left, "seconds": max(time.monotonic() - began, 1e-6)}

    def _give(self, size: int) -> dict[str, Any]:
        """Put bytes on stdout before the answer."""
        block, left = os.urandom(CHUNK), size
        while left > 0:
            self._stdout.write(block[: min(left, CHUNK)])
            left -= CHUNK
        self._stdout.flush()
        return {"bytes": size}


def _text(path: object) -> str:
    try:
        return Path(str(path)).read_text(errors="replace")
    except OSError:
        return ""


def _hold_in_background(token: str, ports: list[int], seconds: int) -> dict[str, Any]:
    """Bind here, and leave a child that answers until told bye or until the time is over."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        signal.alarm(seconds)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        holder = PortHolder(token)
        holder.hold(ports)
        os.write(writing, json.dumps({"bound": holder.bound, "taken": holder.taken}).encode() + b"\n")
        os.close(writing)
        holder.ended.wait()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return dict(json.loads(pipe.readline()))


def _as_module(arguments: str) -> None:
    """The Ansible module: WANT_JSON, so the arguments are a JSON file."""
    asked = json.loads(Path(arguments).read_text())
    found = measure(
        {
            "folder": asked.get("folder", "/var/lib/stratos"),
            "quick": asked.get("quick", False),
            "testnet": asked.get("testnet", ""),
            "write": not asked.get("_ansible_check_mode", False),
        }
    )
    if asked.get("token"):
        ports = [int(port) for port in asked.get("ports", [])]
        found.update(_hold_in_background(str(asked["token"]), ports, min(int(asked.get("hold_seconds", 20)), 60)))
    sys.stdout.write(json.dumps({"changed": False, "measured": found}) + "\n")


def main(arguments: list[str]) -> None:
    """Answer a session, or be the Ansible module when a file of arguments is named."""
    if arguments:
        _as_module(arguments[0])
        return
    signal.alarm(LIFE_SECONDS)  # whatever happens to the one who asks
    Answers(sys.stdin.buffer, sys.stdout.buffer).serve()


def loader(text: bytes) -> tuple[str, bytes]:
    """(shell command, first bytes for its stdin) that run this file's `text` on a machine that does not have it."""
    packed = base64.b64encode(text) + b"\n"
    code = "import sys,base64;exec(compile(base64.b64decode(sys.stdin.buffer.readline()),'stratos_probe','exec'))"
    return f'exec python3 -B -c "{code}"', packed


if __name__ == "__main__":
    main(sys.argv[1:])
