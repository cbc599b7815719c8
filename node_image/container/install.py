"""Installs the staged wheels into one folder while the image is built: standard library only, no network, no pip in the image.

Each wheel must be one that requirements.lock names by its hash, and there must be no other; what is never run (tests, C sources,
type stubs) is left out. Byte code is written once, unchecked against the sources' times, which layers of an image do not keep.
"""

import compileall
import hashlib
import py_compile
import re
import shutil
import sys
import zipfile
from pathlib import Path

UNUSED_SUFFIXES = (".c", ".h", ".cpp", ".hpp", ".pyx", ".pxd", ".pxi", ".pyi", ".in", ".html")
UNUSED_FOLDERS = ("SelfTest", "tests", "testing", "test")


def main(wheels: Path, lock: Path, target: Path) -> None:
    """Fill `target` with the packages of `wheels`."""
    known = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", lock.read_text(encoding="utf-8")))
    for wheel in sorted(wheels.glob("*.whl")):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in known:
            raise SystemExit(f"{wheel.name} is not what {lock.name} names; stage the wheels again")
        _unpack(wheel, target)
    _compile(target)


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.infolist(), key=lambda info: info.filename):
            parts = member.filename.split("/")
            if member.is_dir() or set(parts[:-1]) & set(UNUSED_FOLDERS) or parts[-1].endswith(UNUSED_SUFFIXES):
                continue
            if parts[0].endswith(".data"):
                raise SystemExit(f"{wheel.name} places {member.filename} outside its package, which is not supported")
            path = target.joinpath(*parts)
            if target not in path.resolve().parents:
                raise SystemExit(f"{wheel.name} holds a path outside its package: {member.filename!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _compile(folder: Path) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(folder, quiet=2, workers=1, invalidation_mode=mode):
        print(f"some files of {folder} are for other versions of Python and were not compiled", file=sys.stderr)


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:4]))
