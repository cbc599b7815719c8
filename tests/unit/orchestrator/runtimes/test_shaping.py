"""Which containers' bandwidth is limited, and when again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.runtimes import shaping
from orchestrator.runtimes.shaping import limit_new_cables


def container(*, started: str = "10:00", networks: tuple[str, ...] = ("eu",), running: bool = True) -> dict[str, Any]:
    """The engine's details of one."""
    return {
        "Id": "c1",
        "State": {"Running": running, "StartedAt": started},
        "NetworkSettings": {"Networks": dict.fromkeys(networks)},
    }


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """What the engine was asked to limit, in order."""
    calls: list[dict[str, int]] = []
    monkeypatch.setattr(shaping, "limit_bandwidth", lambda _held, *, mbit, **_more: calls.append(dict(mbit)))
    return calls


def limit(folder: Path, details: dict[str, Any], mbit: int = 40) -> frozenset[str]:
    held: Any = None
    return limit_new_cables(
        held,
        folder / "bandwidth.json",
        image_id="sha256:1",
        mbit={"r1": mbit},
        containers={"r1": details},
    )


def test_what_is_limited_is_left_alone(tmp_path: Path, limited: list[dict[str, int]]) -> None:
    """A second look costs no helper, and what it finds well is not told as changed."""
    assert limit(tmp_path, container()) == {"r1"}
    assert limit(tmp_path, container()) == frozenset()
    assert limited == [{"c1": 40}]


@pytest.mark.parametrize(
    "later",
    [
        pytest.param((container(started="11:00"), 40), id="restarted by the engine"),
        pytest.param((container(networks=("eu", "us")), 40), id="joined another region's network"),
        pytest.param((container(), 80), id="another limit"),
    ],
)
def test_new_cables_are_limited(
    tmp_path: Path, limited: list[dict[str, int]], later: tuple[dict[str, Any], int]
) -> None:
    """Another start, network or limit has to be limited, though the container is the same."""
    limit(tmp_path, container())
    limit(tmp_path, *later)
    assert limited == [{"c1": 40}, {"c1": later[1]}]


def test_an_interrupted_start_is_limited_by_the_next(tmp_path: Path, limited: list[dict[str, int]]) -> None:
    """The record is written after the fact, and one that is torn says nothing."""
    limit(tmp_path, container(running=False))
    assert limited == []
    (tmp_path / "bandwidth.json").write_bytes(b'{"r1')
    limit(tmp_path, container())
    assert limited == [{"c1": 40}]
