"""Uploads: reserved before, placed by lot, charged per durable copy, complete only with enough of them."""

import pytest

from stratos.bft.blocks import commit_hash
from stratos.meta.holders import candidates
from stratos.meta.placement import Lottery, placement_seed
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import (
    BEACON,
    FILE,
    PENDING,
    PLACEMENT,
    RESERVED,
    SESSION,
    SLICE,
    TOTALS,
    UPLOAD,
    drop_room,
    u32,
    u64,
)
from stratos.wire.metalog import AbortUpload, CompleteUpload, FileRecord, NodeStatus, Place, RemoveFile, UploadReceipts

UPLOAD_ID = b"u" * 16


def test_placing_reserves_copies_and_repair_share(net: Rehearsal) -> None:
    """Place takes length x copies x 1.05 from the pool before anything moves."""
    session, key = net.open(max_noz=10_000)
    net.run(net.entry(Place(session.id, UPLOAD_ID, 0, net.slices(1_000), 0, 0), key))
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 10_000 - 4 * 1_050
    assert net.refused(net.entry(Place(session.id, UPLOAD_ID, 1, net.slices(2_000), 0, 0), key)) == "funds"


def test_the_lot_is_drawn_from_the_certificate_two_blocks_later(net: Rehearsal) -> None:
    """Holders are those drawn from digest, wallet, session, the certificate of the next block, and the beacon."""
    session, key = net.open()
    [spec] = net.slices(1_000)
    net.run(net.entry(Place(session.id, UPLOAD_ID, 0, (spec,), 0, 0), key))
    assert PLACEMENT.get(net.state, UPLOAD_ID + u32(0)) is None
    net.step()
    assert PLACEMENT.get(net.state, UPLOAD_ID + u32(0)) is None
    certificate = commit_hash(net.last_commit)
    table = candidates(net.state, net.genesis.meta, wallet=session.wallet)
    net.step()
    placement = PLACEMENT.get(net.state, UPLOAD_ID + u32(0))
    assert placement is not None and placement.seed == certificate
    beacon = BEACON.get(net.state, u64(1))
    assert beacon is not None
    seed = placement_seed(
        digest=spec.digest, wallet=session.wallet, session=session.id, certificate=certificate, beacon=beacon
    )
    assert placement.slices[0].holders == Lottery(table).choose(seed, count=4, length=1_000)
    assert not list(PENDING.items(net.state))


def test_receipts_charge_copy_by_copy_and_completion_returns_the_rest(net: Rehearsal) -> None:
    """Each durable copy costs its bytes (to the holder) and 5 % (to the repair reserve), nothing else is kept."""
    session, key = net.open(max_noz=10_000)
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    held = net.held(key, UPLOAD_ID, placed)
    net.run(net.entry(UploadReceipts(session.id, UPLOAD_ID, held[:1], b"so far"), key))
    assert (TOTALS.get(net.state, b"unsettled"), TOTALS.get(net.state, b"repair")) == (1_000, 50)
    [result] = net.run(net.entry(CompleteUpload(session.id, UPLOAD_ID, held[1:], (net.file(placed),)), key))
    assert (TOTALS.get(net.state, b"unsettled"), TOTALS.get(net.state, b"repair")) == (4_000, 200)
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 10_000 - 4_200
    assert ("charged_noz", "4200") in result.events[-1].attributes
    record = SLICE.get(net.state, placed[0].spec.digest)
    assert record is not None and len(record.holders) == 4 and record.references == 1


def test_completion_demands_durable_copies(net: Rehearsal) -> None:
    """With six holders alive three copies are not enough, and nothing of the refused entry stays."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    held = net.held(key, UPLOAD_ID, placed)
    body = CompleteUpload(session.id, UPLOAD_ID, held[:3], (net.file(placed),))
    assert net.refused(net.entry(body, key)) == "copies"


def test_a_failed_holder_is_replaced_by_placing_again(net: Rehearsal) -> None:
    """Placing a digest again in the same upload draws holders not tried before, only for the missing copies."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    dead = placed[0].holders[1]
    net.run(net.entry(UploadReceipts(session.id, UPLOAD_ID, net.held(key, UPLOAD_ID, placed, skip=[dead]), b""), key))
    again = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID, first=1)
    assert len(again[0].holders) == 1 and again[0].holders[0] not in placed[0].holders
    body = CompleteUpload(session.id, UPLOAD_ID, net.held(key, UPLOAD_ID, again, first=1), (net.file(again, first=1),))
    net.run(net.entry(body, key))
    assert net.holder(net.by_address[dead]).score < net.holder(net.by_address[again[0].holders[0]]).score
    assert net.state.get(drop_room(dead) + placed[0].spec.digest) is not None


