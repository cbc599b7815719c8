"""Homes on this machine's disk: files that are written only when they differ, and whole or not at all.

The process runtime's nodes live in them. For containers and machines they are the controller's record of what was
placed last, with which a plan is compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from orchestrator.runtimes.protocol import NodeFiles

SECRETS_OF_SOME = ("faucet.key",)
"""Secrets that only some nodes are given: a node that is no longer one of them loses its copy."""


def place_homes(nodes_folder: Path, nodes: Iterable[NodeFiles]) -> frozenset[str]:
    """Write the files that are missing or differ, each by rename; names of the nodes that had any."""
    changed = set()
    for node in nodes:
        home = nodes_folder / node.name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for relative, content in node.files.items():
            path = home / relative
            try:
                if path.read_bytes() == content:
                    continue
            except FileNotFoundError:
                pass
            replace_file(path, content)
            changed.add(node.name)
        for relative in SECRETS_OF_SOME:
            if relative not in node.files and (home / relative).exists():
                (home / relative).unlink()
                changed.add(node.name)
    return frozenset(changed)


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` under another name with mode 0600 and rename it into place."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
