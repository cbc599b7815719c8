"""Every way to earn what was not served, each refused with its own code, and the honest way paid exactly once."""

from typing import Any

import pytest
from msgspec import structs

from stratos.crypto.keys import NodeKey
from stratos.meta.books import check_books
from stratos.meta.entries import receipt_message, sign_receipt
from stratos.meta.placement import serving_order
from stratos.meta.rehearsal import Rehearsal, seed_bytes
from stratos.meta.rooms import ALLOTMENT, BALANCE, EARNER, FILE, SESSION, SLICE, TOTALS
from stratos.wire.metalog import (
    CompleteUpload,
    DownloadReceipts,
    HeldIndices,
    RemoveFile,
    ServedTasks,
    UploadReceipts,
)
from stratos.wire.receipts import DOWNLOAD, EMPTY_CHAIN, DownloadTask, Receipt, chain_digest

KIB = 1024
LENGTH = 200 * KIB


class Serving:
    """A stored slice, a reader's session, and the holder that comes first for it."""

    def __init__(self) -> None:
        self.net = Rehearsal()
        self.net.heartbeat()
        storing, storer = self.net.open(max_noz=10**8)
        _, placed = self.net.put(storing, storer, LENGTH)
        self.spec = placed[0].spec
        self.session, self.key = self.net.open(user=1, max_noz=10**7, spread_noz=6 * 10**6)
        self.order = serving_order(self.session.wallet, self.spec.digest, self.net.epoch, placed[0].holders)
        self.holder = self.order[0]

    def task(self, offset: int = 0, length: int = KIB, attempt: int = 0) -> DownloadTask:
        return DownloadTask(self.spec.digest, offset, length, attempt)

    def served(self, *tasks: DownloadTask, **how: Any) -> ServedTasks:
        holder = how.pop("holder", self.holder)
        session = how.pop("session", self.session)
        key = how.pop("key", self.key)
        return self.net.served(session, key, holder, tasks or (self.task(),), **how)

    def code(self, served: ServedTasks, *, author: bytes | None = None) -> str:
        entry = self.net.entry(DownloadReceipts((served,)), self.net.by_address[author or self.holder])
        code = self.net.refused(entry)
        check_books(self.net.state)
        return code

    def pay(self, served: ServedTasks, *, author: bytes | None = None) -> None:
        self.net.run(self.net.entry(DownloadReceipts((served,)), self.net.by_address[author or self.holder]))
        check_books(self.net.state)

    def earned(self, holder: bytes | None = None) -> int:
        earner = EARNER.get(self.net.state, holder or self.holder)
        return earner.unsettled_noz if earner is not None else 0


@pytest.fixture
def serving() -> Serving:
    return Serving()


def test_matched_bytes_are_paid_once(serving: Serving) -> None:
    """A receipt both signed moves exactly its growth from the session's allotment to the holder."""
    before = serving.earned()
    first = serving.served(serving.task(0, KIB))
    serving.pay(first)
    second = serving.served(serving.task(KIB, 3 * KIB), after=KIB, digest=first.receipt.body.digest)
    serving.pay(second)
    assert serving.earned() - before == 4 * KIB
    allotment = ALLOTMENT.get(serving.net.state, serving.session.id + serving.holder)
    assert allotment is not None and allotment.charged_noz == 4 * KIB
    session = SESSION.get(serving.net.state, serving.session.id)
    assert session is not None and session.pool_noz == serving.session.pool_noz


def test_replayed_receipts_earn_nothing(serving: Serving) -> None:
    """The same receipt again, or an older one after a newer, is refused."""
    first = serving.served()
    serving.pay(first)
    assert serving.code(first) == "replayed"
    newer = serving.served(serving.task(KIB), after=KIB, digest=first.receipt.body.digest)
    serving.pay(newer)
    assert serving.code(first) == "replayed"


@pytest.mark.parametrize("side", ["giver_signature", "taker_signature"])
def test_one_sided_receipts_earn_nothing(serving: Serving, side: str) -> None:
    """A silent giver or a silent taker leaves a receipt that pays nobody."""
    served = serving.served()
    silent = ServedTasks(structs.replace(served.receipt, **{side: b""}), served.tasks)
    assert serving.code(silent) == "unsigned"


