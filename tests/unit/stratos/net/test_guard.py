"""Guarded tasks: dying is loud, cancelling is not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from stratos.net import guard as guard_module
from stratos.net.guard import TaskDied, guard, set_failure_sink


@pytest.fixture
def failures() -> Iterator[list[tuple[str, BaseException]]]:
    """What the failure sink received."""
    received: list[tuple[str, BaseException]] = []
    set_failure_sink(lambda name, error: received.append((name, error)))
    yield received
    guard_module._sinks.clear()


async def test_a_duty_that_raises_is_reported_by_name(failures: list[Any]) -> None:
    """The sink gets the task's name and its error."""

    async def duty() -> None:
        raise ValueError("broken")

    await asyncio.wait([guard("duty", duty())])
    await asyncio.sleep(0)
    assert [(name, str(error)) for name, error in failures] == [("duty", "broken")]


async def test_an_eternal_duty_that_returns_is_a_failure_unless_it_may_end(failures: list[Any]) -> None:
    """Silent endings are failures too."""

    async def ends() -> None:
        return

    await asyncio.wait([guard("eternal", ends()), guard("short", ends(), may_end=True)])
    await asyncio.sleep(0)
    assert [name for name, _ in failures] == ["eternal"]
    assert isinstance(failures[0][1], TaskDied)


async def test_cancelling_is_a_normal_end(failures: list[Any]) -> None:
    """Stopping a node reports nothing."""
    task = guard("duty", asyncio.sleep(1000))
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert failures == []
