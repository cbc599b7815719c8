"""Deadlines cost few timers and never go off early or stale."""

from stratos.bft.events import SetTimeout
from stratos.bft.timers import Timer, Timers


def test_moving_a_deadline_back_costs_nothing() -> None:
    """A running timer is kept; when it goes off too early, the rest is armed."""
    timers = Timers()
    assert timers.set(Timer.PROPOSE, 1.0, 0.0) == SetTimeout(Timer.PROPOSE, 1.0)
    assert timers.set(Timer.PROPOSE, 1.0, 0.25) is None
    assert timers.fired(Timer.PROPOSE, 1.0) == (False, SetTimeout(Timer.PROPOSE, 0.25))
    assert timers.fired(Timer.PROPOSE, 1.25) == (True, None)


def test_an_earlier_deadline_is_armed_at_once() -> None:
    """A shorter wait replaces the running timer."""
    timers = Timers()
    timers.set(Timer.PACE, 5.0, 0.0)
    assert timers.set(Timer.PACE, 0.5, 1.0) == SetTimeout(Timer.PACE, 0.5)


def test_a_cancelled_deadline_does_not_go_off() -> None:
    """Cancelling is forgetting."""
    timers = Timers()
    timers.set(Timer.PREVOTE, 1.0, 0.0)
    timers.cancel(Timer.PREVOTE)
    assert timers.fired(Timer.PREVOTE, 1.0) == (False, None)
