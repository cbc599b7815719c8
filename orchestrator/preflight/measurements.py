"""What was measured of one machine, typed and bounded: a probe's answer comes from a machine nobody trusts yet.

`read_measured` is the only way in. A value that is missing is the record's default, which the judge takes for "not measured"; zero is never a result.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=200)]
Count = Annotated[int, Meta(ge=0, le=1 << 62)]
Number = Annotated[float, Meta(ge=0, le=1e12)]


class Measured(Struct, frozen=True, kw_only=True):
    """What the probe says of a machine by itself; field names are the probe's."""

    version: int = 0
    problems: Annotated[tuple[Text, ...], Meta(max_length=50)] = ()
    cores: Number = 0.0
    cores_online: Count = 0
    cores_quota: Number = 0.0
    memory_bytes: Count = 0
    memory_machine_bytes: Count = 0
    base_ghz_said: Number = 0.0
    base_ghz_source: Text = ""
    ghz_measured: Number = 0.0
    processor: Text = ""
    disk_folder: Text = ""
    disk_bytes: Count = 0
    disk_free_bytes: Count = 0
    disk_kind: Text = ""
    disk_problem: Text = ""
    write_bytes: Count = 0
    write_mb_s: Number = 0.0
    sync_ms: Number = 0.0
    sync_worst_ms: Number = 0.0
    kernel: Text = ""
    architecture: Text = ""
    distribution: Text = ""
    distribution_name: Text = ""
    distribution_like: Text = ""
    python: Text = ""
    cgroup_version: Count = 0
    root: bool = False
    hostname: Text = ""
    systemd: bool = False
    engine_version: Text = ""
    engine_api: Text = ""
    engine_problem: Text = ""
    ours: Annotated[tuple[Text, ...], Meta(max_length=10_000)] = ()
    """nodes of this testnet that run there already"""
    addresses: Annotated[tuple[Text, ...], Meta(max_length=1_000)] = ()
    ssh_connection: Text = ""


class Clock(Struct, frozen=True, kw_only=True):
    """`offset_seconds`: how far the machine's clock is ahead of the controller's, right within `error_seconds`."""

    offset_seconds: float
    error_seconds: float
    samples: int


class Rate(Struct, frozen=True, kw_only=True):
    """A transfer. `lower_bound`: the way, not the machine, may have been what limited it."""

    mbit: float
    way: str
    lower_bound: bool = False


class Port(Struct, frozen=True, kw_only=True):
    """One port others connect to. `state`: open, closed (bound here and not reached), taken, ours, unknown."""

    number: int
    node: str
    state: str
    by: str = ""
    seen_from: str = ""
    problem: str = ""


class Findings(Struct, frozen=True, kw_only=True):
    """Everything known about one machine when it is judged; None where nothing could be measured, with the reason."""

    measured: Measured
    clock: Clock | None = None
    up: Rate | None = None
    down: Rate | None = None
    ports: tuple[Port, ...] = ()
    sudo_problem: str = ""
    address: str = ""
    dialled: str = ""
    """The IP address that `address` means to the controller."""
    notes: dict[str, str] = {}
    """check -> why it could not be measured"""


def read_measured(answer: dict[str, Any]) -> Measured:
    """The typed record of a probe's answer; raises msgspec.ValidationError."""
    return msgspec.convert(answer, Measured)
