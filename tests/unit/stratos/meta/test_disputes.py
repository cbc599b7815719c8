"""One-sided ends pay nobody, cost standing, and give the noz back in the end."""

from stratos.meta.books import check_books
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import BALANCE, RESERVED, SESSION, STANDING
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import SESSION_CLOSING, Dispute, DownloadReceipts
from stratos.wire.receipts import DownloadTask


def network() -> Rehearsal:
    net = Rehearsal(meta=MetaParams(epoch_seconds=10.0, status_seconds=1.0, dispute_seconds=45.0))
    net.heartbeat()
    return net


def test_a_silent_giver_loses_score_and_the_step_waits() -> None:
    """The client's dispute closes the session; the step's noz returns only after the dispute time-out."""
    net = network()
    session, key = net.open(max_noz=6_000, spread_noz=6_000)
    wallet = net.users[0].address
    before = BALANCE.get(net.state, wallet)
    giver = net.holders[0]
    net.run(net.entry(Dispute(session.id, giver.address, 400, b""), key))
    closing = SESSION.get(net.state, session.id)
    assert closing is not None and closing.status == SESSION_CLOSING
    assert net.holder(giver).score == net.genesis.meta.score_start - 300
    net.to_epoch(3)
    assert SESSION.get(net.state, session.id) is None
    assert BALANCE.get(net.state, wallet) == before + 5_600 and RESERVED.get(net.state, wallet) == 400
    net.to_epoch(6)
    assert BALANCE.get(net.state, wallet) == before + 6_000 and RESERVED.get(net.state, wallet) == 0
    check_books(net.state)


def test_a_silent_taker_loses_standing() -> None:
    """The holder's dispute counts against the wallet, not the holder."""
    net = network()
    session, _ = net.open(max_noz=6_000, spread_noz=6_000)
    holder = net.holders[0]
    net.run(net.entry(Dispute(session.id, holder.address, 400, b""), holder))
    assert STANDING.get(net.state, session.wallet) == 1
    assert net.holder(holder).score == net.genesis.meta.score_start


def test_disputes_are_about_real_steps_of_both_sides() -> None:
    """Strangers, steps over the allotment, mismatches by the giver and a second dispute are refused."""
    net = network()
    session, key = net.open(max_noz=6_000, spread_noz=6_000)
    holder = net.holders[0]
    for body, author, code in (
        (Dispute(session.id, holder.address, 400, b""), net.holders[1], "signature"),
        (Dispute(session.id, holder.address, 1_001, b""), key, "allowance"),
        (Dispute(session.id, holder.address, 0, b""), key, "allowance"),
        (Dispute(session.id, holder.address, 400, b"short"), key, "invalid"),
        (Dispute(session.id, holder.address, 400, b"m" * 32), holder, "invalid"),
        (Dispute(b"?" * 16, holder.address, 400, b""), key, "session"),
    ):
        assert net.refused(net.entry(body, author)) == code
    net.run(net.entry(Dispute(session.id, holder.address, 400, b""), key))
    assert net.refused(net.entry(Dispute(session.id, holder.address, 400, b""), holder)) == "duplicate"


def test_a_receipt_both_signed_is_still_paid_unless_voided() -> None:
    """Falling silent does not void what was signed; a signed mismatch does void its step."""
    for mismatch, code in ((b"", "ok"), (b"m" * 32, "disputed")):
        net = network()
        storing, storer = net.open(max_noz=10**7)
        _, placed = net.put(storing, storer, 1_000)
        session, key = net.open(user=1, max_noz=6_000, spread_noz=6_000)
        holder = placed[0].holders[0]
        served = net.served(session, key, holder, [DownloadTask(placed[0].spec.digest, 0, 1_000, 0)])
        net.run(net.entry(Dispute(session.id, holder, 1_000, mismatch), key))
        entry = net.entry(DownloadReceipts((served,)), net.by_address[holder])
        if code == "ok":
            net.run(entry)
        else:
            assert net.refused(entry) == code
        check_books(net.state)
