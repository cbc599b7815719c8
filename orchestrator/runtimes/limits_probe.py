"""Runs in a node's container, as its user: prints what each interface of its network namespace may send, in bytes a second.

Standard library only; `shaping.py` sends this file and reads its answer, so it works with any image of a node. Asks the kernel for
all queueing disciplines, which needs no capability. An interface without a token bucket of ours says 0.
"""

from __future__ import annotations

import json
import socket
import struct

RTM_NEWQDISC, RTM_GETQDISC, DONE, ERROR = 36, 38, 3, 2
REQUEST_ALL = 0x301
ROOT = 0xFFFFFFFF
KIND, OPTIONS, PARAMETERS, RATE64 = 1, 2, 1, 4


def attributes(data: bytes) -> dict[int, bytes]:
    """Type -> content of netlink attributes in a row."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def rate(options: bytes) -> int:
    """Bytes a second of a token bucket."""
    found = attributes(options)
    if RATE64 in found:
        return int(struct.unpack("=Q", found[RATE64][:8])[0])
    return int(struct.unpack_from("=I", found[PARAMETERS], 8)[0])


def buckets() -> dict[int, int]:
    """Interface index -> bytes a second, of interfaces whose root is a token bucket."""
    found: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        body = struct.pack("=BBHiIII", socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)
        kernel.send(struct.pack("=IHHII", 16 + len(body), RTM_GETQDISC, REQUEST_ALL, 1, 0) + body)
        while True:
            data = kernel.recv(1 << 20)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (DONE, ERROR):
                    return found
                _, index, _, parent = struct.unpack_from("=IiII", data, 16)
                about = attributes(data[36:length])
                if kind == RTM_NEWQDISC and parent == ROOT and about.get(KIND) == b"tbf\0":
                    found[index] = rate(about[OPTIONS])
                data = data[(length + 3) & ~3 :]


if __name__ == "__main__":
    limited = buckets()
    print(json.dumps({name: limited.get(index, 0) for index, name in socket.if_nameindex() if name != "lo"}))
