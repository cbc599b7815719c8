"""What a node's earlier containers wrote: an engine forgets the log of a container with the container, so it is kept in the
node's home of the testnet's folder, up to a size."""

from __future__ import annotations

import time
from pathlib import Path

KEPT_LOG = "node.log"
KEPT_LOG_BYTES = 16 * 1024 * 1024


def keep_log(home: Path, log: bytes) -> None:
    """Add the log of a container that goes; nothing for a node without a home."""
    if not log or not home.is_dir():
        return
    kept = home / KEPT_LOG
    with kept.open("ab") as file:
        file.write(log)
    if kept.stat().st_size > KEPT_LOG_BYTES:
        kept.write_bytes(kept.read_bytes()[-KEPT_LOG_BYTES:].partition(b"\n")[2])


def kept_log(home: Path, *, since: float = 0.0) -> bytes:
    """The lines that were kept, of those written since a Unix time."""
    try:
        kept = (home / KEPT_LOG).read_bytes()
    except FileNotFoundError:
        return b""
    if not since:
        return kept
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)).encode()
    return b"".join(line for line in kept.splitlines(keepends=True) if line[9:28] >= moment)
