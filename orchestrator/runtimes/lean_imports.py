"""Imports without the packages that libraries pick up when they find them and do as well without.

structlog loads rich for tracebacks nobody prints (110 ms, 6 MiB in every node); pycryptodome parses C declarations with
cffi and pycparser at every start (40 ms) where ctypes calls the same functions at the same speed. While the block
runs, importing these fails, and the libraries take their plain way.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

DISPENSABLE = ("rich", "cffi")


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Hide the dispensable packages, unless they are loaded already."""
    hidden = [name for name in DISPENSABLE if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
