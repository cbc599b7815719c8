"""The last step of the image's build: the node's own byte code, that of the standard library where it lacks, and the user.

Some bases come without byte code of the standard library, and on a read-only root file system none could ever be written: what a node
imports is compiled here. The user and group are lines in /etc/passwd and /etc/group, because a minimal base need not have the tools.
"""

import compileall
import importlib
import os
import py_compile
import sys
from pathlib import Path

LIBRARY = Path("/opt/stratos/lib")
HOME = Path("/home/stratos")
USER_ID = 10001


def main() -> None:
    """Compile, then add the user."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(LIBRARY / "stratos", quiet=1, workers=1, invalidation_mode=mode):
        raise SystemExit("the node's own sources do not compile with this base's Python; use Python 3.11 to 3.13")
    sys.path.insert(0, str(LIBRARY))
    importlib.import_module("stratos.node").preload()
    for module in list(sys.modules.values()):
        cached, source = getattr(module, "__cached__", None), getattr(module, "__file__", None)
        if cached and source and source.endswith(".py") and not Path(cached).exists():
            py_compile.compile(source, quiet=1, invalidation_mode=mode)
    _append(Path("/etc/passwd"), f"stratos:x:{USER_ID}:{USER_ID}:Stratos node:{HOME}:/usr/sbin/nologin")
    _append(Path("/etc/group"), f"stratos:x:{USER_ID}:")
    HOME.mkdir(mode=0o700, exist_ok=True)
    os.chown(HOME, USER_ID, USER_ID)


def _append(path: Path, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not any(one.startswith("stratos:") for one in lines):
        path.write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
