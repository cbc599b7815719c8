"""Makes the virtual environment from the committed lock files.

Run by the `stratosctl` script with whatever Python it found, before anything is installed, so this file
imports the standard library only; `stratosctl test` imports it again to add the development lock.

Two set-ups started at once take turns on one flock, which the kernel drops when its holder dies. The record that an
environment is complete (a copy of the lock file and the place it was made in, under `.venv/.stratos`) is written last,
so a set-up killed at any instant leaves an environment that the next run sees as unfinished and makes anew.
The two packages of this repository are put on the path by one .pth file: no build, no network. Their byte code is written
as pip writes that of what it installs, so the first command is as quick as the next.
All output goes to stderr.
"""

from __future__ import annotations

import argparse
import collections
import compileall
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

RUNTIME_LOCK = "requirements.lock"
DEVELOPMENT_LOCK = "requirements-dev.lock"
PACKAGE_FOLDERS = (".", "node_image")
PROGRAMS = {"stratosctl": "orchestrator.cli.main", "stratosd": "stratos.node"}
EXIT_ENVIRONMENT = 3


class SetupError(Exception):
    """The environment could not be made; the text is one sentence with the fix."""


def prepare(root: Path, *, development: bool = False) -> Path:
    """Make or complete the environment of the checkout `root`; return its Python."""
    environment = root / ".venv"
    python = environment / "bin" / "python"
    with _one_at_a_time(root):
        if not _is_complete(root, environment):
            started = time.monotonic()
            _say(f"setting up .venv with Python {sys.version.split()[0]} from {RUNTIME_LOCK} (once; a minute or two)")
            _make(root, environment)
            _say(f"set-up done in {time.monotonic() - started:.0f} s")
        if development and not _same(root / DEVELOPMENT_LOCK, _stamp(environment) / DEVELOPMENT_LOCK):
            _say(f"adding test and lint packages from {DEVELOPMENT_LOCK} (once)")
            unfinished = _stamp(environment) / "unfinished"
            unfinished.touch()
            _install(python, root / DEVELOPMENT_LOCK)
            _copy_atomically(root / DEVELOPMENT_LOCK, _stamp(environment) / DEVELOPMENT_LOCK)
            unfinished.unlink()
    return python


def development_is_ready(root: Path) -> bool:
    """Whether the environment already holds the development lock."""
    return _same(root / DEVELOPMENT_LOCK, _stamp(root / ".venv") / DEVELOPMENT_LOCK)


def locked_packages(lock: Path) -> list[str]:
    """Names pinned in a lock file, in file order (a name with two markers counts once)."""
    names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    return list(dict.fromkeys(names))


def _make(root: Path, environment: Path) -> None:
    if Path(sys.prefix) == environment:
        raise SetupError(f"{environment} is out of date and cannot be remade from inside; run ./stratosctl instead.")
    if environment.is_symlink():
        environment.unlink()
    elif environment.exists():
        discarded = environment.with_name(f".venv.old-{os.getpid()}")
        environment.rename(discarded)
    for leftover in root.glob(".venv.old-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-I", "-m", "venv", str(environment)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode != 0:
        reason = (made.stdout.strip().splitlines() or ["no output"])[-1]
        raise SetupError(
            f"{sys.executable} could not make {environment} ({reason}); check the disk and the venv module."
        )
    python = environment / "bin" / "python"
    _install(python, root / RUNTIME_LOCK)
    _link_packages(root, environment)
    _compile_packages(root)
    stamp = _stamp(environment)
    stamp.mkdir()
    # The second line is what STRATOS_PYTHON said, so that naming another interpreter makes the environment anew.
    (stamp / "made").write_text(f"{root}\n{os.environ.get('STRATOS_PYTHON', '')}\n", encoding="utf-8")
    _copy_atomically(root / RUNTIME_LOCK, stamp / RUNTIME_LOCK)


def _install(python: Path, lock: Path) -> None:
    total = len(locked_packages(lock))
    # The lock is complete and hashed, so pip need not resolve; wheels only, so nothing is ever compiled here.
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--progress-bar", "off", "-r", str(lock)]
    tail: collections.deque[str] = collections.deque(maxlen=8)
    seen = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            tail.append(line.rstrip())
            if line.startswith("Collecting "):
                seen += 1
                _progress(f"{seen}/{total} {line.split()[1].split('=')[0]}")
            elif line.startswith("Installing collected packages"):
                _progress(f"installing {total} packages")
    _progress("")
    if pip.returncode != 0:
        for line in tail:
            print(f"  pip: {line}", file=sys.stderr)
        raise SetupError(
            f"pip could not install {lock.name} (above: its last lines); check the network, the proxy (PIP_CERT, "
            "HTTPS_PROXY) and the disk, then run the same command again."
        )


def _link_packages(root: Path, environment: Path) -> None:
    (site_packages,) = environment.glob("lib/python3.*/site-packages")
    lines = [str((root / folder).resolve()) for folder in PACKAGE_FOLDERS]
    (site_packages / "stratos-checkout.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for program, module in PROGRAMS.items():
        path = environment / "bin" / program
        path.write_text(
            f"#!{environment}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n", encoding="utf-8"
        )
        path.chmod(0o755)


def _compile_packages(root: Path) -> None:
    """Write the byte code of this repository's packages; what cannot be written is compiled when it is imported."""
    for folder in PACKAGE_FOLDERS:
        for package in (root / folder).glob("*/__init__.py"):
            compileall.compile_dir(package.parent, quiet=2)


def _is_complete(root: Path, environment: Path) -> bool:
    stamp = _stamp(environment)
    if (stamp / "unfinished").exists() or not os.access(environment / "bin" / "python", os.X_OK):
        return False
    try:
        made_in, made_by = (stamp / "made").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    wanted = os.environ.get("STRATOS_PYTHON", "")
    return made_in == str(root) and wanted in ("", made_by) and _same(root / RUNTIME_LOCK, stamp / RUNTIME_LOCK)


def _stamp(environment: Path) -> Path:
    return environment / ".stratos"


def _same(left: Path, right: Path) -> bool:
    try:
        return left.read_bytes() == right.read_bytes()
    except OSError:
        return False


def _copy_atomically(source: Path, target: Path) -> None:
    temporary = target.with_name(target.name + ".new")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    with (root / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another set-up of this checkout is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"stratosctl: {text}", file=sys.stderr, flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K  {text}" if text else "\r\x1b[K", end="", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Prepare the checkout named on the command line; 0, or 3 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="bootstrap")
    parser.add_argument("root", type=Path)
    parser.add_argument("--development", action="store_true")
    options = parser.parse_args(argv)
    try:
        prepare(options.root.resolve(), development=options.development)
    except SetupError as error:
        _say(str(error))
        return EXIT_ENVIRONMENT
    except OSError as error:
        _say(f"set-up failed: {error}; check the disk and the folder's permissions, then run the same command again.")
        return EXIT_ENVIRONMENT
    except KeyboardInterrupt:
        _say("set-up interrupted; the next run starts it again")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
