"""The command table finds, offers and runs commands, and every ending has its exit code."""

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.cli import exit_codes, main
from orchestrator.cli.termination import Terminated, sigterm_interrupts
from orchestrator.errors import BadInput, EnvironmentFault, PartialFailure, StratosctlError, VerdictFailed
from stratos.crypto.cid import CidError

ROWS = [row for rows in main.COMMANDS.values() for row in rows]


@pytest.fixture
def fake_command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of `cid`, with a `main` that a test may replace."""
    return importlib.import_module("orchestrator.cli.cid")


def test_help_lists_exactly_the_commands_that_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A row without its module is not offered; a row with it is, and exit codes are documented."""
    assert main.main(["--help"]) == exit_codes.OK
    listed = capsys.readouterr().out
    for row in ROWS:
        assert (f"\n  {row.name} " in listed) == (main._FOLDER / f"{row.module}.py").exists()
    for code in exit_codes.MEANINGS:
        assert f"\n  {code} " in listed


def test_help_of_a_command_is_that_commands_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`help tx send` says what `tx send --help` says, and of an unknown command that there is none."""
    with pytest.raises(SystemExit) as ending:
        main.main(["help", "tx", "send"])
    assert ending.value.code == exit_codes.OK
    assert capsys.readouterr().out.startswith("usage: stratosctl tx send ")
    assert main.main(["help", "qqqqqqqq"]) == exit_codes.BAD_INPUT


def test_output_that_cannot_be_written_is_one_sentence() -> None:
    """A full disk behind stdout is the environment's fault, and a closed stdout is nobody's."""
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "--version"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (exit_codes.ENVIRONMENT, 1)
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    run = subprocess.run(closed, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert (run.returncode, run.stderr) == (exit_codes.OK, "")


def test_sigterm_is_an_interruption_where_it_is_asked_for() -> None:
    """Within `sigterm_interrupts` the signal unwinds the command, so that it cleans up; afterwards all is as before."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_every_name_is_there_once() -> None:
    """No two rows share a name or a module."""
    assert len({row.name for row in ROWS}) == len({row.module for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    "row", [row for rows in main.offered().values() for row in rows], ids=lambda row: str(row.name)
)
def test_every_offered_command_has_help(row: main.Command, capsys: pytest.CaptureFixture[str]) -> None:
    """`stratosctl COMMAND --help` exits 0 and names the command as it is typed."""
    with pytest.raises(SystemExit) as ending:
        main.main([row.name, "--help"])
    assert ending.value.code == exit_codes.OK
    assert f"stratosctl {row.name}" in capsys.readouterr().out


def test_a_mistyped_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command is bad input, on stderr, with a suggestion when one is near."""
    assert main.main(["cdi"]) == exit_codes.BAD_INPUT
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "did you mean cid?" in heard.err
    assert main.main(["qqqqqqqq"]) == exit_codes.BAD_INPUT
    assert "--help" in capsys.readouterr().err


def test_no_command_is_bad_input_with_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    """Typing only the program's name shows what there is."""
    assert main.main([]) == exit_codes.BAD_INPUT
    assert "usage: stratosctl" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints one line."""
    assert main.main(["--version"]) == exit_codes.OK
    assert capsys.readouterr().out.startswith("stratosctl 0.")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (VerdictFailed("x differs"), 1),
        (BadInput("x is bad; use y"), 2),
        (EnvironmentFault("port taken; free it"), 3),
        (StratosctlError("something outside"), 3),
        (PartialFailure("half of it"), 4),
        (CidError("not a name"), 2),
        (OSError(28, "No space left on device", "/some/file"), 3),
        (OSError(28, "No space left on device"), 3),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (BrokenPipeError(), 141),
        (ZeroDivisionError("a defect"), 70),
    ],
)
def test_every_ending_has_its_code(
    raised: BaseException,
    code: int,
    fake_command: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Errors become one sentence on stderr and their exit code; only a defect shows a traceback."""

    def fail(argv: list[str]) -> int:
        raise raised

    monkeypatch.setattr(fake_command, "main", fail)
    if isinstance(raised, BrokenPipeError | OSError):
        monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main.main(["cid"]) == code
    heard = capfd.readouterr()
    assert heard.out == ""
    assert ("Traceback" in heard.err) == isinstance(raised, ZeroDivisionError)
    if isinstance(raised, StratosctlError):
        assert heard.err == f"stratosctl: {raised}\n"


def test_help_imports_no_command_and_nothing_heavy() -> None:
    """Start-up stays quick because the table is read without its modules."""
    program = (
        "import sys; from orchestrator.cli.main import main; main(['--help']); "
        "heavy = {'argparse', 'asyncio', 'msgspec', 'rich', 'typer', 'aiohttp', 'Crypto', 'coincurve', 'orchestrator.cli.cid'}; "
        "print('heavy:', *sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=300)
    assert run.stdout.endswith("heavy:\n")
