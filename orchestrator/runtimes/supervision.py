"""When a node is started, stopped or given up: the supervisor's rules as pure functions of (state, wish, now).

A node that ends unasked is started again after a pause that doubles up to a cap; one that never stays up for
STEADY_SECONDS is given up after MOST_FAILURES starts, because a node that cannot read its store will not learn it by
trying. A raised `retry` (each `up` of a failed node raises it) forgets the failures. Stopping is SIGTERM, then SIGKILL.
"""

from __future__ import annotations

from msgspec import Struct

from orchestrator.runtimes.identity import ProcessIdentity
from orchestrator.runtimes.records import EXIT_UNWANTED, WantedNode

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 10.0
MOST_FAILURES = 6
GRACE_SECONDS = 8.0
START, TERMINATE, KILL, WAIT = "start", "terminate", "kill", "wait"


class Track(Struct, kw_only=True):
    """What the supervisor knows of one node; times are monotonic seconds."""

    process: ProcessIdentity | None = None
    digest: str = ""
    started_at: float = 0.0
    started_ms: int = 0
    failures: int = 0
    restarts: int = 0
    not_before: float = 0.0
    stopping_since: float | None = None
    killed: bool = False
    retry: int = 0
    last_exit: str = ""

    def state(self, *, wanted: bool) -> str:
        """The word for `status`."""
        if self.process is not None:
            return "stopping" if self.stopping_since is not None else "running"
        if not wanted:
            return "stopped"
        return "failed" if self.failures >= MOST_FAILURES else "waiting"


class Step(Struct, frozen=True):
    """What to do now; for WAIT, `until` says when to ask again (None: when something happens)."""

    action: str
    until: float | None = None


def decide(track: Track, wanted: WantedNode | None, now: float) -> Step:
    """The next step for a node. `wanted` None means that nobody wants it: stop it."""
    run = wanted is not None and wanted.run
    if track.process is not None:
        outdated = wanted is not None and track.digest != wanted.digest
        if track.stopping_since is None and run and not outdated:
            return Step(WAIT)
        kill = wanted is not None and not wanted.run and wanted.kill
        if track.killed:
            return Step(WAIT)
        if kill:
            return Step(KILL)
        if track.stopping_since is None:
            return Step(TERMINATE)
        limit = track.stopping_since + GRACE_SECONDS
        return Step(KILL) if now >= limit else Step(WAIT, limit)
    if not run or wanted is None:
        return Step(WAIT)
    if wanted.retry > track.retry:
        return Step(START)
    if track.failures >= MOST_FAILURES:
        return Step(WAIT)
    return Step(START) if now >= track.not_before else Step(WAIT, track.not_before)


def started(track: Track, process: ProcessIdentity, wanted: WantedNode, *, now: float, now_ms: int) -> None:
    """A process was started for the node."""
    if wanted.retry > track.retry:
        track.retry, track.failures = wanted.retry, 0
    track.process, track.digest = process, wanted.digest
    track.started_at, track.started_ms = now, now_ms
    track.stopping_since, track.killed = None, False


def stopping(track: Track, action: str, now: float) -> None:
    """A stop signal was sent."""
    track.stopping_since = now if track.stopping_since is None else track.stopping_since
    track.killed = track.killed or action == KILL


def ended(track: Track, status: int | None, *, now: float) -> None:
    """The node's process is gone. `status`: exit code, minus a signal number, or None when it was not our child."""
    asked = track.stopping_since is not None or status == EXIT_UNWANTED
    track.last_exit = describe_exit(status) if not asked else ""
    lived = now - track.started_at
    track.process, track.stopping_since, track.killed = None, None, False
    if asked:
        track.failures, track.not_before = 0, now
        return
    track.failures = 1 if lived >= STEADY_SECONDS else track.failures + 1
    track.restarts += 1
    pause = min(FIRST_PAUSE_SECONDS * 2 ** (track.failures - 1), LONGEST_PAUSE_SECONDS)
    track.not_before = now + pause


def describe_exit(status: int | None) -> str:
    """Words for an exit status."""
    if status is None:
        return "ended (it was adopted, so its exit code is unknown)"
    return f"killed by signal {-status}" if status < 0 else f"exit code {status}"
