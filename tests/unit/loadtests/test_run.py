"""A load run as a process: what it cannot do is an exit code and a sentence, never a green run."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def locust(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "mixed.py"), "--headless", "-t", "5s"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_run_without_a_testnet_ends_with_its_own_code_and_reason(tmp_path: Path) -> None:
    """Nothing was measured: exit 3, the results file says why."""
    results = tmp_path / "load.json"
    done = locust("--testnet", str(tmp_path), "--results", str(results), "-u", "1")
    assert done.returncode == 3, done.stderr
    document = json.loads(results.read_text())
    assert document["uploads"]["ok"] == 0 and any("preload" in text for text in document["errors"])


def test_a_malformed_option_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """One sentence that names the option."""
    done = locust("--testnet", str(tmp_path), "--size", "1MB-ten")
    assert done.returncode != 0 and "--size" in done.stderr
