"""Limits what network interfaces send, without any tool of the base: a token bucket (tbf), asked of the kernel over netlink.

    shape.py MBIT              every interface of this network namespace but the loopback; prints name, index and peer of each
    shape.py INDEX=MBIT ...    these interfaces

0 Mbit removes a limit. It runs in a short-lived container with NET_ADMIN and nothing else, beside the node that is limited: in the node's
namespace for what the node sends, in the host's at the other ends of its cables for what the node receives.
"""

import json
import os
import socket
import struct
import sys
from pathlib import Path

INTERFACES = Path("/sys/class/net")
RTM_NEWQDISC, RTM_DELQDISC = 36, 37
REQUEST, ACK, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
ROOT = 0xFFFFFFFF
KIND, OPTIONS = 1, 2
PARAMETERS, RATE64, BURST = 1, 4, 6
ETHERNET = 1
NOT_THERE = (2, 22)
LEAST_BURST = 64 * 1024
LEAST_QUEUE = 256 * 1024


def main(arguments: list[str]) -> None:
    """Limit what the arguments name."""
    if len(arguments) == 1 and "=" not in arguments[0]:
        found = interfaces()
        for entry in found:
            limit(int(entry["index"]), int(arguments[0]))
        print(json.dumps(found))
        return
    for argument in arguments:
        index, _, mbit = argument.partition("=")
        limit(int(index), int(mbit))


def interfaces() -> list[dict[str, object]]:
    """Name, index and the index of the other end, of every interface but the loopback."""
    found: list[dict[str, object]] = []
    for folder in sorted(INTERFACES.iterdir()):
        if folder.name != "lo" and (folder / "ifindex").exists():
            index, peer = (int((folder / file).read_text()) for file in ("ifindex", "iflink"))
            found.append({"name": folder.name, "index": index, "peer": peer})
    return found


def limit(index: int, mbit: int) -> None:
    """Let an interface send so much; OSError from the kernel."""
    if mbit == 0:
        error = _ask(RTM_DELQDISC, REQUEST | ACK, _message(index))
        if error not in (0, *NOT_THERE):
            raise OSError(error, os.strerror(error), f"interface {index}")
        return
    rate = mbit * 1_000_000 // 8
    burst = max(LEAST_BURST, rate // 100)
    queue = max(LEAST_QUEUE, rate // 20) + burst
    ratespec = struct.pack("=BBHhHI", 0, ETHERNET, 0, 0, 0, min(rate, 0xFFFFFFFF))
    parameters = ratespec + bytes(12) + struct.pack("=III", min(queue, 0xFFFFFFFF), 0, 0)
    options = _attribute(PARAMETERS, parameters) + _attribute(BURST, struct.pack("=I", min(burst, 0xFFFFFFFF)))
    options += _attribute(RATE64, struct.pack("=Q", rate))
    body = _message(index) + _attribute(KIND, b"tbf\0") + _attribute(OPTIONS, options)
    error = _ask(RTM_NEWQDISC, REQUEST | ACK | CREATE | REPLACE, body)
    if error:
        raise OSError(error, os.strerror(error), f"interface {index}")


def _message(index: int) -> bytes:
    return struct.pack("=BBHiIII", socket.AF_UNSPEC, 0, 0, index, 0, ROOT, 0)


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind) + data + bytes(-length % 4)


def _ask(kind: int, flags: int, body: bytes) -> int:
    """Send one request; the kernel's error number, 0 for none."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        answer = kernel.recv(65_536)
    return -int(struct.unpack_from("=i", answer, 16)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
