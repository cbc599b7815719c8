"""Whatever is asked, in whatever order and however the payments end: no limit of the faucet is ever passed."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stratos.meta.faucet_book import DAY_MS, PAID, REFUSED, FaucetBook, FaucetRefusal, Grant
from stratos.wire.config import FaucetSettings

SETTINGS = FaucetSettings(coordinator="00" * 32, open_wei="10", day_wei="25", total_wei="60", address_requests=3)
asks = st.tuples(
    st.sampled_from(["st1a", "st1b", "st1c", "st1d"]),
    st.sampled_from(["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"]),
    st.integers(1, 12),
    st.integers(0, DAY_MS // 2),
    st.sampled_from([PAID, PAID, REFUSED]),
)


@given(st.lists(asks, max_size=60))
def test_no_limit_is_ever_passed(script: list[tuple[str, str, int, int, str]]) -> None:
    """In every 24 hours and in all, counted independently of the book; and the book remembers the same from its grants."""
    book = FaucetBook(SETTINGS, genesis_hash=bytes(32))
    now_ms, numbers = 1_800_000_000_000, itertools.count()
    for wallet, source, amount, pause, end in script:
        now_ms += pause
        with contextlib.suppress(FaucetRefusal):
            book.check(wallet=wallet, amount_wei=amount, ticket="", source=source, now_ms=now_ms)
            grant = Grant(
                wallet=wallet,
                nonce=f"{next(numbers)}",
                amount_wei=amount,
                ticket="",
                source=source,
                time_ms=now_ms,
                tx="",
                tx_hash="",
                sequence=0,
            )
            book.note(grant)
            book.note(structs.replace(grant, state=end))
    given_ones = [grant for grant in book.grants if grant.state != REFUSED]
    assert book.given_wei() == sum(grant.amount_wei for grant in given_ones) <= 60
    for last in given_ones:
        day = [grant for grant in given_ones if last.time_ms - DAY_MS <= grant.time_ms <= last.time_ms]
        assert sum(grant.amount_wei for grant in day) <= 25
        by_wallet, by_source = defaultdict(int), defaultdict(int)
        for grant in day:
            by_wallet[grant.wallet] += grant.amount_wei
            by_source[grant.source] += 1
        assert max(by_wallet.values()) <= 10
        assert max(by_source.values()) <= 3
    again = FaucetBook(SETTINGS, genesis_hash=bytes(32))
    for grant in book.grants:
        again.note(grant)
    assert again.given_wei() == book.given_wei()
    assert again.given_today_wei(now_ms) == book.given_today_wei(now_ms)
