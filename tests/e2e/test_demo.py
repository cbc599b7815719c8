"""The demo as the README promises it: one command, one JSON document, exit 0, nothing left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import ROOT, Tool, eventually


@pytest.mark.timeout(900)
def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    """Every figure of the promised document is there and good, the report stands alone, and no process is left."""
    tool = Tool(tmp_path)
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "demo", "--json", "--seconds", "12"]
    done = subprocess.run(
        program,
        cwd=ROOT,
        env={**os.environ, **tool.environment},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["nodes"] == {"validator": 4, "meta": 4, "resource": 6}
    assert document["state_roots_equal"] is True and document["height"] > 0 and document["up_seconds"] > 0
    for kind in ("uploads", "downloads", "streams"):
        assert document[kind]["ok"] > 0 and document[kind]["failed"] == 0 and document[kind]["bytes"] > 0
    assert document["hash_mismatches"] == 0
    assert document["copies_min"] >= 4
    assert document["epochs_settled"] >= 4
    assert document["audit"]["verdict"] == "agree" and document["audit"]["epochs"] >= 4
    rewards = document["rewards"]
    assert {reward["role"] for reward in rewards} == {"resource", "meta", "validator"} and len(rewards) == 14
    assert any(reward["traffic_noz"] and reward["mining_wei"] and reward["traffic_wei"] for reward in rewards)
    assert document["withdrawn"]["amount_wei"] > 0 and document["failures"] == []
    report = Path(document["report"])
    assert report.read_text().startswith("<!doctype html>") and report.with_suffix(".json").exists()
    eventually(lambda: tool.processes() == [])
