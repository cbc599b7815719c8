"""The node's entry: safe to fork after preloading, and every ending has its code and sentence."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stratos.ledger.rulebook import NEWEST_RULES, RulesSettingError, UnknownRules
from stratos.net.block_log import StoreMismatch
from stratos.net.rpc import PortInUse
from stratos.node import EXIT_DUTY, EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_STOPPED, DutyFailed, explain, main
from stratos.state.state import StateError
from stratos.wire.config import ConfigError
from stratos.wire.file_head import UnknownVersion


def test_preloading_opens_no_thread_socket_loop_or_file() -> None:
    """A parent may fork after `preload`: one thread, no descriptor more than before, no event loop."""
    program = (
        "import os, json\n"
        "before = set(os.listdir('/proc/self/fd'))\n"
        "import stratos.node, asyncio, threading\n"
        "stratos.node.preload()\n"
        "after = {fd: os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd')"
        " if fd not in before and os.path.exists('/proc/self/fd/' + fd)}\n"
        "try:\n"
        "    loop = asyncio.get_running_loop()\n"
        "except RuntimeError:\n"
        "    loop = None\n"
        "print(json.dumps([len(os.listdir('/proc/self/task')), threading.active_count(), after, loop is None]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    tasks, threads, opened, no_loop = json.loads(done.stdout)
    assert (tasks, threads, no_loop) == (1, 1, True)
    assert {path for path in opened.values() if not path.startswith("/proc/")} == set()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PortInUse(errno.EADDRINUSE, "cannot listen on h:1; choose another port"), EXIT_ENVIRONMENT, "another port"),
        (OSError(errno.ENOSPC, "No space left on device"), EXIT_ENVIRONMENT, "the disk is full; make room"),
        (Exception("IO error: No space left on device: While appending"), EXIT_ENVIRONMENT, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/data"), EXIT_ENVIRONMENT, "/x/data"),
        (ConfigError("config.json has no field name"), EXIT_INPUT, "no field name"),
        (StoreMismatch("the store is of network a"), EXIT_INPUT, "of network"),
        (StateError("data/chain has store version '9' and this program reads '1'"), EXIT_INPUT, "store version"),
        (UnknownVersion("data/wal has version 9"), EXIT_INPUT, "has version 9"),
        (UnknownRules(3, 70, 2), EXIT_INPUT, "install an image with rules version >= 3"),
        (RulesSettingError("STRATOS_RULES_UP_TO is 'x'"), EXIT_INPUT, "STRATOS_RULES_UP_TO"),
        (StateError("cannot open the store; is another process using it?"), EXIT_ENVIRONMENT, "another process"),
        (ValueError("a bug"), EXIT_DUTY, "ValueError: a bug"),
        (TimeoutError(), EXIT_DUTY, "TimeoutError"),  # it names no fault of the machine
    ],
)
def test_every_ending_has_a_code_and_a_sentence(error: Exception, code: int, words: str) -> None:
    """Also when a guarded duty carried it up."""
    carried = DutyFailed(f"x failed: {error}")
    carried.__cause__ = error
    for one in (error, carried):
        found, sentence = explain(one)
        assert found == code
        assert words in sentence or code == EXIT_DUTY
        assert "\n" not in sentence


def test_a_home_without_files_is_bad_input(tmp_path: Path) -> None:
    """`stratosd run` on an empty folder: code 2 and what to do."""
    done = subprocess.run(
        [sys.executable, "-m", "stratos.node", "run", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == EXIT_INPUT
    assert "config.json" in done.stderr
    assert "give the home directory of a node" in done.stderr


def test_the_program_says_its_version_and_the_rules_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """What an operator compares before an upgrade."""
    assert main(["--version"]) == EXIT_STOPPED
    words = capsys.readouterr().out.split()
    assert words[0] == "stratosd"
    assert words[-3:-1] == ["ledger", "rules"]
    assert int(words[-1]) >= 1


def test_a_command_line_without_a_command_is_refused() -> None:
    """As any other that says nothing useful: code 2."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == EXIT_INPUT


@pytest.mark.parametrize(
    ("up_to", "code", "words"), [("", 0, f"ledger rules {NEWEST_RULES}\n"), ("1", 0, "ledger rules 1\n"), ("x", 2, "")]
)
def test_the_version_names_the_newest_rules(up_to: str, code: int, words: str) -> None:
    """`stratosd --version` says what the program applies, as far as it may claim to."""
    done = subprocess.run(
        [sys.executable, "-m", "stratos.node", "--version"],
        env={**os.environ, "STRATOS_RULES_UP_TO": up_to},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code
    assert words in done.stdout
    assert ("STRATOS_RULES_UP_TO is 'x'" in done.stderr) == (code == 2)
