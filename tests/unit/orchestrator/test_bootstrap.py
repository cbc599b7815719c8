"""A checkout makes its environment once, finishes what was interrupted, and says what is missing.

Each test works in a copy of the bootstrap whose lock pins one tiny wheel made on the spot, so real environments are made
without network. Questions of "is it complete?" are asked of a mock-up of an environment, because a real one takes seconds.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import bootstrap

ROOT = Path(__file__).resolve().parents[3]
BASE_PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the real bootstrap, a one-package lock and a command line that prints its arguments."""
    root = tmp_path / "a checkout"
    (root / "orchestrator" / "cli").mkdir(parents=True)
    shutil.copy(ROOT / "stratosctl", root)
    shutil.copy(ROOT / "orchestrator" / "bootstrap.py", root / "orchestrator")
    for package in ("orchestrator", "orchestrator/cli"):
        (root / package / "__init__.py").touch()
    (root / "orchestrator" / "cli" / "main.py").write_text(
        "import sys, tiny\ndef main():\n    print(*sys.argv[1:], tiny.WORD)\n    return 7\n"
    )
    digest = hashlib.sha256(make_wheel(root).read_bytes()).hexdigest()
    (root / bootstrap.RUNTIME_LOCK).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (root / bootstrap.DEVELOPMENT_LOCK).write_text(f"# more\ntiny==1.0 --hash=sha256:{digest}\n")
    return root


def make_wheel(folder: Path) -> Path:
    """A wheel of the one-module distribution `tiny`."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "WORD = 'from tiny'\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    return path


def variables_of(checkout: Path) -> dict[str, str]:
    """An environment with this test's Python first on the PATH and the tiny wheel in place of an index."""
    path = f"{BASE_PYTHON.parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(checkout), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": checkout.as_uri()}


def run(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the checkout's stratosctl from another folder."""
    environment = {**variables_of(checkout), **variables}
    command = [str(checkout / "stratosctl"), *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300)


def pins(lock: Path) -> set[str]:
    """Every `name==version ; marker` of a lock file."""
    return set(re.findall(r"^(\S+==\S+(?: ;[^\\\n]*)?)", lock.read_text(), re.MULTILINE))


def test_the_development_lock_is_a_superset() -> None:
    """Installing the development lock changes no package that the program runs with."""
    runtime, development = pins(ROOT / bootstrap.RUNTIME_LOCK), pins(ROOT / bootstrap.DEVELOPMENT_LOCK)
    assert len(runtime) > 50
    # Conditions are written in other words where a development package wants the same one elsewhere too.
    assert {pin.partition(" ;")[0] for pin in runtime} <= {pin.partition(" ;")[0] for pin in development}
    assert len(development) > len(runtime)


def test_every_locked_package_has_hashes() -> None:
    """No pin comes without a hash."""
    for lock in (bootstrap.RUNTIME_LOCK, bootstrap.DEVELOPMENT_LOCK):
        text = (ROOT / lock).read_text()
        entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)
        assert len(bootstrap.locked_packages(ROOT / lock)) > 50


def test_set_up_once_then_never_again(checkout: Path) -> None:
    """The first run makes the environment, quiet on stdout; the next does nothing; development packages are added once."""
    first = run(checkout, "say", "one two")
    assert (first.stdout, first.returncode) == ("say one two from tiny\n", 7), first.stderr
    assert "setting up" in first.stderr

    link = checkout.with_name("link")
    link.symlink_to(checkout / "stratosctl")
    again = subprocess.run([str(link), "x"], env=variables_of(checkout), capture_output=True, text=True, timeout=300)
    assert (again.stdout, again.stderr, again.returncode) == ("x from tiny\n", "", 7)

    command = [str(BASE_PYTHON), "-I", str(checkout / "orchestrator" / "bootstrap.py"), str(checkout), "--development"]
    added = subprocess.run(command, env=variables_of(checkout), capture_output=True, text=True, timeout=300)
    assert (added.returncode, "adding test" in added.stderr) == (0, True), added.stderr
    assert bootstrap.development_is_ready(checkout)
    added = subprocess.run(command, env=variables_of(checkout), capture_output=True, text=True, timeout=300)
    assert (added.returncode, added.stderr) == (0, "")


def test_byte_code_is_kept_whatever_the_environment_says(checkout: Path) -> None:
    """Set-up compiles the packages, and a changed module is compiled once more, also where Python is told to keep nothing."""
    module = checkout / "orchestrator" / "cli" / "main.py"
    compiled = module.parent / "__pycache__" / f"main.{sys.implementation.cache_tag}.pyc"
    made = run(checkout, "setup", PYTHONDONTWRITEBYTECODE="1")
    assert made.returncode == 7, made.stderr
    untouched = checkout / "orchestrator" / "__pycache__" / f"bootstrap.{sys.implementation.cache_tag}.pyc"
    assert untouched.exists()  # no command imports it
    before = compiled.read_bytes()
    module.write_text(module.read_text() + "# changed\n")
    run(checkout, "again", PYTHONDONTWRITEBYTECODE="1")
    assert compiled.read_bytes() != before


