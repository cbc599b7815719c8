"""What the engine is sent to build from: one deterministic tar, and what identifies the sources in it.

The same files give the same bytes: names in order, no times, no owners, modes 0644 or 0755. Byte code, caches and editors' leftovers are
not sources. The digest covers what is built (sources, lock, recipe) and what the user chose, not what the choice led to, so
that "nothing changed" is known without asking anything.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec

from orchestrator.errors import BadInput

_FIXED = ("Dockerfile", "requirements.lock")
_FOLDERS = ("container", "stratos")
_SKIPPED = ("__pycache__", ".mypy_cache", ".ruff_cache")


def source_files(root: Path) -> dict[str, Path]:
    """Path in the context -> file, of everything the image is made of but wheels, in order."""
    files = {name: root / name for name in _FIXED}
    for folder in _FOLDERS:
        for path in (root / folder).rglob("*"):
            parts = path.relative_to(root).parts
            if (
                path.is_file()
                and not set(parts) & set(_SKIPPED)
                and path.suffix != ".pyc"
                and not path.name.startswith(".")
            ):
                files["/".join(parts)] = path
    if missing := [str(path) for path in files.values() if not path.is_file()]:
        raise BadInput(f"{missing[0]} is missing; the checkout is not whole, or this is not one")
    return dict(sorted(files.items()))


def source_digest(files: Mapping[str, Path], choices: Mapping[str, str]) -> str:
    """64 hex digits of contents, modes and the user's choices."""
    total = hashlib.sha256(msgspec.json.encode(choices, order="sorted"))
    for name, path in files.items():
        total.update(f"\0{name}\0{_mode(path):o}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def write_context(
    target: IO[bytes], files: Mapping[str, Path], *, wheels: Path, sbom: bytes, environment: Mapping[str, str]
) -> None:
    """Write the tar; `environment` becomes ENV lines at the end of the Dockerfile."""
    content = {name: (path.read_bytes(), _mode(path)) for name, path in files.items()}
    dockerfile = (
        content["Dockerfile"][0]
        + "".join(f"ENV {key}={value}\n" for key, value in sorted(environment.items())).encode()
    )
    content["Dockerfile"] = (dockerfile, 0o644)
    content["sbom.json"] = (sbom, 0o644)
    content |= {f"wheels/{wheel.name}": (wheel.read_bytes(), 0o644) for wheel in wheels.iterdir()}
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, (data, mode) in sorted(content.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))


def revision(root: Path) -> str:
    """The commit that last touched the folder `root`, with `-dirty` when it holds changes since; `unknown` outside git."""
    commit = _git(root, "log", "-1", "--format=%H", "--", ".")
    changes = _git(root, "status", "--porcelain", "--", ".")
    if not commit or changes is None:
        return "unknown"
    return commit + ("-dirty" if changes else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], check=False, cwd=root, capture_output=True, stdin=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
