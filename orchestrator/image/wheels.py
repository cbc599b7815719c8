"""Stages the node's locked wheels for one Python and platform in a folder, by this tool's own pip, with every hash checked.

The base's Python need not be the one that runs this tool, so markers are evaluated here for the base and pip is told version and platform.
A complete folder is kept under `build/wheels/` and used again; one that was interrupted is made anew, because it gets its
name last.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.image.base import Base
from orchestrator.image.lock import Locked, for_environment, read_lock
from orchestrator.image.rootfs import Say

_OLDEST_GLIBC = 5
_LEGACY = ("manylinux2014", "manylinux2010", "manylinux1", "linux")


def locked_for(lock: Path, base: Base) -> tuple[Locked, ...]:
    """The lock's entries that a node on this base needs."""
    version = ".".join(base.python.split(".")[:2])
    environment = {
        "python_version": version,
        "python_full_version": base.python,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": base.machine,
    }
    return for_environment(read_lock(lock), environment)


def stage_wheels(lock: Path, base: Base, *, store: Path, say: Say) -> Path:
    """The folder with exactly the wheels of `locked_for(lock, base)`; raises EnvironmentFault when pip cannot get one."""
    entries = locked_for(lock, base)
    version = "".join(base.python.split(".")[:2])
    pinned = "".join(
        f"{entry.name}=={entry.version} {' '.join(f'--hash=sha256:{digest}' for digest in entry.hashes)}\n"
        for entry in entries
    )
    digest = hashlib.sha256(pinned.encode()).hexdigest()[:16]
    folder = store / f"cp{version}-{base.machine}-{base.glibc[0]}.{base.glibc[1]}-{digest}"
    if folder.is_dir():
        return folder
    say(f"fetching {len(entries)} wheels for Python {base.python} on {base.machine}")
    store.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=store))
    try:
        requirements = unfinished / "requirements.txt"
        requirements.write_text(pinned, encoding="utf-8")
        wheels = unfinished / "wheels"
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ]
        command += ["--require-hashes", "--only-binary", ":all:", "--progress-bar", "off", "--implementation", "cp"]
        command += [
            "--python-version",
            version,
            *(f"--platform={tag}" for tag in platforms(base)),
            "--dest",
            str(wheels),
        ]
        done = subprocess.run(
            [*command, "-r", str(requirements)], check=False, stdin=subprocess.DEVNULL, capture_output=True
        )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EnvironmentFault(
                f"pip could not fetch the node's wheels ({lines[-1][:300]}); check the network and the proxy (PIP_CERT, HTTPS_PROXY)"
            )
        try:
            os.rename(wheels, folder)
        except OSError:
            if not folder.is_dir():  # else somebody else was quicker with the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def platforms(base: Base) -> list[str]:
    """The platform tags that a glibc of this version can load, newest first."""
    major, minor = base.glibc
    modern = [f"manylinux_{major}_{step}_{base.machine}" for step in range(minor, _OLDEST_GLIBC - 1, -1)]
    return [*modern, *(f"{tag}_{base.machine}" for tag in _LEGACY)]