@pytest.mark.parametrize("side", ["giver_signature", "taker_signature"])
def test_forged_signatures_earn_nothing(serving: Serving, side: str) -> None:
    """A signature by another key is refused."""
    served = serving.served()
    stranger = NodeKey(seed_bytes("stranger"))
    forged = stranger.sign(receipt_message(served.receipt.body, serving.net.genesis_hash))
    assert serving.code(ServedTasks(structs.replace(served.receipt, **{side: forged}), served.tasks)) == "signature"


def test_receipts_of_another_chain_earn_nothing(serving: Serving) -> None:
    """A receipt signed for another genesis has wrong signatures here."""
    body = serving.served().receipt.body
    foreign = sign_receipt(
        body,
        giver=serving.net.by_address[serving.holder],
        taker=serving.key,
        genesis_hash=b"other chain".ljust(32, b"."),
    )
    assert serving.code(ServedTasks(foreign, (serving.task(),))) == "signature"


def test_receipts_of_another_session_earn_nothing(serving: Serving) -> None:
    """A receipt signed in one session cannot be charged to another, nor to one that never was."""
    other, other_key = serving.net.open(user=0, spread_noz=6 * 10**5, max_noz=10**6)
    crossed = serving.served(session=other)  # signed by the wrong session's key
    assert serving.code(crossed) == "signature"
    body = structs.replace(serving.served().receipt.body, task=b"n" * 16)
    unknown = sign_receipt(
        body, giver=serving.net.by_address[serving.holder], taker=other_key, genesis_hash=serving.net.genesis_hash
    )
    assert serving.code(ServedTasks(unknown, (serving.task(),))) == "session"


def test_inflated_totals_earn_nothing(serving: Serving) -> None:
    """A total over what the tasks add up to, or a task beyond its slice or of no bytes, is refused."""
    assert serving.code(serving.served(total=KIB + 1)) == "inflated"
    assert serving.code(serving.served(serving.task(LENGTH - 10, 11))) == "inflated"
    assert serving.code(serving.served(serving.task(0, 0), total=1)) == "inflated"


def test_tasks_must_lead_from_receipt_to_receipt(serving: Serving) -> None:
    """Other tasks than those the taker signed for, or a gap after the last ordered receipt, are refused."""
    served = serving.served(serving.task(0, KIB))
    assert serving.code(ServedTasks(served.receipt, (serving.task(KIB, KIB),))) == "digest"
    serving.pay(served)
    gap = serving.served(serving.task(KIB, KIB), after=KIB, digest=EMPTY_CHAIN)
    assert serving.code(gap) == "digest"


def test_only_the_allotment_can_be_spent(serving: Serving) -> None:
    """A holder without allotment, or over it, earns nothing: nobody paid for those bytes."""
    tasks = [serving.task(0, LENGTH)] * 6
    assert serving.code(serving.served(*tasks)) == "allowance"
    poor, poor_key = serving.net.open(user=0, max_noz=10_000)
    assert serving.code(serving.served(session=poor, key=poor_key)) == "allowance"


def test_only_holders_of_the_slice_earn(serving: Serving) -> None:
    """Bytes of a slice that the earner was never assigned are not traffic; nor may one node send another's receipt."""
    record = SLICE.get(serving.net.state, serving.spec.digest)
    assert record is not None
    outsider = next(key.address for key in serving.net.holders if key.address not in record.holders)
    assert serving.code(serving.served(holder=outsider), author=outsider) == "unassigned"
    assert serving.code(serving.served(), author=outsider) == "unassigned"
    unknown = DownloadTask(b"?" * 32, 0, KIB, 0)
    assert serving.code(serving.served(unknown)) == "unassigned"


def test_receipts_are_void_after_one_more_epoch(serving: Serving) -> None:
    """A receipt of epoch e is paid in e and e+1, void in e+2, and refused when it claims the future."""
    assert serving.code(serving.served(epoch=serving.net.epoch + 2)) == "early"
    old = serving.served(epoch=1)
    serving.net.to_epoch(2)
    older = serving.net.app.trial(serving.net.app.check(_bytes(serving, old)))
    assert older.code == "ok"
    serving.net.to_epoch(3)
    assert serving.code(old) == "late"


def _bytes(serving: Serving, served: ServedTasks) -> bytes:
    from stratos.wire.codec import encode

    return encode(serving.net.entry(DownloadReceipts((served,)), serving.net.by_address[serving.holder]))


