"""What the classes may use, and the token bucket that enforces rates."""

from hypothesis import given
from hypothesis import strategies as st

from stratos.net.peers import LIMITS, TokenBucket
from stratos.wire.limits import MAX_FRAME_BYTES, MAX_GUEST_FRAME_BYTES


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_a_bucket_never_gives_more_than_burst_plus_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """Over any span, at most burst + rate x time tokens are taken."""
    bucket = TokenBucket(rate, burst, now=0.0)
    now = 0.0
    taken = 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now)
        assert taken <= burst + rate * now + 1e-6


def test_guests_get_small_frames_and_few_requests_nodes_are_never_idle() -> None:
    """The classes differ as the trust boundaries say."""
    assert LIMITS["guest"].frame_bytes == MAX_GUEST_FRAME_BYTES
    assert LIMITS["node"].frame_bytes == MAX_FRAME_BYTES
    assert LIMITS["guest"].in_flight < LIMITS["client"].in_flight <= LIMITS["node"].in_flight
    assert LIMITS["guest"].idle_seconds < LIMITS["client"].idle_seconds < LIMITS["node"].idle_seconds == float("inf")