def touch_nothing(checkout: Path) -> None:
    """Leave it whole."""


def change_the_lock(checkout: Path) -> None:
    """As after a pull that brought another lock."""
    (checkout / bootstrap.RUNTIME_LOCK).write_text("other==1.0\n")


def forget_the_stamp(checkout: Path) -> None:
    """As after a kill before the last step."""
    (checkout / ".venv" / ".stratos" / bootstrap.RUNTIME_LOCK).unlink()


def leave_development_unfinished(checkout: Path) -> None:
    """As after a kill while development packages were added."""
    (checkout / ".venv" / ".stratos" / "unfinished").touch()


def move_the_checkout(checkout: Path) -> None:
    """As after the folder was renamed: scripts in the environment name the old place."""
    (checkout / ".venv" / ".stratos" / "made").write_text("/elsewhere\n\n")


def spoil_the_record(checkout: Path) -> None:
    """As after a torn write."""
    (checkout / ".venv" / ".stratos" / "made").write_text("")


def remove_the_interpreter(checkout: Path) -> None:
    """As after the Python it was made with was uninstalled."""
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").symlink_to("/nonexistent/python3")


@pytest.mark.parametrize(
    "spoil",
    [
        touch_nothing,
        change_the_lock,
        forget_the_stamp,
        leave_development_unfinished,
        move_the_checkout,
        spoil_the_record,
        remove_the_interpreter,
    ],
)
def test_only_a_whole_environment_is_used(
    checkout: Path, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script and the bootstrap agree on what is whole: anything else is made anew."""
    monkeypatch.delenv("STRATOS_PYTHON", raising=False)
    (checkout / "orchestrator" / "bootstrap.py").write_text("print('made anew')\nraise SystemExit(9)\n")
    (checkout / ".venv" / ".stratos").mkdir(parents=True)
    (checkout / ".venv" / "bin").mkdir()
    (checkout / ".venv" / "bin" / "python").symlink_to("/bin/echo")
    (checkout / ".venv" / ".stratos" / "made").write_text(f"{checkout}\n\n")
    shutil.copy(checkout / bootstrap.RUNTIME_LOCK, checkout / ".venv" / ".stratos")
    spoil(checkout)
    whole = spoil is touch_nothing
    assert bootstrap._is_complete(checkout, checkout / ".venv") == whole
    assert (run(checkout).stdout == "made anew\n") != whole
    assert run(checkout, STRATOS_PYTHON=str(BASE_PYTHON)).stdout == "made anew\n"


def test_killed_set_up_is_finished_by_the_next_run(checkout: Path) -> None:
    """SIGKILL in the middle leaves an environment that nobody takes for whole."""
    setup = subprocess.Popen(
        [str(checkout / "stratosctl")],
        env=variables_of(checkout),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (checkout / ".venv" / "bin").exists():
        assert time.monotonic() < deadline
        assert setup.poll() is None
    os.killpg(setup.pid, signal.SIGKILL)
    setup.wait()
    assert not (checkout / ".venv" / ".stratos" / bootstrap.RUNTIME_LOCK).exists()
    after = run(checkout, "fine")
    assert (after.stdout, after.returncode) == ("fine from tiny\n", 7), after.stderr


def test_two_at_once_take_turns(checkout: Path) -> None:
    """Two first runs started together both work, and the environment is made once."""
    both = [
        subprocess.Popen(
            [str(checkout / "stratosctl"), name],
            env=variables_of(checkout),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    heard = [process.communicate(timeout=300) for process in both]
    assert [out for out, _ in heard] == ["a from tiny\n", "b from tiny\n"]
    assert sum("setting up" in err for _, err in heard) == 1


def test_a_package_that_is_not_the_locked_one_is_refused(checkout: Path) -> None:
    """A wheel with another hash than the lock's stops the set-up with pip's words, one sentence, and code 3."""
    (checkout / bootstrap.RUNTIME_LOCK).write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    refused = run(checkout)
    assert refused.returncode == 3
    assert "hash" in refused.stderr.lower()
    assert "pip could not install requirements.lock" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("said", ["no Python 3.11, 3.12 or 3.13 was found", "not a Python 3.11", "python3.12-venv"])
def test_missing_parts_are_named_with_the_fix(checkout: Path, tmp_path: Path, said: str) -> None:
    """No Python, a wrong STRATOS_PYTHON, or a Python without venv: one sentence, exit code 3."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cmp", "readlink"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    variables = {"PATH": str(tools)}
    if said.startswith("not a"):
        variables["STRATOS_PYTHON"] = "python2"
    if said.startswith("python3.12"):
        (tools / "python3.12").write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac\n')
        (tools / "python3.12").chmod(0o755)
    refused = run(checkout, **variables)
    assert refused.returncode == 3
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
