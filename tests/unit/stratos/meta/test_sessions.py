"""Sessions reserve once, spread allotments, and give back what nobody earned."""

import pytest

from stratos.meta.rehearsal import Rehearsal, seed_bytes
from stratos.meta.rooms import ALLOTMENT, BALANCE, RESERVED, SESSION, SESSION_HOLDERS
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import SESSION_CLOSING, Allot, CloseSession, DownloadReceipts, OpenSession
from stratos.wire.receipts import DownloadTask


def test_opening_reserves_and_spreads(net: Rehearsal) -> None:
    """Opening moves max_noz to reserved and splits spread_noz evenly over the active holders, the rest is the pool."""
    before = BALANCE.get(net.state, net.users[0].address)
    session, _ = net.open(max_noz=1_000, spread_noz=605)
    assert BALANCE.get(net.state, net.users[0].address) == before - 1_000
    assert RESERVED.get(net.state, net.users[0].address) == 1_000
    assert session.pool_noz == 1_000 - 6 * 100
    allotments = [ALLOTMENT.get(net.state, session.id + key.address) for key in net.holders]
    assert [a.allotted_noz for a in allotments if a is not None] == [100] * 6


@pytest.mark.parametrize(
    ("max_noz", "spread", "expiry_after", "code"),
    [(0, 0, 60, "invalid"), (10, 11, 60, "invalid"), (10, 0, 0, "expired"), (2**62, 0, 60, "funds")],
)
def test_impossible_sessions_are_refused(
    net: Rehearsal, max_noz: int, spread: int, expiry_after: int, code: str
) -> None:
    """Nothing to reserve, more spread than reserved, expired at once, or no ozone: refused, nothing reserved."""
    body = OpenSession(net.users[1].public_key[1:], max_noz, spread, net.time_ms + expiry_after * 1000)
    assert net.refused(net.entry(body, net.users[0])) == code


def test_a_session_is_opened_by_a_wallet(net: Rehearsal) -> None:
    """A node's key cannot reserve anybody's ozone."""
    body = OpenSession(net.holders[0].public_key, 10, 0, net.time_ms + 60_000)
    assert net.refused(net.entry(body, net.holders[0])) == "signature"


def test_allotting_moves_from_the_pool(net: Rehearsal) -> None:
    """Allot adds to a holder's allotment, by the session's key only and never over the pool."""
    session, key = net.open(max_noz=1_000)
    holder = net.holders[0].address
    net.run(net.entry(Allot(session.id, ((holder, 300),)), key), net.entry(Allot(session.id, ((holder, 200),)), key))
    allotment = ALLOTMENT.get(net.state, session.id + holder)
    assert allotment is not None and allotment.allotted_noz == 500
    assert SESSION_HOLDERS.get(net.state, session.id) == (holder,)
    assert net.refused(net.entry(Allot(session.id, ((holder, 501),)), key)) == "funds"
    assert net.refused(net.entry(Allot(session.id, ((holder, 1),)), net.holders[1])) == "signature"
    assert net.refused(net.entry(Allot(session.id, ((b"x" * 20, 1),)), key)) == "node"


def test_closing_returns_the_pool_now_and_the_rest_when_receipts_are_void(net: Rehearsal) -> None:
    """The pool returns at once, allotments after the next epoch, because receipts may come until then."""
    wallet = net.users[0].address
    before = BALANCE.get(net.state, wallet)
    session, key = net.open(max_noz=1_000, spread_noz=600)
    net.run(net.entry(CloseSession(session.id), key))
    closing = SESSION.get(net.state, session.id)
    assert closing is not None and closing.status == SESSION_CLOSING
    assert BALANCE.get(net.state, wallet) == before - 600
    net.to_epoch(2)
    assert BALANCE.get(net.state, wallet) == before - 600
    net.to_epoch(3)
    assert BALANCE.get(net.state, wallet) == before
    assert SESSION.get(net.state, session.id) is None
    assert RESERVED.get(net.state, wallet) == 0


def test_the_wallet_may_close_what_its_session_key_lost(net: Rehearsal) -> None:
    """The wallet closes its own session, another wallet cannot, and closing twice is refused."""
    session, _ = net.open()
    assert net.refused(net.entry(CloseSession(session.id), net.users[1])) == "signature"
    net.run(net.entry(CloseSession(session.id), net.users[0]))
    assert net.refused(net.entry(CloseSession(session.id), net.users[0])) == "session"


def test_an_expired_session_takes_nothing_and_closes_at_the_roll(net: Rehearsal) -> None:
    """After its expiry a session refuses new work at once; the next epoch roll begins closing it."""
    session, key = net.open(max_noz=1_000, seconds=3.0)
    net.wait(4.0)
    assert net.refused(net.entry(Allot(session.id, ((net.holders[0].address, 1),)), key)) == "expired"
    net.to_epoch(2)
    closing = SESSION.get(net.state, session.id)
    assert closing is not None and closing.status == SESSION_CLOSING


def test_late_receipts_of_a_closed_session_still_earn(net: Rehearsal) -> None:
    """A receipt signed before closing and ordered in the next epoch is paid; the rest returns."""
    session, key = net.open(max_noz=10_000, spread_noz=6_000)
    spending, spender = net.open(key="upload")
    _, placed = net.put(spending, spender, 500)
    holder = placed[0].holders[0]
    served = net.served(session, key, holder, [DownloadTask(placed[0].spec.digest, 0, 500, 0)])
    net.run(net.entry(CloseSession(session.id), key))
    net.to_epoch(2)
    net.run(net.entry(DownloadReceipts((served,)), net.by_address[holder]))
    net.to_epoch(3)
    assert SESSION.get(net.state, session.id) is None


def test_own_nodes_get_no_allotment() -> None:
    """Nodes whose owner or host belongs to the payer are left out of the spread and refused by Allot."""
    net = Rehearsal(owners=[0], hosts=["desk", "desk"])
    net.heartbeat()
    session, key = net.open(max_noz=1_000, spread_noz=400)
    allotted = SESSION_HOLDERS.get(net.state, session.id) or ()
    assert set(allotted) == {k.address for k in net.holders[2:]}
    assert net.refused(net.entry(Allot(session.id, ((net.holders[1].address, 1),)), key)) == "self_traffic"


def test_many_sessions_finish_over_several_blocks() -> None:
    """At most FINISHED_PER_BLOCK sessions end in one block, the others in the next ones, all of them."""
    net = Rehearsal(holders=1, meta=MetaParams(epoch_seconds=10.0, status_seconds=5.0))
    net.heartbeat()
    wallet = net.users[0]
    before = BALANCE.get(net.state, wallet.address)
    bodies = [OpenSession(seed_bytes(i), 1_000, 0, net.time_ms + 5_000) for i in range(250)]
    net.run(*(net.entry(body, wallet) for body in bodies))
    assert BALANCE.get(net.state, wallet.address) == before - 250_000
    net.to_epoch(4)
    assert len(list(SESSION.items(net.state))) == 50
    net.step()
    assert not list(SESSION.items(net.state))
    assert BALANCE.get(net.state, wallet.address) == before