def test_with_three_holders_three_copies_are_degraded_but_enough() -> None:
    """Fewer than four live holders: three copies are placed, accepted and reported as degraded."""
    net = Rehearsal(holders=3)
    net.heartbeat()
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    assert len(placed[0].holders) == 3
    body = CompleteUpload(session.id, UPLOAD_ID, net.held(key, UPLOAD_ID, placed), (net.file(placed),))
    [result] = net.run(net.entry(body, key))
    assert [event.kind for event in result.events] == ["degraded", "upload_complete"]


def test_with_two_holders_uploads_are_refused() -> None:
    """Two copies are never acknowledged: one sentence, nothing reserved."""
    net = Rehearsal(holders=2)
    net.heartbeat()
    session, key = net.open()
    assert net.refused(net.entry(Place(session.id, UPLOAD_ID, 0, net.slices(1), 0, 0), key)) == "holders"


def test_copies_share_no_host_and_no_interest() -> None:
    """Nodes of one host get one copy together, the payer's own nodes none."""
    net = Rehearsal(holders=8, hosts=["a", "a", "b", "b", "c", "d", "e", "e"], owners=[-1, -1, -1, -1, 0])
    net.heartbeat()
    hosts = {key.address: host for key, host in zip(net.holders, "aabbcdee", strict=True)}
    session, key = net.open()
    for number in range(10):
        net.heartbeat()
        placed = net.place(session, key, net.slices(100, tag=number), upload=bytes([number]) * 16)
        assert sorted(hosts[h] for h in placed[0].holders) == ["a", "b", "d", "e"]


def test_stored_slices_are_neither_moved_nor_charged_again(net: Rehearsal) -> None:
    """A second file of the same bytes needs no placement traffic and costs nothing; references are counted."""
    session, key = net.open()
    _, first = net.put(session, key, 1_000, name="a")
    reserved = RESERVED.get(net.state, session.wallet)
    other, other_key = net.open(user=1, max_noz=10_000)
    upload = b"v" * 16
    placed = net.place(other, other_key, [first[0].spec], upload=upload)
    assert placed[0].holders == ()
    net.run(net.entry(CompleteUpload(other.id, upload, (), (net.file(placed, name="b"),)), other_key))
    after = SESSION.get(net.state, other.id)
    record = SLICE.get(net.state, first[0].spec.digest)
    assert after is not None and after.pool_noz == 10_000
    assert record is not None and record.references == 2
    assert RESERVED.get(net.state, session.wallet) == reserved


def test_one_digest_twice_in_a_request_is_placed_once(net: Rehearsal) -> None:
    """Equal slices of one request share the copies of the first."""
    session, key = net.open()
    [spec] = net.slices(1_000)
    placed = net.place(session, key, [spec, spec], upload=UPLOAD_ID)
    assert len(placed[0].holders) == 4 and placed[1].holders == ()
    body = CompleteUpload(session.id, UPLOAD_ID, net.held(key, UPLOAD_ID, placed), (net.file(placed),))
    net.run(net.entry(body, key))
    assert TOTALS.get(net.state, b"unsettled") == 4_000
    record = SLICE.get(net.state, spec.digest)
    assert record is not None and record.references == 2


def test_another_length_for_a_known_digest_is_refused(net: Rehearsal) -> None:
    """A digest stands for one length and one pieces root."""
    session, key = net.open()
    _, placed = net.put(session, key, 1_000)
    wrong = type(placed[0].spec)(placed[0].spec.digest, 999)
    assert net.refused(net.entry(Place(session.id, UPLOAD_ID, 0, (wrong,), 0, 0), key)) == "slice"


def test_overlapping_ranges_and_foreign_uploads_are_refused(net: Rehearsal) -> None:
    """Indices of an upload are asked for once, and an upload belongs to one session."""
    session, key = net.open()
    net.place(session, key, net.slices(10, 20), upload=UPLOAD_ID)
    assert net.refused(net.entry(Place(session.id, UPLOAD_ID, 1, net.slices(30), 0, 0), key)) == "duplicate"
    other, other_key = net.open(user=1)
    assert net.refused(net.entry(Place(other.id, UPLOAD_ID, 5, net.slices(30), 0, 0), other_key)) == "upload"


def test_giving_up_returns_what_no_receipt_charged(net: Rehearsal) -> None:
    """Abort keeps the charge of delivered copies only; slices without a reference are dropped by their holders."""
    session, key = net.open(max_noz=10_000)
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    held = net.held(key, UPLOAD_ID, placed)
    net.run(net.entry(UploadReceipts(session.id, UPLOAD_ID, held[:2], b""), key))
    net.run(net.entry(AbortUpload(session.id, UPLOAD_ID), key))
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 10_000 - 2 * 1_050
    assert SLICE.get(net.state, placed[0].spec.digest) is None and UPLOAD.get(net.state, UPLOAD_ID) is None
    for holder in placed[0].holders:
        assert net.state.get(drop_room(holder) + placed[0].spec.digest) is not None


