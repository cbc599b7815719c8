"""What a machine must have for the nodes it is to carry: protocol 9 as a table, and what this project asks beside it.

The table is in the units of the published pages (GB and TB are decimal). Several nodes on one machine add up, except for the base clock, where the
fastest counts. The factor of the inventory scales hardware only: a small testnet may run on a tenth of the memory, and its clocks must be as right as
anywhere. Sustained write speed is ours: what the download link brings must reach the disk, and consensus waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

GB = 10**9
TB = 10**12

ENGINE_API = (1, 41)
KERNEL_NEEDED = (4, 18)
KERNEL_WANTED = (5, 4)
PYTHON_NEEDED = (3, 9)
CLOCK_FAIL_SECONDS = 1.0
CLOCK_WARN_SECONDS = 0.1
SYNC_WARN_MS = 10.0
SYNC_FAIL_MS = 100.0
PACKAGED = ("debian", "ubuntu")
"""Distributions whose packages the roles can install."""


class Hardware(Struct, frozen=True, kw_only=True):
    """What one node or one machine needs. `fixed_address`: others must find it where it was found yesterday."""

    cores: float = 0.0
    base_ghz: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    write_mb_s: float = 0.0
    up_mbit: float = 0.0
    down_mbit: float = 0.0
    fixed_address: bool = False


class Duty(Struct, frozen=True, kw_only=True):
    """One node that a machine is to carry. `ports` are those others connect to; `offered_bytes` what it rents out."""

    name: str
    role: str
    tier: int = 0
    offered_bytes: int = 0
    ports: tuple[int, ...] = ()


# protocol 9; tier 0 is a resource node for which no tier was chosen
RESOURCE = {
    0: Hardware(cores=4, memory_bytes=16 * GB, disk_bytes=2 * TB, write_mb_s=25, up_mbit=100, down_mbit=100),
    1: Hardware(cores=8, memory_bytes=16 * GB, disk_bytes=4 * TB, write_mb_s=25, up_mbit=50, down_mbit=100),
    2: Hardware(cores=16, memory_bytes=32 * GB, disk_bytes=8 * TB, write_mb_s=25, up_mbit=100, down_mbit=100),
    3: Hardware(cores=32, memory_bytes=64 * GB, disk_bytes=16 * TB, write_mb_s=250, up_mbit=1000, down_mbit=1000),
}
VALIDATOR = Hardware(
    cores=8,
    base_ghz=2.5,
    memory_bytes=32 * GB,
    disk_bytes=2 * TB,
    write_mb_s=100,
    up_mbit=50,
    down_mbit=50,
    fixed_address=True,
)
META = Hardware(
    cores=8,
    memory_bytes=32 * GB,
    disk_bytes=1 * TB,
    write_mb_s=200,
    up_mbit=100,
    down_mbit=100,
    fixed_address=True,
)


def needs_of(duty: Duty) -> Hardware:
    """The unscaled row of one node."""
    if duty.role == "resource":
        return RESOURCE[duty.tier]
    return VALIDATOR if duty.role == "validator" else META


def needs_of_machine(duties: Sequence[Duty], factor: float) -> Hardware:
    """What a machine that carries all of `duties` needs, scaled by 0 < factor <= 1."""
    rows = [needs_of(duty) for duty in duties]
    return Hardware(
        cores=sum(row.cores for row in rows) * factor,
        base_ghz=max((row.base_ghz for row in rows), default=0.0) * factor,
        memory_bytes=round(sum(row.memory_bytes for row in rows) * factor),
        disk_bytes=round(sum(row.disk_bytes for row in rows) * factor),
        write_mb_s=sum(row.write_mb_s for row in rows) * factor,
        up_mbit=sum(row.up_mbit for row in rows) * factor,
        down_mbit=sum(row.down_mbit for row in rows) * factor,
        fixed_address=any(row.fixed_address for row in rows),
    )
