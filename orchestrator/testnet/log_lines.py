"""Log lines of all nodes as one stream in order of time; following waits for new lines without missing a rotation.

Nodes write one JSON object a line with `timestamp` (ISO 8601) or `time_ms`; a line that is neither (a traceback) takes
the time of the line before it, so it stays where it belongs.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class LogLine(NamedTuple):
    """`time` is Unix seconds; `fields` the JSON object, or None for plain text."""

    time: float
    node: str
    text: str
    fields: dict[str, Any] | None


def merged(files: Mapping[str, Path], *, since: float = 0.0) -> Iterator[LogLine]:
    """All lines of the files by time."""
    return heapq.merge(*(_lines(node, path, since) for node, path in files.items()), key=lambda line: line.time)


def _lines(node: str, path: Path, since: float) -> Iterator[LogLine]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        before = 0.0
        for raw in file:
            line = parse(node, raw, before)
            before = line.time
            if line.time >= since:
                yield line


def parse(node: str, raw: bytes, before: float) -> LogLine:
    """One line; `before` is the time of the line before it."""
    text = raw.rstrip(b"\r\n").decode(errors="replace")
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return LogLine(before, node, text, None)
    return LogLine(_time_of(fields, before), node, text, fields)


def _time_of(fields: dict[str, Any], before: float) -> float:
    milliseconds = fields.get("time_ms")
    if isinstance(milliseconds, int):
        return milliseconds / 1000
    stamp = fields.get("timestamp") or fields.get("time") or fields.get("ts")
    if isinstance(stamp, int | float):
        return float(stamp)
    if isinstance(stamp, str):
        try:
            return datetime.fromisoformat(stamp).timestamp()
        except ValueError:
            return before
    return before


class Follower:
    """New lines of several files since the last look; a file that was replaced or cut is read from its start."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._places: dict[str, tuple[int, int]] = {}
        self._rest: dict[str, bytes] = {}
        self._last: dict[str, float] = {}
        for node, path in self._files.items():
            try:
                state = path.stat()
                self._places[node] = (state.st_ino, state.st_size)
            except FileNotFoundError:
                self._places[node] = (0, 0)

    def new_lines(self) -> list[LogLine]:
        """Whole lines written since the last call, by time."""
        found: list[LogLine] = []
        for node, path in self._files.items():
            for raw in self._read(node, path):
                line = parse(node, raw, self._last.get(node, 0.0))
                self._last[node] = line.time
                found.append(line)
        return sorted(found, key=lambda line: line.time)

    def _read(self, node: str, path: Path) -> list[bytes]:
        inode, place = self._places[node]
        try:
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                if state.st_ino != inode or state.st_size < place:
                    place = 0
                    self._rest[node] = b""
                file.seek(place)
                data = self._rest.get(node, b"") + file.read()
                self._places[node] = (state.st_ino, file.tell())
        except FileNotFoundError:
            return []
        *whole, self._rest[node] = data.split(b"\n")
        return whole
