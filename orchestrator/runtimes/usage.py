"""What a container uses: as the engine says, or as its own control group files say where the engine has no figures.

Some engines answer with empty statistics (nested ones, or those whose driver does not report to them). No figure is never zero: a node
about which neither says anything is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

LOOK = (
    "sh",
    "-c",
    (
        "cd /sys/fs/cgroup; for f in memory.current memory.max memory.stat cpu.stat memory/memory.usage_in_bytes "
        "memory/memory.limit_in_bytes memory/memory.stat cpuacct/cpuacct.usage; do [ -r $f ] && sed s,^,$f:, $f; done; "
        "sed s,^,net:, /proc/net/dev"
    ),
)
"""Prints `file:line` of whichever files there are, and the interfaces' counters."""
NO_LIMIT = 1 << 60


class Usage(Struct, frozen=True, kw_only=True):
    """Memory and processor time so far, bytes over all networks since the container started. A limit of 0 is none."""

    memory_bytes: int
    memory_limit_bytes: int
    cpu_seconds: float
    received_bytes: int
    sent_bytes: int


def usage_of_process(pid: int) -> Usage | None:
    """Of a process of this machine, whose memory is counted in proportion to what it shares; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        shares = re.search(rb"^Pss:\s+([0-9]+) kB", Path(f"/proc/{pid}/smaps_rollup").read_bytes(), re.MULTILINE)
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Usage(
        memory_bytes=1024 * int(shares[1]) if shares else 0,
        memory_limit_bytes=0,
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        received_bytes=0,
        sent_bytes=0,
    )


def usage_from_engine(answer: Mapping[str, Any]) -> Usage | None:
    """The figures in the engine's statistics of one container; None when there are none."""
    memory = answer.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    cache = memory.get("stats") or {}
    networks = (answer.get("networks") or {}).values()
    return Usage(
        memory_bytes=max(
            0, int(memory["usage"]) - int(cache.get("total_inactive_file", cache.get("inactive_file", 0)))
        ),
        memory_limit_bytes=_limit(memory.get("limit", 0)),
        cpu_seconds=int(answer["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9,
        received_bytes=sum(int(one["rx_bytes"]) for one in networks),
        sent_bytes=sum(int(one["tx_bytes"]) for one in networks),
    )


def usage_from_inside(text: str) -> Usage | None:
    """The figures in what `LOOK` printed, of either version of control groups; None when they are not there."""

    def first(*patterns: str) -> int | None:
        found = (re.search(pattern, text, re.MULTILINE) for pattern in patterns)
        return next((int(match[1]) for match in found if match), None)

    memory = first(r"^memory\.current:(\d+)", r"^memory/memory\.usage_in_bytes:(\d+)")
    microseconds = first(r"^cpu\.stat:usage_usec (\d+)")
    nanoseconds = first(r"^cpuacct/cpuacct\.usage:(\d+)")
    if memory is None or (microseconds is None and nanoseconds is None):
        return None
    cache = first(r"^memory\.stat:inactive_file (\d+)", r"^memory/memory\.stat:total_inactive_file (\d+)") or 0
    counters = re.findall(r"^net:\s*(?!lo:)\S+:\s*(\d+)(?:\s+\d+){7}\s+(\d+)", text, re.MULTILINE)
    return Usage(
        memory_bytes=max(0, memory - cache),
        memory_limit_bytes=_limit(first(r"^memory\.max:(\d+)", r"^memory/memory\.limit_in_bytes:(\d+)") or 0),
        cpu_seconds=microseconds / 1e6 if microseconds is not None else (nanoseconds or 0) / 1e9,
        received_bytes=sum(int(received) for received, _sent in counters),
        sent_bytes=sum(int(sent) for _received, sent in counters),
    )


def _limit(value: Any) -> int:
    """Version 1 says no limit by a number near the largest there is."""
    return int(value) if int(value) < NO_LIMIT else 0
