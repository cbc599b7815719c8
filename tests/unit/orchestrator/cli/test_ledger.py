"""`stratosctl ledger replay` as a person or a script meets it."""

import io
import json
from pathlib import Path

import pytest

from orchestrator.cli.main import main

SCRIPT = {
    "genesis": {"accounts": {"alice": "5"}},
    "steps": [{"do": "query", "what": "bank/balances/alice"}, {"do": "prepay", "from": "alice", "amount": "1"}],
}


def test_a_script_prints_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, also when steps are refused."""
    path = tmp_path / "script.json"
    path.write_text(json.dumps(SCRIPT))
    assert main(["ledger", "replay", str(path)]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert steps[0] == {"ok": True, "result": "5"}
    assert (steps[1]["ok"], steps[1]["code"]) == (False, "ozone_limit")


def test_a_script_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-` reads standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(SCRIPT).encode())))
    assert main(["ledger", "replay", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 2


@pytest.mark.parametrize("text", ['{"steps": [{"do": "fly"}]}', "nonsense", ""])
def test_a_malformed_script_is_one_sentence_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Nothing on standard output, the reason on standard error."""
    path = tmp_path / "script.json"
    path.write_text(text)
    assert main(["ledger", "replay", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("stratosctl: ")


def test_a_missing_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 with the path."""
    assert main(["ledger", "replay", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_help_shows_a_whole_script(capsys: pytest.CaptureFixture[str]) -> None:
    """The help can be copied from."""
    with pytest.raises(SystemExit) as ended:
        main(["ledger", "--help"])
    assert ended.value.code == 0
    assert '"do": "volume_report"' in capsys.readouterr().out
