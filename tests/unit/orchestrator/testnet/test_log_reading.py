"""Logs wherever nodes run: one stream by time, filtered, and nothing shown twice when it is followed."""

from __future__ import annotations

import json
import re

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.log_lines import LogLine
from orchestrator.testnet.log_reading import LineFilter, LogReader, lines_of


class Engine:
    """A runtime that answers in whole seconds, as engines and journals do."""

    def __init__(self) -> None:
        self.logs: dict[str, list[tuple[float, str]]] = {"a": [], "b": []}
        self.dead: set[str] = set()

    def write(self, name: str, moment: float, event: str) -> None:
        self.logs[name].append((moment, json.dumps({"time_ms": int(moment * 1000), "level": "info", "event": event})))

    def read_log(self, name: str, *, since: float = 0.0) -> bytes:
        if name in self.dead:
            raise EnvironmentFault(f"{name}: its machine is out of reach; wait")
        return "".join(f"{text}\n" for moment, text in self.logs[name] if moment >= int(since)).encode()


@pytest.fixture
def engine() -> Engine:
    return Engine()


def reader(engine: Engine) -> LogReader:
    runtime: Runtime = engine  # type: ignore[assignment]  # the reader asks for logs only
    return LogReader(runtime, ["a", "b"])


def events(lines: list[LogLine]) -> list[str]:
    return [str((line.fields or {})["event"]) for line in lines]


def test_lines_of_all_nodes_are_merged_and_then_followed(engine: Engine) -> None:
    """Everything comes once, in order of time, also when a second is asked about again and two lines are alike."""
    engine.write("a", 100.2, "a1")
    engine.write("b", 100.1, "b1")
    engine.write("a", 100.9, "a2")
    reading = reader(engine)
    assert events(list(reading.so_far())) == ["b1", "a1", "a2"]
    assert reading.new() == []
    engine.write("a", 100.9, "a2")
    engine.write("b", 101.5, "b2")
    assert events(reading.new()) == ["a2", "b2"]
    engine.write("a", 105.0, "a3")
    assert events(reading.new()) == ["a3"]
    assert reading.new() == []


def test_a_node_out_of_reach_is_named_and_the_others_go_on(engine: Engine) -> None:
    """Its reason is kept; when it comes back, so do its lines."""
    engine.write("a", 1.0, "a1")
    engine.write("b", 2.0, "b1")
    engine.dead.add("b")
    reading = reader(engine)
    assert events(list(reading.so_far())) == ["a1"]
    assert reading.problems == {"b": "b: its machine is out of reach; wait"}
    engine.dead.clear()
    assert events(reading.new()) == ["b1"]


def test_filters_keep_a_traceback_with_its_line() -> None:
    """Level, pattern and time decide about a line, and plain text follows the line before it."""
    text = b"""{"time_ms": 1000, "level": "info", "event": "fine"}
{"time_ms": 2000, "level": "error", "event": "broken"}
Traceback (most recent call last):
  ValueError
{"time_ms": 3000, "level": "warning", "event": "odd"}
"""

    def kept(wanted: LineFilter) -> list[str]:
        return [line.text[-12:] for line in lines_of("a", text) if wanted.wants(line)]

    assert len(kept(LineFilter())) == 5
    assert len(kept(LineFilter(level="error"))) == 3
    assert len(kept(LineFilter(level="warning"))) == 4
    assert len(kept(LineFilter(pattern=re.compile("odd")))) == 1
    assert len(kept(LineFilter(since=2.5))) == 1