def test_giving_up_before_the_lot_is_drawn(net: Rehearsal) -> None:
    """An upload aborted while its lottery waits leaves nothing pending and its reservation returns."""
    session, key = net.open(max_noz=10_000)
    net.run(net.entry(Place(session.id, UPLOAD_ID, 0, net.slices(1_000), 0, 0), key))
    net.run(net.entry(AbortUpload(session.id, UPLOAD_ID), key))
    net.step()
    net.step()
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 10_000
    assert not list(PENDING.items(net.state)) and PLACEMENT.get(net.state, UPLOAD_ID + u32(0)) is None


def test_an_empty_file_needs_no_slices(net: Rehearsal) -> None:
    """A file of 0 bytes is entered and costs nothing."""
    session, key = net.open(max_noz=100)
    empty = FileRecord(b"\x01\x66\x1b\x14" + b"e" * 20, "empty", 0, "", False, b"", ())
    net.run(net.entry(CompleteUpload(session.id, UPLOAD_ID, (), (empty,)), key))
    assert FILE.get(net.state, session.wallet + empty.file_cid) is not None
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 100


def test_a_file_is_the_sum_of_its_slices(net: Rehearsal) -> None:
    """A size that its slices do not add up to is refused, as is an index never placed."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    held = net.held(key, UPLOAD_ID, placed)
    good = net.file(placed)
    for file, code in (
        (FileRecord(good.file_cid, "x", 999, "", False, b"", good.slices), "invalid"),
        (FileRecord(good.file_cid, "x", 1_000, "", False, b"", (7,)), "invalid"),
    ):
        assert net.refused(net.entry(CompleteUpload(session.id, UPLOAD_ID, held, (file,)), key)) == code


def test_removing_the_last_file_drops_its_slices(net: Rehearsal) -> None:
    """Only the owner removes; slices go with their last reference, and a holder is asked to drop until it says it has."""
    session, key = net.open()
    file, placed = net.put(session, key, 1_000)
    assert net.refused(net.entry(RemoveFile(file.file_cid), net.users[1])) == "file"
    net.run(net.entry(RemoveFile(file.file_cid), net.users[0]))
    digest = placed[0].spec.digest
    assert SLICE.get(net.state, digest) is None
    holder = placed[0].holders[0]
    done = NodeStatus(10**12, 0, 0, False, "", "", net.app.height)
    net.run(net.entry(done, net.by_address[holder]))
    assert net.state.get(drop_room(holder) + digest) is None


def test_dropping_holders_get_no_new_copy_of_the_slice() -> None:
    """While a deletion may still happen, the same slice is placed elsewhere."""
    net = Rehearsal(holders=8)
    net.heartbeat()
    session, key = net.open()
    file, placed = net.put(session, key, 1_000)
    net.run(net.entry(RemoveFile(file.file_cid), net.users[0]))
    again = net.place(session, key, [placed[0].spec], upload=b"w" * 16)
    assert set(again[0].holders).isdisjoint(placed[0].holders) and len(again[0].holders) == 4


def test_an_unfinished_upload_ends_with_its_session(net: Rehearsal) -> None:
    """When a session is finished, what its open uploads reserved returns to the wallet."""
    session, key = net.open(max_noz=10_000, seconds=2.0)
    net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    net.to_epoch(4)
    assert SESSION.get(net.state, session.id) is None and UPLOAD.get(net.state, UPLOAD_ID) is None
    assert RESERVED.get(net.state, session.wallet) == 0


def test_a_lottery_without_enough_places_gives_everything_back() -> None:
    """Holders without room: the placement is refused with one sentence and its reservation returns."""
    net = Rehearsal()
    net.heartbeat(disk_free=500)
    session, key = net.open(max_noz=10_000)
    net.run(net.entry(Place(session.id, UPLOAD_ID, 0, net.slices(1_000), 0, 0), key))
    net.step()
    net.step()
    after = SESSION.get(net.state, session.id)
    assert after is not None and after.pool_noz == 10_000
    assert SLICE.get(net.state, net.slices(1_000)[0].digest) is None


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_the_client_chooses_the_number_of_copies(net: Rehearsal, copies: int) -> None:
    """`copies` of a request overrides the network's default."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(10), upload=UPLOAD_ID, copies=copies)
    assert len(placed[0].holders) == copies