def test_own_traffic_earns_nothing() -> None:
    """A node never earns from the wallet that owns it, nor from one that owns another node on its host."""
    net = Rehearsal(holders=8, owners=[1], hosts=["desk", "desk"])
    net.heartbeat()
    storing, storer = net.open(max_noz=10**8)
    placed = []
    for number in range(12):
        net.heartbeat()
        placed += net.put(storing, storer, 100 + number, name=f"f{number}")[1]
    reader, key = net.open(user=1, max_noz=10**6, spread_noz=600_000)
    for own in net.holders[:2]:
        spec = next((one.spec for one in placed if own.address in one.holders), None)
        if spec is None:
            continue
        served = net.served(reader, key, own.address, [DownloadTask(spec.digest, 0, 10, 0)])
        assert net.refused(net.entry(DownloadReceipts((served,)), own)) == "self_traffic"


def test_skipping_available_holders_costs_the_payer_the_first_piece(serving: Serving) -> None:
    """The third in the serving order is paid in full; the payer loses one 64 KiB piece per skipped holder to the repair reserve."""
    third = serving.order[2]
    repair, pool = TOTALS.get(serving.net.state, b"repair"), serving.session.pool_noz
    serving.pay(serving.served(serving.task(0, KIB), serving.task(KIB, KIB), holder=third), author=third)
    assert TOTALS.get(serving.net.state, b"repair") - repair == 2 * 64 * KIB
    session = SESSION.get(serving.net.state, serving.session.id)
    assert session is not None and session.pool_noz == pool - 2 * 64 * KIB


def test_skipping_without_a_pool_is_paid_from_the_balance() -> None:
    """A session that has spread everything pays for skipping from the wallet's free balance."""
    serving = Serving()
    session, key = serving.net.open(user=1, max_noz=6 * 10**6, spread_noz=6 * 10**6, key="all")
    second = serving.order[1]
    before = BALANCE.get(serving.net.state, session.wallet)
    serving.pay(serving.served(holder=second, session=session, key=key), author=second)
    assert BALANCE.get(serving.net.state, session.wallet) == before - 64 * KIB


def test_unavailable_holders_are_skipped_for_free(serving: Serving) -> None:
    """Who is not active is passed over without cost."""
    net = serving.net
    silent = net.by_address[serving.holder]
    for _ in range(8):
        net.heartbeat(without=[silent], seconds=0.5)
    assert net.holder(silent).status == "unavailable"
    repair = TOTALS.get(net.state, b"repair")
    second = serving.order[1]
    serving.pay(serving.served(holder=second), author=second)
    assert TOTALS.get(net.state, b"repair") == repair


def test_a_bad_receipt_does_not_spoil_the_batch(serving: Serving) -> None:
    """Each receipt of a batch stands alone; refused ones are named by index and code."""
    other, other_key = serving.net.open(user=0, max_noz=10**6, spread_noz=6 * 10**5)
    before = serving.earned()
    good = serving.served(session=other, key=other_key)
    bad = serving.served(total=KIB + 1)
    entry = serving.net.entry(DownloadReceipts((bad, good)), serving.net.by_address[serving.holder])
    [result] = serving.net.run(entry)
    refusals = [dict(event.attributes) for event in result.events if event.kind == "receipt_refused"]
    assert [(r["index"], r["code"]) for r in refusals] == [("0", "inflated")]
    assert serving.earned() - before == KIB


def test_a_thousand_small_downloads_are_one_entry_and_three_checks() -> None:
    """The budget of protocol 7: one ordered entry and three signature checks for 1,000 small downloads."""
    serving = Serving()
    tasks = [serving.task(i % 100 * KIB, KIB) for i in range(900)]
    entry = serving.net.entry(DownloadReceipts((serving.served(*tasks),)), serving.net.by_address[serving.holder])
    before = serving.net.twin.signatures.checks
    serving.net.run(entry)
    assert serving.net.twin.signatures.checks - before == 2  # and the author's, checked before the pool
    assert serving.net.blocks[-1][0].entries[0]


# -- uploads ---------------------------------------------------------------------------------------------------------

UPLOAD_ID = b"u" * 16


