"""Logs of nodes wherever they run, as one stream in order of time, filtered; and what is new since the last look.

Processes write files, which are followed as files. Containers and machines are asked: every node at once, each time for what it wrote since the
last line we have of it. Engines and journals count in whole seconds, so the last second is asked again and what was shown already is left out.
A node that cannot be asked is named with its reason, once, and the others go on.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator.errors import StratosctlError
from orchestrator.runtimes.process import ProcessRuntime
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.log_lines import Follower, LogLine, merged, parse

LEVELS = ("debug", "info", "warning", "error", "critical")
AT_ONCE = 16
OVERLAP_SECONDS = 1.0


class LineFilter:
    """Which lines are wanted. A line that is plain text (of a traceback) belongs to its node's line before it."""

    def __init__(self, *, since: float = 0.0, level: str = "debug", pattern: re.Pattern[str] | None = None) -> None:
        self._since = since
        self._lowest = LEVELS.index(level)
        self._pattern = pattern
        self._last: dict[str, bool] = {}

    def wants(self, line: LogLine) -> bool:
        """Whether to show the next line of its node."""
        if line.fields is None:
            wanted = self._last.get(line.node, self._lowest == 0 and self._matches(line))
        else:
            wanted = self._high_enough(line) and self._matches(line)
            self._last[line.node] = wanted
        return wanted and line.time >= self._since

    def _high_enough(self, line: LogLine) -> bool:
        said = str((line.fields or {}).get("level", "")).lower()
        said = "warning" if said == "warn" else said
        return said not in LEVELS or LEVELS.index(said) >= self._lowest

    def _matches(self, line: LogLine) -> bool:
        return self._pattern is None or self._pattern.search(line.text) is not None


class LogReader:
    """Logs of some nodes of one testnet. `problems`: nodes that could not be asked, and why."""

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self._runtime = runtime
        self._names = tuple(names)
        self.problems: dict[str, str] = {}
        self._files: Mapping[str, Path] | None = None
        self._follower: Follower | None = None
        if isinstance(runtime, ProcessRuntime):
            self._files = {name: runtime.log(name) for name in self._names}
        self._newest: dict[str, float] = {}
        self._shown: dict[str, Counter[str]] = {}

    def so_far(self, *, since: float = 0.0) -> Iterator[LogLine]:
        """Every line there is, by time, and the place from which `new` goes on."""
        if self._files is not None:
            self._follower = Follower(self._files)
            return merged(self._files, since=since)
        streams = self._ask(dict.fromkeys(self._names, since))
        for name, lines in streams.items():
            self._remember(name, lines)
        return heapq.merge(*streams.values(), key=lambda line: line.time)

    def new(self) -> list[LogLine]:
        """Lines written since the last call (or since `so_far`), by time."""
        if self._follower is not None:
            return self._follower.new_lines()
        found: list[LogLine] = []
        asked = {name: max(0.0, self._newest.get(name, 0.0) - OVERLAP_SECONDS) for name in self._names}
        for name, lines in self._ask(asked).items():
            before = self._shown.get(name, Counter())
            fresh = []
            for line in lines:
                if before[line.text] > 0 and line.time <= self._newest.get(name, 0.0):
                    before[line.text] -= 1
                else:
                    fresh.append(line)
            self._remember(name, lines)
            found += fresh
        return sorted(found, key=lambda line: line.time)

    def _ask(self, since: Mapping[str, float]) -> dict[str, list[LogLine]]:
        """name -> its lines since then, all nodes at once."""

        def one(name: str) -> bytes | StratosctlError:
            try:
                return self._runtime.read_log(name, since=since[name])
            except StratosctlError as error:
                return error

        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(since)))) as pool:
            answers = dict(zip(since, pool.map(one, since), strict=True))
        found = {}
        for name, answer in answers.items():
            if isinstance(answer, bytes):
                found[name] = list(lines_of(name, answer))
            else:
                self.problems.setdefault(name, str(answer))
        return found

    def _remember(self, name: str, lines: Iterable[LogLine]) -> None:
        """Note the newest time and what was seen within the overlap before it."""
        kept = list(lines)
        if kept:
            newest = max(self._newest.get(name, 0.0), *(line.time for line in kept))
            self._newest[name] = newest
            self._shown[name] = Counter(line.text for line in kept if line.time >= newest - OVERLAP_SECONDS - 1)


def lines_of(name: str, text: bytes) -> Iterator[LogLine]:
    """The lines of one node's log."""
    before = 0.0
    for raw in text.splitlines():
        line = parse(name, raw, before)
        before = line.time
        yield line
