"""The one way to run a task that should never end: named, watched, and loud when it dies.

`guard` logs the failure and calls the node's `on_failure`, which stops the node: a node that has silently lost one of
its duties is worse than one that is down and restarted. Cancelling a guarded task is a normal end.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

_log = structlog.get_logger("stratos.net.guard")

FailureSink = Callable[[str, BaseException], None]
_sinks: list[FailureSink] = []


class TaskDied(RuntimeError):
    """A guarded task returned or raised."""


def set_failure_sink(sink: FailureSink) -> None:
    """What to call when a guarded task of this process dies (the node entry point registers its stop)."""
    _sinks[:] = [sink]


def guard(name: str, coroutine: Coroutine[Any, Any, None], *, may_end: bool = False) -> "asyncio.Task[None]":
    """Run `coroutine` as a named task; if it raises (or returns, unless `may_end`), report it to the failure sink."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    task.add_done_callback(lambda done: _finished(name, done, may_end=may_end))
    return task


def _finished(name: str, task: "asyncio.Task[None]", *, may_end: bool) -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is None:
        if may_end:
            return
        error = TaskDied(f"task {name} returned although it should run as long as the node")
    report_failure(name, error)


def report_failure(name: str, error: BaseException) -> None:
    """A duty of this node has failed for good: log it and stop the node."""
    _log.error("duty failed", duty=name, error=str(error), exc_info=error)
    for sink in _sinks:
        sink(name, error)