def test_an_upload_receipt_is_paid_for_assigned_slices_only(net: Rehearsal) -> None:
    """A holder that was not assigned, an index never placed, and a total that does not fit are refused."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000, 2_000), upload=UPLOAD_ID)
    inside = placed[0].holders[0]
    outsider = next(k.address for k in net.holders if k.address not in placed[0].holders)

    def code(item: HeldIndices) -> str:
        return net.refused(net.entry(UploadReceipts(session.id, UPLOAD_ID, (item,), b""), key))

    assert code(net.upload_receipt(key, UPLOAD_ID, outsider, [0], 1_000)) == "unassigned"
    assert code(net.upload_receipt(key, UPLOAD_ID, inside, [0, 9], 1_000)) == "unassigned"
    assert code(net.upload_receipt(key, UPLOAD_ID, inside, [0], 1_001)) == "inflated"
    assert code(net.upload_receipt(key, b"other upload id.", inside, [0], 1_000)) == "unassigned"
    good = net.upload_receipt(key, UPLOAD_ID, inside, [0], 1_000)
    assert code(HeldIndices(good.receipt, (1,))) == "digest"
    assert code(HeldIndices(good.receipt, (0, 0))) == "inflated"


def test_upload_receipts_are_cumulative(net: Rehearsal) -> None:
    """A later receipt contains the earlier one; what was paid is not paid again, and an older one is a replay."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000, 2_000), upload=UPLOAD_ID, copies=6)
    holder = placed[0].holders[0]
    first = net.upload_receipt(key, UPLOAD_ID, holder, [0], 1_000)
    both = net.upload_receipt(key, UPLOAD_ID, holder, [0, 1], 3_000)
    other = net.upload_receipt(key, UPLOAD_ID, holder, [1], 2_000)
    net.run(net.entry(UploadReceipts(session.id, UPLOAD_ID, (first,), b""), key))
    assert net.refused(net.entry(UploadReceipts(session.id, UPLOAD_ID, (other,), b""), key)) == "replayed"
    net.run(net.entry(UploadReceipts(session.id, UPLOAD_ID, (both,), b""), key))
    earner = EARNER.get(net.state, holder)
    assert earner is not None and earner.unsettled_noz == 3_000
    assert net.refused(net.entry(UploadReceipts(session.id, UPLOAD_ID, (both,), b""), key)) == "replayed"


def test_an_upload_receipt_needs_the_holder(net: Rehearsal) -> None:
    """Without the taker's signature nothing counts as durable, and the upload cannot complete."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    held = [
        HeldIndices(Receipt(item.receipt.body, item.receipt.giver_signature, b""), item.indices)
        for item in net.held(key, UPLOAD_ID, placed)
    ]
    body = CompleteUpload(session.id, UPLOAD_ID, tuple(held), (net.file(placed),))
    assert net.refused(net.entry(body, key)) == "unsigned"


def test_a_receipt_is_of_the_kind_it_is_sent_as(net: Rehearsal) -> None:
    """A download receipt cannot be sent as an upload's."""
    session, key = net.open()
    placed = net.place(session, key, net.slices(1_000), upload=UPLOAD_ID)
    good = net.upload_receipt(key, UPLOAD_ID, placed[0].holders[0], [0], 1_000)
    body = structs.replace(good.receipt.body, kind=DOWNLOAD)
    receipt = sign_receipt(body, giver=key, taker=net.by_address[placed[0].holders[0]], genesis_hash=net.genesis_hash)
    entry = net.entry(UploadReceipts(session.id, UPLOAD_ID, (HeldIndices(receipt, (0,)),), b""), key)
    assert net.refused(entry) == "invalid"


def test_the_running_digest_commits_to_order() -> None:
    """Swapping two tasks gives another chain digest."""
    one, two = DownloadTask(b"a" * 32, 0, 1, 0), DownloadTask(b"b" * 32, 0, 1, 0)
    assert chain_digest(chain_digest(EMPTY_CHAIN, one), two) != chain_digest(chain_digest(EMPTY_CHAIN, two), one)


def test_what_was_served_before_a_removal_is_still_paid(serving: Serving) -> None:
    """A holder that served a file which was then removed sends its receipt within the epoch's grace and is paid."""
    net = serving.net
    served = serving.served(serving.task(0, KIB))
    cid = next(iter(FILE.items(net.state)))[1].record.file_cid
    net.run(net.entry(RemoveFile(cid), net.users[0]))
    assert SLICE.get(net.state, serving.spec.digest) is None
    serving.pay(served)
    late = serving.served(serving.task(KIB, LENGTH), after=KIB, digest=served.receipt.body.digest)
    assert serving.code(late) == "inflated"
    net.to_epoch(3)
    gone = serving.served(serving.task(KIB, KIB), after=KIB, digest=served.receipt.body.digest)
    assert serving.code(gone) == "unassigned"
