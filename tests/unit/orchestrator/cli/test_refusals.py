"""What a person mistypes is refused at once, in one sentence, before anything is started or paid."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import demo, main, plan, put
from orchestrator.demo.steps import begin_folder
from orchestrator.errors import BadInput, EnvironmentFault, StratosctlError
from orchestrator.plan.plan import Existing, make_plan
from orchestrator.testnet.folder import TestnetFolder
from tests.unit.orchestrator.plan.conftest import SEARCH, counter, topology


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestnetFolder:
    """A testnet that was planned and does not run, in the tool's testnets folder."""
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path))
    outcome = make_plan(
        topology(), Existing(), SEARCH, random=counter(), time_ms=1_800_000_000_000, is_free=lambda port: True
    )
    folder = TestnetFolder(tmp_path / "net")
    folder.path.mkdir()
    folder.save_ring(outcome.ring)
    folder.save_plan(outcome.plan)
    folder.save_genesis(outcome.genesis)
    folder.save_wallets(outcome.ring)
    folder.save_endpoints(outcome.plan)
    return folder


@pytest.mark.parametrize("size", ["x", "1MiB-2", "1-2-3", "", "1TiB"])
def test_sizes_of_the_demo_are_checked_before_it_starts(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A range that the load generator would not understand never raises a testnet."""
    with pytest.raises(SystemExit) as ending:
        demo.main(["--size", size])
    assert ending.value.code == 2 and "64KiB-1MiB" in capsys.readouterr().err


def test_the_demo_removes_nothing_but_demos(folder: TestnetFolder) -> None:
    """A testnet that the demo did not make is refused and untouched; its own is made anew, with its reports."""
    with pytest.raises(BadInput, match="down --purge"):
        begin_folder(folder)
    assert folder.exists
    report = folder.runs / "demo-1" / "report.html"
    report.parent.mkdir(parents=True)
    report.touch()
    begin_folder(folder)
    assert not folder.exists and report.exists()
    begin_folder(folder)


def test_a_testnet_that_is_down_is_refused_at_once(folder: TestnetFolder) -> None:
    """A storage command does not try for its whole deadline when no meta node even listens."""
    with pytest.raises(StratosctlError, match="net is not running: none of its") as refused:
        put.main([str(folder.plan_file), "--testnet", "net"])
    assert refused.value.exit_code == EnvironmentFault.exit_code


def test_a_tag_that_no_record_can_hold_is_refused(folder: TestnetFolder) -> None:
    """The limit of the tag is said in the words of the command line."""
    for tag in ("ninechars", "\u00e4"):
        with pytest.raises(BadInput, match="at most 8 characters"):
            put.main([str(folder.plan_file), "--testnet", "net", "--tag", tag])


def test_variables_are_listed_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`plan --variables --json` is one JSON document with every variable."""
    assert plan.main(["--variables", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["variables"]
    assert {"name", "doc", "allowed", "default", "stands_on"} == set(listed[0])
    assert "stratos_copies" in {one["name"] for one in listed}


def test_a_key_without_a_room_is_no_state_key(capsys: pytest.CaptureFixture[str]) -> None:
    """`proof` does not prove the absence of what cannot be there."""
    assert main.main(["proof", "nonsense"]) == 2
    assert "room/name" in capsys.readouterr().err


def test_progress_fits_the_terminal_and_leaves_no_rest(tmp_path: Path) -> None:
    """On a terminal, progress stays within one line, and what is printed afterwards begins on an empty one."""
    broken = tmp_path / "net.yml"
    broken.write_text("all: {hosts: {a: }}")
    ours, theirs = pty.openpty()
    program = (
        "import sys; from orchestrator.cli.telling import Teller; from orchestrator.cli.main import main; "
        f"Teller()('x' * 500); sys.exit(main(['up', '-i', {str(broken)!r}]))"
    )
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        run = subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={**os.environ, "COLUMNS": "30", "STRATOS_TESTNETS": str(tmp_path)},
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
        os.close(theirs)
        shown = terminal.read(65_536).decode()
    assert run.returncode == 2
    assert "x" * 29 in shown and "x" * 30 not in shown
    assert shown.rpartition("\r\x1b[K")[2].startswith("stratosctl: ")
