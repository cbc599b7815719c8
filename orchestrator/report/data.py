"""Everything one run says about itself: the record behind the page and the JSON next to it.

Money is integers of wei and noz; JSON carries integers above 2^53 as decimal strings, so that no reader rounds them.
Samples and price points are kept whole, so the plots can be drawn again from the file alone.
"""

import csv
import os
import platform
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.audit.evidence import Finding


class Check(Struct, frozen=True):
    """One thing that had to hold: what was wanted, what was found."""

    name: str
    ok: bool
    found: str
    wanted: str


class Sample(Struct, frozen=True, array_like=True):
    """One operation of the load generator; `at` counts seconds from its start."""

    at: float
    kind: str
    seconds: float
    bytes: int
    ok: bool
    first_byte_seconds: float | None = None


class Operations(Struct, frozen=True):
    """One kind of traffic: verified, failed, verified bytes, latency in milliseconds by percentile."""

    ok: int = 0
    failed: int = 0
    bytes: int = 0
    latency_ms: dict[str, float] | None = None


class PricePoint(Struct, frozen=True):
    """Price of ozone after a block, wei per noz with 18 places."""

    height: int
    price: str


class NodeReward(Struct, frozen=True, kw_only=True):
    """What one node earned in all reported epochs, and what its wallet has."""

    node: str
    role: str
    wallet: str
    traffic_noz: int
    share: str
    mining_wei: int
    traffic_wei: int
    immature_wei: int
    mature_wei: int


class EpochFlow(Struct, frozen=True, kw_only=True):
    """Where the money of one epoch went, wei."""

    epoch: int
    height: int
    volume_noz: int
    resource_wei: int
    meta_wei: int
    chain_wei: int
    chain_mining_wei: int
    """The part of `chain_wei` that was mined."""
    tax_wei: int
    mining_wei: int
    traffic_wei: int


class Environment(Struct, frozen=True):
    """What the figures were measured on."""

    cpu: str
    cores: int
    memory_mib: int
    system: str
    python: str
    revision: str


class RunData(Struct, frozen=True, kw_only=True):
    """The run."""

    title: str
    network: str
    started: str
    """UTC, ISO 8601."""
    seconds: float
    up_seconds: float
    nodes: dict[str, int]
    height: int
    epochs_settled: int
    copies_min: int
    slices_challenged: int
    hash_mismatches: int
    operations: dict[str, Operations]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    rewards: tuple[NodeReward, ...]
    flows: tuple[EpochFlow, ...]
    prices: tuple[PricePoint, ...]
    samples: tuple[Sample, ...]
    settings: dict[str, str]
    environment: Environment
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check held; a run without checks has not passed."""
        return bool(self.checks) and all(check.ok for check in self.checks)


def fraction(price: str) -> Fraction:
    """A price as an exact number."""
    return Fraction(price)


def dump(data: RunData) -> bytes:
    """The JSON form."""
    return msgspec.json.format(msgspec.json.encode(_exact(msgspec.to_builtins(data))), indent=2) + b"\n"


def load(text: bytes) -> RunData:
    """The run in a JSON file that `dump` wrote; raises msgspec.ValidationError or DecodeError."""
    return msgspec.json.decode(text, type=RunData, strict=False)


def read_samples(path: Path, *, started_at: float) -> tuple[Sample, ...]:
    """The load generator's samples, times counted from `started_at`; empty when it wrote none."""
    if not path.exists():
        return ()
    with path.open(newline="", encoding="utf-8") as table:
        return tuple(
            Sample(
                at=float(row["at"]) - started_at,
                kind=row["kind"],
                seconds=float(row["seconds"]),
                bytes=int(row["bytes"]),
                ok=row["ok"] == "1",
                first_byte_seconds=float(row["first_byte_seconds"]) if row["first_byte_seconds"] else None,
            )
            for row in csv.DictReader(table)
        )


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` in one step, so a reader never sees half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


def this_environment(checkout: Path) -> Environment:
    """The machine and the code this process runs on."""
    return Environment(
        cpu=_first_value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=int((_first_value(Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) // 1024,
        system=f"{platform.system()} {platform.release()}",
        python=sys.version.split()[0],
        revision=_revision(checkout),
    )


def _first_value(path: Path, key: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return told.stdout.strip() or "unknown"


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value
