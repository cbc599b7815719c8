"""The supervisor's rules, without processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runtimes import supervision
from orchestrator.runtimes.identity import ProcessIdentity
from orchestrator.runtimes.records import EXIT_UNWANTED, WantedNode
from orchestrator.runtimes.supervision import KILL, START, TERMINATE, WAIT, Track, decide

PROCESS = ProcessIdentity(42, 4242)


def wanted(*, digest: str = "d", run: bool = True, kill: bool = False, retry: int = 0) -> WantedNode:
    return WantedNode(home="/h", spawn="fork", program=(), digest=digest, run=run, kill=kill, retry=retry)


def running(now: float = 0.0) -> Track:
    track = Track()
    supervision.started(track, PROCESS, wanted(), now=now, now_ms=0)
    return track


def test_a_wanted_node_is_started_and_then_left_alone() -> None:
    """Nothing is done to a node that runs as wished."""
    assert decide(Track(), wanted(), 0.0).action == START
    assert decide(running(), wanted(), 100.0).action == WAIT


def test_an_unwanted_or_outdated_node_is_terminated_once_then_killed_after_the_grace() -> None:
    """SIGTERM first, SIGKILL when it does not listen, each once."""
    for wish in (None, wanted(run=False), wanted(digest="other")):
        track = running()
        assert decide(track, wish, 1.0).action == TERMINATE
        supervision.stopping(track, TERMINATE, 1.0)
        step = decide(track, wish, 2.0)
        assert step.action == WAIT
        assert step.until == 1.0 + supervision.GRACE_SECONDS
        assert decide(track, wish, step.until).action == KILL
        supervision.stopping(track, KILL, step.until)
        assert decide(track, wish, step.until + 1).action == WAIT


def test_kill_is_at_once() -> None:
    """A wish to kill skips the grace, also for a node that is stopping."""
    track = running()
    assert decide(track, wanted(run=False, kill=True), 0.0).action == KILL
    supervision.stopping(track, TERMINATE, 0.0)
    assert decide(track, wanted(run=False, kill=True), 0.1).action == KILL


@given(st.lists(st.floats(0.0, 1.0), min_size=supervision.MOST_FAILURES, max_size=supervision.MOST_FAILURES))
def test_quick_failures_back_off_and_end(lives: list[float]) -> None:
    """Pauses never shrink while a node keeps failing, and after the last allowed failure nothing is tried."""
    track, now, pauses = Track(), 0.0, []
    for life in lives:
        assert decide(track, wanted(), now).action == START
        supervision.started(track, PROCESS, wanted(), now=now, now_ms=0)
        now += life
        supervision.ended(track, 1, now=now)
        pauses.append(track.not_before - now)
        now = track.not_before
    assert pauses == sorted(pauses)
    assert track.state(wanted=True) == "failed"
    assert decide(track, wanted(), now + 1e9).action == WAIT
    assert decide(track, wanted(retry=1), now).action == START


def test_a_node_that_lived_long_is_restarted_quickly() -> None:
    """A steady life forgets earlier failures."""
    track = running()
    track.failures = supervision.MOST_FAILURES - 1
    supervision.ended(track, -9, now=supervision.STEADY_SECONDS)
    assert track.failures == 1
    assert track.last_exit == "killed by signal 9"
    assert track.not_before == supervision.STEADY_SECONDS + supervision.FIRST_PAUSE_SECONDS


def test_an_end_that_was_asked_for_is_no_failure() -> None:
    """Stopping, or leaving because the wish changed while starting, counts as nothing."""
    stopped = running()
    supervision.stopping(stopped, TERMINATE, 0.0)
    supervision.ended(stopped, -15, now=0.1)
    unwanted = running()
    supervision.ended(unwanted, EXIT_UNWANTED, now=0.1)
    for track in (stopped, unwanted):
        assert (track.failures, track.restarts, track.last_exit) == (0, 0, "")
        assert track.state(wanted=False) == "stopped"
