"""The node's log: one JSON object per line in node.log, bounded in size, or on stdout for an engine or a journal to keep.

A fork parent or a shell may already have pointed stdout and stderr at the file; when it is rotated (node.log becomes
node.log.1) they are pointed at the new one, so that a crash's traceback is found where the log ends. Writing is
one `write` of one line: no buffer to lose, no thread. Keys and secrets are never logged.
"""

import os
import sys
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_encoder = msgspec.json.Encoder(enc_hook=repr)


class LogFile:
    """An append-only file with one older generation beside it."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    def write(self, line: bytes) -> None:
        """Append one line; a full disk loses the line, not the node."""
        if self._size + len(line) > self._max_bytes:
            self._rotate()
        try:
            self._size += os.write(self._descriptor, line)
        except OSError:
            return

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        old = os.fstat(self._descriptor)
        try:
            os.replace(self._path, self._path.with_name(self._path.name + ".1"))
            fresh = self._open()
        except OSError:
            self._size = 0  # tried, failed: go on in the same file and try again later
            return
        for stream in (1, 2):
            try:
                target = os.fstat(stream)
            except OSError:
                continue
            if (target.st_dev, target.st_ino) == (old.st_dev, old.st_ino):
                os.dup2(fresh, stream)
        os.close(self._descriptor)
        self._descriptor = fresh
        self._size = 0


class StandardOutput:
    """Descriptor 1: whoever reads it keeps and bounds the log."""

    def write(self, line: bytes) -> None:
        """Write one line; a reader that left loses the line, not the node."""
        try:
            os.write(1, line)
        except OSError:
            return


class _Logger:
    """What structlog writes to."""

    def __init__(self, file: LogFile | StandardOutput) -> None:
        self._file = file

    def msg(self, line: bytes) -> None:
        self._file.write(line)

    debug = info = warning = error = critical = exception = msg


def _render(_logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    now = time.time()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    record = {"time": f"{seconds}.{int(now * 1000) % 1000:03d}Z", "level": level, "event": event.pop("event", "")}
    record.update(event)
    return _encoder.encode(record) + b"\n"


def configure_log(path: Path | None, *, level: str, max_bytes: int, node: str) -> None:
    """Send every structlog logger of this process to `path`, or to stdout when it is None."""
    file = StandardOutput() if path is None else LogFile(path, max_bytes=max_bytes)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, _render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_args: _Logger(file),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(node=node)
    sys.stdout.flush()
