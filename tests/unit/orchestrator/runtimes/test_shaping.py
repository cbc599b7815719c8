"""Whether a container has its bandwidth limit is read from what the kernel says inside it."""

from __future__ import annotations

import struct

import pytest

from orchestrator.runtimes.limits_probe import attributes, rate
from orchestrator.runtimes.shaping import is_limited


@pytest.mark.parametrize(
    ("said", "limited"),
    [
        (b'{"eth0": 5000000, "eth1": 5000000}', True),
        (b'{"eth0": 5000000, "eth1": 0}', False),
        (b'{"eth0": 2500000}', False),
        (b"{}", False),
        (b"", False),
        (b"OCI runtime exec failed", False),
    ],
)
def test_every_cable_must_have_the_limit(said: bytes, limited: bool) -> None:
    """40 Mbit/s are 5 MB/s on each; whatever else is said, the limit is set again."""
    assert is_limited(said, 40) is limited


def _attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind) + data + bytes(-length % 4)


def test_a_rate_is_read_as_the_kernel_writes_it() -> None:
    """32 bits in the parameters; beyond that in an attribute of its own."""
    parameters = _attribute(1, struct.pack("=BBHhHI", 0, 1, 0, 0, 0, 5_000_000) + bytes(24))
    assert rate(parameters) == 5_000_000
    assert rate(parameters + _attribute(4, struct.pack("=Q", 12_500_000_000))) == 12_500_000_000
    assert attributes(_attribute(1, b"tbf\0") + _attribute(2, b"xyz")) == {1: b"tbf\0", 2: b"xyz"}
    assert attributes(b"\0\0\1\0") == {}
