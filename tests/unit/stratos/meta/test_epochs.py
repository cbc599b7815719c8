"""Epochs close on time, reports are in flight one at a time, and no receipt is settled twice."""

import pytest

from stratos.crypto.merkle import merkle_root, verify_merkle
from stratos.crypto.signing import sign_bytes
from stratos.ledger.events import event
from stratos.meta.books import check_books
from stratos.meta.epochs import epoch_at, leaf_bytes, receipt_bytes
from stratos.meta.outbox import in_flight, signed_message
from stratos.meta.rehearsal import START_MS, Rehearsal
from stratos.meta.rooms import EARNER, IN_FLIGHT, REPORT, TOTALS, EpochReport, u64
from stratos.wire.codec import encode
from stratos.wire.limits import MAX_MEMO_BYTES, MAX_SETTLED_ROWS, MAX_TX_BYTES, MAX_VALIDATORS
from stratos.wire.metalog import ActionSignature
from stratos.wire.txs import TAG_ACTION, AuthoritySignature, ReportRow, Tx, TxBody, VolumeReport


def report_of(net: Rehearsal, epoch: int) -> EpochReport:
    report = REPORT.get(net.state, u64(epoch))
    assert report is not None
    return report


def upload(net: Rehearsal, name: str, size: int = 1_000) -> None:
    session, key = net.open(key=name)
    net.put(session, key, size, name=name)


def sign_all(net: Rehearsal) -> None:
    """All authorities sign what is in the outbox."""
    for action in in_flight(net.state):
        message = sign_bytes(TAG_ACTION, net.genesis_hash, action.message)
        net.run(*(net.entry(ActionSignature(action.id, key.sign(message)), key) for key in net.authorities))


def test_epochs_are_numbered_from_genesis_time() -> None:
    """Epoch e lasts from genesis + (e-1) to genesis + e lengths."""
    net = Rehearsal()
    assert [epoch_at(net.genesis, START_MS + ms) for ms in (0, 9_999, 10_000, 25_000)] == [1, 1, 2, 3]


def test_closing_takes_volumes_into_a_report(net: Rehearsal) -> None:
    """The first block of a new epoch makes the report of the one that ended, with the receipts' Merkle root."""
    upload(net, "a")
    net.to_epoch(2)
    report = report_of(net, 1)
    assert report.total_noz == sum(row.volume_noz for row in report.rows) == 4_000
    assert TOTALS.get(net.state, b"unsettled") == 4_000
    for index, row in enumerate(report.rows):
        leaves = receipt_bytes(net.state, row.node, row.first_seq, row.end_seq)
        assert row.receipts_root == merkle_root(leaves)
        tree = leaf_bytes(report.rows)
        assert verify_merkle(report.receipts_root, tree[index], index, len(tree), _path(tree, index))
    [action] = in_flight(net.state)
    message = signed_message(action)
    assert isinstance(message, VolumeReport) and message.epoch == 1
    assert [row.volume_noz for row in message.rows] == [str(row.volume_noz) for row in report.rows]


def _path(leaves: list[bytes], index: int) -> tuple[bytes, ...]:
    from stratos.crypto.merkle import merkle_proof

    return merkle_proof(leaves, index)


def test_a_quorum_makes_the_report_ready(net: Rehearsal) -> None:
    """Three of four authorities are a quorum; each signs once, only authorities, only what stands there."""
    upload(net, "a")
    net.to_epoch(2)
    [action] = in_flight(net.state)
    good = sign_bytes(TAG_ACTION, net.genesis_hash, action.message)
    for key in net.authorities[:2]:
        net.run(net.entry(ActionSignature(action.id, key.sign(good)), key))
        assert in_flight(net.state)[0].ready_height == 0
    assert (
        net.refused(net.entry(ActionSignature(action.id, net.authorities[0].sign(good)), net.authorities[0]))
        == "duplicate"
    )
    assert net.refused(net.entry(ActionSignature(action.id, net.holders[0].sign(good)), net.holders[0])) == "authority"
    third = net.authorities[2]
    assert net.refused(net.entry(ActionSignature(action.id, third.sign(b"else")), third)) == "signature"
    assert net.refused(net.entry(ActionSignature(99, third.sign(good)), third)) == "action"
    net.run(net.entry(ActionSignature(action.id, third.sign(good)), third))
    assert in_flight(net.state)[0].ready_height == net.app.height


