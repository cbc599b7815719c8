"""Logs of several nodes as one stream."""

from __future__ import annotations

from pathlib import Path

from orchestrator.testnet.log_lines import Follower, merged, parse


def line(second: int, event: str) -> str:
    return f'{{"time":"2026-11-21T01:00:{second:02d}.000Z","level":"info","event":"{event}"}}\n'


def test_lines_of_all_nodes_come_in_order_of_time(tmp_path: Path) -> None:
    """Merging never reorders, and a traceback stays behind the line it belongs to."""
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text(line(1, "one") + "Traceback (most recent call last):\n" + line(4, "four"))
    b.write_text(line(2, "two") + line(3, "three"))
    texts = [
        (one.node, (one.fields or {}).get("event", one.text)) for one in merged({"a": a, "b": b, "c": tmp_path / "c"})
    ]
    assert texts == [
        ("a", "one"),
        ("a", "Traceback (most recent call last):"),
        ("b", "two"),
        ("b", "three"),
        ("a", "four"),
    ]


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    """Only lines from the given time on."""
    path = tmp_path / "a"
    path.write_text(line(1, "one") + line(2, "two"))
    start = parse("a", line(2, "x").encode(), 0.0).time
    assert [one.fields["event"] for one in merged({"a": path}, since=start) if one.fields] == ["two"]


def test_following_survives_rotation_and_half_lines(tmp_path: Path) -> None:
    """New lines are given once each, whole, also after the file was replaced by a fresh one."""
    path = tmp_path / "a"
    path.write_text(line(1, "old"))
    follower = Follower({"a": path})

    def events() -> list[str]:
        return [str((one.fields or {}).get("event", one.text)) for one in follower.new_lines()]

    assert events() == []
    whole = line(2, "two")
    with path.open("a") as file:
        file.write(whole[:10])
        file.flush()
        assert events() == []
        file.write(whole[10:])
        file.flush()
        assert events() == ["two"]
    path.rename(tmp_path / "a.1")
    assert events() == []
    path.write_text(line(3, "three"))
    assert events() == ["three"]


def test_times_may_be_numbers(tmp_path: Path) -> None:
    """`time_ms` counts as well as ISO text; nonsense takes the time before."""
    assert parse("a", b'{"time_ms": 1500}', 0.0).time == 1.5
    assert parse("a", b'{"time": "yesterday"}', 7.0).time == 7.0
    assert parse("a", b"plain", 8.0).time == 8.0
