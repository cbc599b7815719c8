"""Imports of much code at once, for little: without garbage collection, and without packages nobody needs.

Libraries pick up some packages when they find them and do as well without.
structlog loads rich for tracebacks nobody prints (110 ms, 6 MiB in every node); pycryptodome parses C declarations with
cffi and pycparser at every start (40 ms) where ctypes calls the same functions at the same speed. While the block
runs, importing these fails, and the libraries take their plain way.

What an import makes stays for good. Looking for garbage in it costs a sixth of the import, and the interpreter walks over all
of it once more before it ends (30 ms); so the collector pauses meanwhile and never looks at what was loaded.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator

DISPENSABLE = ("rich", "cffi")


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Hide the dispensable packages, unless they are loaded already; collect no garbage, and freeze what is there after."""
    collecting = gc.isenabled()
    gc.disable()
    hidden = [name for name in DISPENSABLE if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        gc.freeze()
        if collecting:
            gc.enable()
