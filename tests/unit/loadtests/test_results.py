"""Counting and the verdict of a load run."""

import csv
import json
from pathlib import Path

from loadtests.results import FAILED, NO_EVIDENCE, OK, HashMismatchError, Results, Sample, percentiles


def sample(kind: str = "upload", *, ok: bool = True, size: int = 10, seconds: float = 0.5) -> Sample:
    return Sample(1.0, kind, seconds, size, ok)


def test_a_run_without_operations_is_not_a_success() -> None:
    """No samples is its own exit code, never 0."""
    assert Results().exit_code() == NO_EVIDENCE


def test_only_right_work_counts_and_one_wrong_operation_fails_the_run() -> None:
    """Failed operations add no bytes, are listed by reason, and decide the exit code."""
    results = Results()
    results.add(sample(size=100), None)
    assert results.exit_code() == OK
    results.add(sample("download", ok=False, size=50), HashMismatchError("other bytes"))
    document = results.document()
    assert document["uploads"]["ok"] == 1 and document["uploads"]["bytes"] == 100
    assert document["downloads"] == {"ok": 0, "failed": 1, "bytes": 0, "latency_ms": None}
    assert document["hash_mismatches"] == 1 and document["errors"] == {"HashMismatchError: other bytes": 1}
    assert results.exit_code() == FAILED


def test_a_failure_that_is_no_mismatch_still_fails_the_run() -> None:
    """Refused or lost operations are failures without being mismatches."""
    results = Results()
    results.add(sample(ok=False), TimeoutError("slow"))
    assert results.exit_code() == FAILED and results.document()["hash_mismatches"] == 0


def test_results_and_samples_are_written_side_by_side(tmp_path: Path) -> None:
    """The JSON is the document, the CSV has one row per sample."""
    results = Results(started_at=1.0, ended_at=3.0)
    results.add(sample(), None)
    results.write(tmp_path / "run" / "load.json")
    assert json.loads((tmp_path / "run" / "load.json").read_text())["seconds"] == 2.0
    with (tmp_path / "run" / "load.samples.csv").open(newline="") as table:
        assert [row["kind"] for row in csv.DictReader(table)] == ["upload"]


def test_percentiles_of_one_sample_are_that_sample() -> None:
    """Small runs have honest figures too."""
    assert percentiles([0.25]) == {"p50": 250.0, "p95": 250.0, "p99": 250.0, "max": 250.0}
    assert percentiles([]) is None