def test_inclusion_makes_volume_reported(net: Rehearsal) -> None:
    """After the chain's word the volume is reported for good; hearing it twice changes nothing."""
    upload(net, "a")
    net.to_epoch(2)
    net.run(net.chain(event("report_included", epoch=1)))
    net.run(net.chain(event("report_included", epoch=1)))
    net.run(net.chain(event("report_refused", epoch=1, code="epoch")))
    assert (TOTALS.get(net.state, b"unsettled"), TOTALS.get(net.state, b"reported")) == (0, 4_000)
    assert report_of(net, 1).outcome == "included" and not in_flight(net.state)


def test_a_refused_report_returns_its_rows() -> None:
    """Refusal puts rows and receipts back; the next epoch's report carries them together with the new ones."""
    net = Rehearsal(settlement="all")
    net.heartbeat()
    upload(net, "a")
    net.to_epoch(2)
    net.run(net.chain(event("report_refused", epoch=1, code="ozone_limit")))
    assert report_of(net, 1).outcome == "ozone_limit"
    assert sum(earner.unsettled_noz for _, earner in EARNER.items(net.state)) == 4_000
    upload(net, "b")
    net.to_epoch(3)
    again = report_of(net, 2)
    assert again.total_noz == 8_000
    net.run(net.chain(event("report_included", epoch=2)))
    assert TOTALS.get(net.state, b"reported") == 8_000
    check_books(net.state)


def test_one_report_is_in_flight_at_a_time(net: Rehearsal) -> None:
    """While the chain has not answered, later epochs make no report; afterwards everything since is settled at once."""
    upload(net, "a")
    net.to_epoch(2)
    upload(net, "b")
    net.to_epoch(4)
    assert IN_FLIGHT.get(net.state) == 1
    assert REPORT.get(net.state, u64(2)) is None and REPORT.get(net.state, u64(3)) is None
    net.run(net.chain(event("report_included", epoch=1)))
    net.to_epoch(5)
    assert report_of(net, 4).total_noz == 4_000


def test_nothing_to_report_makes_no_report(net: Rehearsal) -> None:
    """An epoch without volume has no report (the chain refuses Y = 0)."""
    net.to_epoch(3)
    assert not list(REPORT.items(net.state)) and not in_flight(net.state)


def test_the_small_ones_keep_accumulating() -> None:
    """top80 lists the largest nodes until they have more than 80 %; the others keep noz and receipts."""
    net = Rehearsal()
    net.heartbeat()
    session, key = net.open(max_noz=10**9)
    for number, size in enumerate((1_000_000, 1_000, 10)):
        net.heartbeat()
        net.put(session, key, size, name=f"f{number}")
    net.to_epoch(2)
    report = report_of(net, 1)
    waiting = [earner for _, earner in EARNER.items(net.state) if earner.unsettled_noz]
    assert waiting and len(report.rows) == 4
    assert all(earner.next_seq > earner.first_seq for earner in waiting)


def test_more_earners_than_fit_into_a_report_are_settled_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest are settled first, the rest go on accumulating: a large network's reports never stop."""
    monkeypatch.setattr("stratos.wire.limits.MAX_SETTLED_ROWS", 4)
    net = Rehearsal(settlement="all")
    net.heartbeat()
    session, key = net.open(max_noz=10**9)
    for number, size in enumerate((1_000_000, 1_000, 1_000, 1_000, 1_000)):
        net.heartbeat()
        net.put(session, key, size, name=f"f{number}")
    net.to_epoch(2)
    waiting = [earner.unsettled_noz for _, earner in EARNER.items(net.state) if earner.unsettled_noz]
    listed = [row.volume_noz for row in report_of(net, 1).rows]
    assert len(listed) == 4 and waiting
    assert min(listed) >= max(waiting)


def test_the_largest_report_fits_into_a_transaction() -> None:
    """Every row full, every authority withheld and signing: the chain's bound on a transaction holds."""
    row = ReportRow(b"w" * 20, b"n" * 20, str(10**30))
    report = VolumeReport(
        2**62,
        (row,) * MAX_SETTLED_ROWS,
        b"r" * 32,
        (b"m" * 20,) * MAX_VALIDATORS,
        (AuthoritySignature(b"a" * 20, b"s" * 64),) * MAX_VALIDATORS,
    )
    tx = Tx(TxBody(report, 2**62, "m" * MAX_MEMO_BYTES), b"k" * 33, b"s" * 64)
    assert len(encode(tx)) <= MAX_TX_BYTES


def test_settling_all_lists_everybody() -> None:
    """With `settlement: all` nobody waits."""
    net = Rehearsal(settlement="all")
    net.heartbeat()
    session, key = net.open(max_noz=10**9)
    for number, size in enumerate((1_000_000, 1_000, 10)):
        net.heartbeat()
        net.put(session, key, size, name=f"f{number}")
    net.to_epoch(2)
    assert all(earner.unsettled_noz == 0 for _, earner in EARNER.items(net.state))
