"""One result out of those of several load hosts.

Counts and bytes add up; percentiles are taken over all samples together, because percentiles of percentiles mean nothing. A host
without a result is named and the run proves less, never the same.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

from msgspec import Struct

KINDS = {"upload": "uploads", "download": "downloads", "stream": "streams"}
RESULT = "load.json"
SAMPLES = "load.samples.csv"


class KindResult(Struct, frozen=True, kw_only=True):
    """All operations of one kind. Latencies are of good operations, in milliseconds; None without one."""

    ok: int = 0
    failed: int = 0
    bytes: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


class LoadResult(Struct, frozen=True, kw_only=True):
    """A distributed run. `missing`: host -> why it has no result."""

    hosts: tuple[str, ...]
    missing: dict[str, str]
    kinds: dict[str, KindResult]
    seconds: float
    bytes_per_second: float
    hash_mismatches: int
    errors: dict[str, int]

    @property
    def operations(self) -> int:
        """Good operations of all kinds."""
        return sum(kind.ok for kind in self.kinds.values())

    @property
    def failed(self) -> bool:
        """Whether any operation went wrong."""
        return self.hash_mismatches > 0 or any(kind.failed for kind in self.kinds.values())


def merge(folders: Mapping[str, Path], *, missing: Mapping[str, str] | None = None) -> LoadResult:
    """The run whose hosts' results lie in `folders` (by host); a folder without readable results is a missing host."""
    documents: dict[str, dict[str, Any]] = {}
    latencies: dict[str, list[float]] = {kind: [] for kind in KINDS}
    gone = dict(missing or {})
    for host, folder in sorted(folders.items()):
        try:
            document = json.loads((folder / RESULT).read_bytes())
            with (folder / SAMPLES).open(encoding="utf-8", newline="") as table:
                rows = [(row["kind"], float(row["seconds"])) for row in csv.DictReader(table) if row["ok"] == "1"]
        except (OSError, ValueError, KeyError) as error:
            gone.setdefault(host, f"no readable results ({error})")
            continue
        documents[host] = document
        for kind, seconds in rows:
            latencies[kind].append(seconds)
    kinds = {plural: _kind(documents.values(), plural, latencies[kind]) for kind, plural in KINDS.items()}
    begun = [float(document["started_at"]) for document in documents.values()]
    ended = [float(document["started_at"]) + float(document["seconds"]) for document in documents.values()]
    seconds = max(ended) - min(begun) if begun else 0.0
    errors: Counter[str] = Counter()
    for document in documents.values():
        errors.update(document["errors"])
    return LoadResult(
        hosts=tuple(documents),
        missing=gone,
        kinds=kinds,
        seconds=round(seconds, 3),
        bytes_per_second=round(sum(kind.bytes for kind in kinds.values()) / seconds, 1) if seconds > 0 else 0.0,
        hash_mismatches=sum(int(document["hash_mismatches"]) for document in documents.values()),
        errors=dict(errors.most_common(20)),
    )


def _kind(documents: Any, plural: str, seconds: list[float]) -> KindResult:
    parts = [document[plural] for document in documents]
    cuts: list[float] = []
    if seconds:
        cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return KindResult(
        ok=sum(int(part["ok"]) for part in parts),
        failed=sum(int(part["failed"]) for part in parts),
        bytes=sum(int(part["bytes"]) for part in parts),
        p50_ms=_ms(cuts[49] if cuts else None),
        p95_ms=_ms(cuts[94] if cuts else None),
        p99_ms=_ms(cuts[98] if cuts else None),
        max_ms=_ms(max(seconds) if seconds else None),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
