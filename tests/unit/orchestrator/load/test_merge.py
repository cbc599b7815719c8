"""One result out of several load hosts'."""

from pathlib import Path

import pytest

from loadtests.results import Results, Sample
from orchestrator.errors import BadInput
from orchestrator.load.merge import merge
from orchestrator.load.options import LoadOptions, locust_config


def host(folder: Path, *, seconds: list[float], failed: int = 0, started: float = 100.0) -> Path:
    """A host's result folder, written by the code that writes it there."""
    results = Results(started_at=started, ended_at=started + 10)
    for one in seconds:
        results.add(Sample(started, "upload", one, 1000, True), None)
    for _ in range(failed):
        results.add(Sample(started, "upload", 9.0, 0, False), RuntimeError("refused"))
    results.write(folder / "load.json")
    return folder


def test_counts_add_up_and_percentiles_are_over_all_samples(tmp_path: Path) -> None:
    """Two hosts of unequal size weigh by their samples."""
    merged = merge(
        {
            "a": host(tmp_path / "a", seconds=[0.1] * 99),
            "b": host(tmp_path / "b", seconds=[5.0], failed=2, started=102.0),
        }
    )
    uploads = merged.kinds["uploads"]
    assert (uploads.ok, uploads.failed, uploads.bytes) == (100, 2, 100_000)
    assert (uploads.p50_ms, uploads.p95_ms, uploads.max_ms) == (100.0, 100.0, 5000.0)
    assert merged.seconds == 12.0
    assert merged.failed
    assert merged.errors == {"RuntimeError: refused": 2}


def test_a_host_without_results_is_named(tmp_path: Path) -> None:
    """What is missing is said, and nothing is made up for it."""
    merged = merge({"a": host(tmp_path / "a", seconds=[0.1]), "b": tmp_path / "b"}, missing={"c": "unreachable"})
    assert merged.hosts == ("a",)
    assert set(merged.missing) == {"b", "c"}


def test_no_host_is_no_evidence(tmp_path: Path) -> None:
    """Without samples there are no latencies and no rate, never zeros that look measured."""
    merged = merge({})
    assert merged.operations == 0
    assert merged.kinds["uploads"].p50_ms is None


def test_every_host_has_its_own_data() -> None:
    """The seed carries the host's name, so two hosts never store the same objects."""
    options = LoadOptions(seconds=5, users={"upload": 2}, rates={"upload": 1.5}, seed="s")
    text = locust_config(options, host="a", testnet="/testnet", results="/testnet/results/load.json")
    assert "seed = s-a\n" in text
    assert "upload-users = 2\n" in text


@pytest.mark.parametrize(("seconds", "users"), [(0, {"upload": 1}), (5, {}), (5, {"upload": -1, "stream": 3})])
def test_a_run_that_would_do_nothing_is_refused(seconds: int, users: dict[str, int]) -> None:
    """No time or no users is a mistake, not an empty success."""
    with pytest.raises(BadInput):
        LoadOptions(seconds=seconds, users=users, rates={}).check()
