"""What a run did, counted where it happened, and the verdict about it.

Every operation is one sample: when, which kind, how long, how many verified bytes, and whether the bytes were right.
Only verified work counts as done. A run without any operation of a kind that it was asked for proves nothing and ends
with another exit code than a failed one.
"""

import csv
import json
import os
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

OK, FAILED, NO_EVIDENCE = 0, 1, 3
KINDS = {"upload": "uploads", "download": "downloads", "stream": "streams"}
MAX_SAMPLES = 1_000_000


class HashMismatchError(AssertionError):
    """Bytes came back that are not the bytes that were stored."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One operation. `at` and `seconds` are wall-clock seconds; `first_byte_seconds` is for streams."""

    at: float
    kind: str
    seconds: float
    size: int
    ok: bool
    first_byte_seconds: float | None = None


@dataclass(slots=True)
class Results:
    """All samples of one process; safe to add to from every user."""

    samples: list[Sample] = field(default_factory=list)
    hash_mismatches: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    started_at: float = 0.0
    ended_at: float = 0.0
    preloaded: int = 0
    preload_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sample: Sample, error: Exception | None) -> None:
        """Count one operation and why it failed, if it did."""
        with self.lock:
            if len(self.samples) < MAX_SAMPLES:
                self.samples.append(sample)
            if error is not None:
                self.errors[f"{type(error).__name__}: {str(error)[:300]}"] += 1
                self.hash_mismatches += isinstance(error, HashMismatchError)

    def document(self) -> dict[str, Any]:
        """The run as JSON: per kind ok, failed, bytes, latency; mismatches; errors by text."""
        document: dict[str, Any] = {kinds: self._of_kind(kind) for kind, kinds in KINDS.items()}
        return document | {
            "hash_mismatches": self.hash_mismatches,
            "errors": dict(self.errors.most_common(20)),
            "preloaded": self.preloaded,
            "preload_bytes": self.preload_bytes,
            "started_at": self.started_at,
            "seconds": round(max(0.0, self.ended_at - self.started_at), 3),
        }

    def exit_code(self) -> int:
        """0 when every operation was right, 1 when one was not, 3 when there was none."""
        if self.hash_mismatches or any(not sample.ok for sample in self.samples):
            return FAILED
        return OK if self.samples else NO_EVIDENCE

    def write(self, path: Path) -> None:
        """The document at `path` and every sample in `<path>.samples.csv`, each written atomically."""
        rows = [
            (
                f"{s.at:.6f}",
                s.kind,
                f"{s.seconds:.6f}",
                s.size,
                int(s.ok),
                "" if s.first_byte_seconds is None else f"{s.first_byte_seconds:.6f}",
            )
            for s in self.samples
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, newline="", encoding="utf-8") as table:
            writer = csv.writer(table)
            writer.writerow(("at", "kind", "seconds", "bytes", "ok", "first_byte_seconds"))
            writer.writerows(rows)
        os.replace(table.name, path.with_suffix(".samples.csv"))
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(json.dumps(self.document(), indent=2) + "\n")
        os.replace(file.name, path)

    def _of_kind(self, kind: str) -> dict[str, Any]:
        samples = [sample for sample in self.samples if sample.kind == kind]
        good = [sample for sample in samples if sample.ok]
        return {
            "ok": len(good),
            "failed": len(samples) - len(good),
            "bytes": sum(sample.size for sample in good),
            "latency_ms": percentiles([sample.seconds for sample in good]),
        }


def percentiles(seconds: list[float]) -> dict[str, float] | None:
    """Median, 95th and 99th percentile and maximum in milliseconds; None without samples."""
    if not seconds:
        return None
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return {
        "p50": round(cuts[49] * 1000, 3),
        "p95": round(cuts[94] * 1000, 3),
        "p99": round(cuts[98] * 1000, 3),
        "max": round(max(seconds) * 1000, 3),
    }
