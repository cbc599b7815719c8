"""The last step of the image's build: byte code, the pack of modules that nodes start from (see stratosd), and the user.

Some bases come without byte code of the standard library, and on a read-only root file system none could ever be written: what a node
imports is compiled here, and put into one file beside. The user and group are lines in /etc/passwd and /etc/group, because a minimal base need not have the tools.
"""

import compileall
import importlib
import marshal
import os
import py_compile
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

LIBRARY = Path("/opt/stratos/lib")
PACK = Path("/opt/stratos/modules.pack")
PROGRAM = Path("/usr/local/bin/stratosd")
ALSO_IMPORTED = ("argparse", "encodings.idna", "http.cookies", "inspect", "traceback")
"""What a node imports later than its rooms."""
HOME = Path("/home/stratos")
USER_ID = 10001


def main() -> None:
    """Compile, pack, then add the user."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(LIBRARY / "stratos", quiet=1, workers=1, invalidation_mode=mode):
        raise SystemExit("the node's own sources do not compile with this base's Python; use Python 3.11 to 3.13")
    sys.path.insert(0, str(LIBRARY))
    sys.modules["cffi"] = None  # type: ignore[assignment] # as in stratosd
    importlib.import_module("stratos.node").preload()
    for name in ALSO_IMPORTED:
        importlib.import_module(name)
    _pack()
    program = PROGRAM.read_text(encoding="utf-8")
    PROGRAM.write_text(program.replace("#!python3", f"#!{os.path.realpath(sys.executable)}", 1), encoding="utf-8")
    _append(Path("/etc/passwd"), f"stratos:x:{USER_ID}:{USER_ID}:Stratos node:{HOME}:/usr/sbin/nologin")
    _append(Path("/etc/group"), f"stratos:x:{USER_ID}:")
    HOME.mkdir(mode=0o700, exist_ok=True)
    os.chown(HOME, USER_ID, USER_ID)


def _pack() -> None:
    """Write the code of every module that came from a source: length of the index, index, code after code."""
    index: dict[str, tuple[str, bool, int, int]] = {}
    code = bytearray()
    for name, module in list(sys.modules.items()):  # in the order of their imports, as they will be read
        spec = getattr(module, "__spec__", None)
        loader = getattr(spec, "loader", None)
        if name == "__main__" or not isinstance(loader, SourceFileLoader) or spec.name != name:
            continue
        data = marshal.dumps(loader.get_code(name))
        index[name] = (spec.origin, spec.submodule_search_locations is not None, len(code), len(data))
        code += data
    head = marshal.dumps(index)
    PACK.write_bytes(len(head).to_bytes(8, "little") + head + code)


def _append(path: Path, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not any(one.startswith("stratos:") for one in lines):
        path.write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
