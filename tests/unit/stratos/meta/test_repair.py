"""Lost copies are made again: by order, from living sources, paid from the repair reserve, once."""

from collections.abc import Sequence

import pytest

from stratos.crypto.keys import NodeKey
from stratos.ledger.events import event
from stratos.meta import repair
from stratos.meta.books import check_books
from stratos.meta.entries import sign_receipt
from stratos.meta.outbox import in_flight, signed_message
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import EARNER, HISTORY, MIGRATED, REPAIR, SCANNED, SHORT, SLICE, TOTALS, drop_room
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import (
    CompleteUpload,
    HeldIndices,
    NodeStatus,
    PlacedSlice,
    RemoveFile,
    RepairOrder,
    RepairReceipts,
)
from stratos.wire.receipts import REPAIR as REPAIR_KIND
from stratos.wire.receipts import ReceiptBody, indices_digest
from stratos.wire.txs import Leave


class Loss:
    """A file of three slices (if not told otherwise), one of whose holders went silent for good."""

    def __init__(self, *, holders: int = 6, sizes: Sequence[int] = (1_000, 2_000, 3_000)) -> None:
        self.net = Rehearsal(holders=holders)
        self.net.heartbeat()
        session, key = self.net.open(max_noz=10**8)
        self.file, self.placed = self.net.put(session, key, *sizes)
        self.lost = self.net.by_address[self.placed[0].holders[0]]
        self.silence(5)

    def silence(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.net.heartbeat(without=[self.lost], seconds=0.5)

    def orders(self) -> list[RepairOrder]:
        return [order for _, order in REPAIR.items(self.net.state)]

    def on_lost(self) -> list[PlacedSlice]:
        return [one for one in self.placed if self.lost.address in one.holders]

    def receipt(
        self, order: RepairOrder, indices: list[int], *, giver: NodeKey | None = None, total: int | None = None
    ) -> HeldIndices:
        noz = sum(order.slices[i].length for i in indices) if total is None else total
        body = ReceiptBody(REPAIR_KIND, order.id, order.target, self.net.epoch, noz, indices_digest(indices))
        source = giver or self.net.by_address[order.sources[indices[0]][0]]
        signed = sign_receipt(
            body, giver=source, taker=self.net.by_address[order.target], genesis_hash=self.net.genesis_hash
        )
        return HeldIndices(signed, tuple(indices))

    def carry_out(self, order: RepairOrder) -> None:
        body = RepairReceipts((self.receipt(order, list(range(len(order.slices)))),))
        self.net.run(self.net.entry(body, self.net.by_address[order.target]))


@pytest.fixture
def loss() -> Loss:
    return Loss()


def test_orders_name_living_sources_and_new_targets(loss: Loss) -> None:
    """Every slice of the lost holder is ordered once, from a holder that is heard, to one that lacks it."""
    ordered = {spec.digest: order for order in loss.orders() for spec in order.slices}
    assert set(ordered) == {one.spec.digest for one in loss.on_lost()}
    for one in loss.on_lost():
        order = ordered[one.spec.digest]
        index = [spec.digest for spec in order.slices].index(one.spec.digest)
        assert order.target not in one.holders
        assert loss.lost.address not in order.sources[index]
        assert set(order.sources[index]) <= set(one.holders)


def test_carrying_out_is_paid_from_the_reserve(loss: Loss) -> None:
    """The new holder earns its bytes, the slice has its copies again, the lost holder is to drop its own."""
    wanted = sum(one.spec.length for one in loss.on_lost())
    reserve = TOTALS.get(loss.net.state, b"repair")
    earned = TOTALS.get(loss.net.state, b"unsettled")
    for order in loss.orders():
        loss.carry_out(order)
    paid = TOTALS.get(loss.net.state, b"unsettled") - earned
    assert paid == min(wanted, reserve) and TOTALS.get(loss.net.state, b"repair") == reserve - paid
    loss.silence(1)
    for one in loss.on_lost():
        record = SLICE.get(loss.net.state, one.spec.digest)
        assert record is not None and len(record.holders) == 4 and loss.lost.address not in record.holders
        assert loss.net.state.get(drop_room(loss.lost.address) + one.spec.digest) is not None
    assert not loss.orders() and MIGRATED.get(loss.net.state, loss.lost.address) == wanted
    check_books(loss.net.state)


def test_the_surplus_goes_however_soon_the_lost_holder_is_back(loss: Loss) -> None:
    """A holder that is heard again while its slices are being copied drops them once the new copies count."""
    loss.net.heartbeat()
    for order in loss.orders():
        loss.carry_out(order)
    for one in loss.on_lost():
        record = SLICE.get(loss.net.state, one.spec.digest)
        assert record is not None
        assert loss.lost.address not in record.holders
        assert len(record.holders) == record.copies
        assert loss.net.state.get(drop_room(loss.lost.address) + one.spec.digest) is not None


def test_a_short_reserve_still_makes_the_copy(loss: Loss) -> None:
    """When the reserve cannot pay, the copy counts all the same and nothing is invented."""
    order = loss.orders()[0]
    loss.carry_out(order)
    earner = EARNER.get(loss.net.state, order.target)
    assert earner is not None
    check_books(loss.net.state)


def test_repair_receipts_are_checked_like_all_others(loss: Loss) -> None:
    """Unsigned by a source, by a stranger, inflated, replayed, out of range or for somebody else's order: refused."""
    net = loss.net
    order = next(iter(loss.orders()))
    target = net.by_address[order.target]
    indices = list(range(len(order.slices)))

    def code(item: HeldIndices, author: NodeKey) -> str:
        return net.refused(net.entry(RepairReceipts((item,)), author))

    helpers = {address for sources in order.sources for address in (*sources, order.target)}
    stranger = next(k for k in net.holders if k.address not in helpers)
    assert code(loss.receipt(order, indices, giver=stranger), target) == "signature"
    assert code(loss.receipt(order, indices, total=10**6), target) == "inflated"
    assert code(loss.receipt(order, indices), stranger) == "unassigned"
    beyond = HeldIndices(
        sign_receipt(
            ReceiptBody(REPAIR_KIND, order.id, order.target, net.epoch, 1, indices_digest([len(indices)])),
            giver=stranger, taker=target, genesis_hash=net.genesis_hash,
        ),
        (len(indices),),
    )  # fmt: skip
    assert code(beyond, target) == "unassigned"
    done = loss.receipt(order, indices)
    loss.carry_out(order)
    assert code(done, target) == "unassigned"


def test_orders_not_carried_out_expire_and_are_drawn_again(loss: Loss) -> None:
    """A target that does nothing loses standing and the slice is ordered again."""
    first = {order.id for order in loss.orders()}
    target = loss.net.by_address[loss.orders()[0].target]
    loss.silence(6)
    again = loss.orders()
    assert again and first.isdisjoint({order.id for order in again})
    history = HISTORY.get(loss.net.state, target.address) or ()
    assert ("repair_expired", -200) in [(item.reason, item.delta) for item in history]


def test_orders_that_expire_in_maintenance_cost_nothing(loss: Loss) -> None:
    """A target that went into maintenance meanwhile keeps its standing; the slice is ordered from another one."""
    order = loss.orders()[0]
    target = loss.net.by_address[order.target]
    loss.net.run(loss.net.entry(NodeStatus(10**12, 0, 0, True, "", ""), target))
    for _ in range(12):
        loss.net.heartbeat(without=[loss.lost, target], seconds=0.5)
    assert order.target not in {again.target for again in loss.orders()} and loss.orders()
    history = HISTORY.get(loss.net.state, target.address) or ()
    assert "repair_expired" not in [item.reason for item in history]


def test_a_holder_back_in_time_keeps_its_slices() -> None:
    """Within the grace nothing is ordered and nothing is dropped."""
    net = Rehearsal()
    net.heartbeat()
    session, key = net.open(max_noz=10**8)
    _, placed = net.put(session, key, 1_000)
    away = net.by_address[placed[0].holders[0]]
    for _ in range(5):
        net.heartbeat(without=[away], seconds=0.5)
    net.heartbeat()
    record = SLICE.get(net.state, placed[0].spec.digest)
    assert record is not None and record.holders == tuple(sorted(placed[0].holders))
    assert not list(REPAIR.items(net.state))


def test_slices_removed_during_repair_are_dropped_by_the_target(loss: Loss) -> None:
    """A repaired slice that nobody refers to any more earns nothing and is dropped again."""
    net = loss.net
    orders = loss.orders()
    net.run(net.entry(RemoveFile(loss.file.file_cid), net.users[0]))
    earned = TOTALS.get(net.state, b"unsettled")
    for order in orders:
        loss.carry_out(order)
        for spec in order.slices:
            assert net.state.get(drop_room(order.target) + spec.digest) is not None
    assert TOTALS.get(net.state, b"unsettled") == earned
    check_books(net.state)


def test_degraded_uploads_are_completed_when_a_holder_joins() -> None:
    """Three copies become four as soon as a fourth node is active, without anybody asking."""
    net = Rehearsal(holders=4)
    absent = net.holders[3]
    net.heartbeat(without=[absent])
    session, key = net.open(max_noz=10**8)
    placed = net.place(session, key, net.slices(1_000), upload=b"u" * 16)
    body = CompleteUpload(session.id, b"u" * 16, net.held(key, b"u" * 16, placed), (net.file(placed),))
    net.run(net.entry(body, key))
    net.wait(1.0)
    [order] = [order for _, order in REPAIR.items(net.state)]
    assert order.target == absent.address


def test_a_leaving_node_is_migrated_and_then_charged() -> None:
    """Unbonding moves its slices elsewhere, itself serving as a source; staying for the cooling-off completes it."""
    net = Rehearsal()
    net.heartbeat()
    session, key = net.open(max_noz=10**8)
    _, placed = net.put(session, key, 1_000)
    leaver = placed[0].holders[0]
    net.run(net.chain(event("suspended", node=leaver), event("unbonding", node=leaver, release_ms=0, deposit=1)))
    net.wait(1.0)
    [order] = [order for _, order in REPAIR.items(net.state)]
    assert leaver in order.sources[0]
    loss = Loss.__new__(Loss)
    loss.net = net
    loss.carry_out(order)
    net.wait(1.0)
    record = SLICE.get(net.state, placed[0].spec.digest)
    assert record is not None and leaver not in record.holders
    assert not [a for a in in_flight(net.state) if a.kind == "leave"]
    gone = net.by_address[leaver]
    for _ in range(20):
        net.heartbeat(without=[gone], seconds=0.5)
    messages = [signed_message(a) for a in in_flight(net.state)]
    assert not [m for m in messages if isinstance(m, Leave)], "an hour has not passed"


@pytest.mark.parametrize(("heard_seconds", "completed"), [(16, True), (4, False)])
def test_leaving_is_complete_after_the_cooling_off(heard_seconds: int, completed: bool) -> None:
    """A leaver that keeps reporting for the 14 days is charged as completed, once; one that vanishes earlier is not."""
    net = Rehearsal(day_seconds=1, meta=MetaParams(epoch_seconds=60.0, status_seconds=1.0, suspend_offline_seconds=3.0))
    net.heartbeat()
    leaver = net.holders[0]
    net.run(
        net.chain(
            event("suspended", node=leaver.address),
            event("unbonding", node=leaver.address, release_ms=0, deposit=1),
        )
    )
    net.wait(heard_seconds)
    for _ in range(12):
        net.heartbeat(without=[leaver], seconds=0.5)
    messages = [signed_message(action) for action in in_flight(net.state)]
    leaves = [message for message in messages if isinstance(message, Leave)]
    assert [leave.completed for leave in leaves] == [completed]
    check_books(net.state)


def test_slices_in_hand_do_not_hide_the_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more slices on a lost holder than one scan looks at, all are ordered before the first order is over."""
    monkeypatch.setattr(repair, "SCANNED_PER_ROUND", 2)
    loss = Loss(holders=12, sizes=range(1_000, 1_024))
    on_lost = {one.spec.digest for one in loss.on_lost()}
    assert len(on_lost) > 2 * repair.SCANNED_PER_ROUND
    first = {order.id for order in loss.orders()}
    loss.silence(1)
    assert first <= {order.id for order in loss.orders()}
    assert {spec.digest for order in loss.orders() for spec in order.slices} == on_lost


def test_slices_beyond_help_do_not_hide_other_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list gets its part of each round: slices that nobody can take do not keep the short ones from being seen."""
    monkeypatch.setattr(repair, "SCANNED_PER_ROUND", 4)
    loss = Loss(holders=4, sizes=range(1_000, 1_010))
    net = loss.net
    session, key = net.open(max_noz=10**8)
    placed = net.place(session, key, net.slices(*range(2_000, 2_005)), upload=b"s" * 16)
    short = net.file(placed, name="short")
    net.run(net.entry(CompleteUpload(session.id, b"s" * 16, net.held(key, b"s" * 16, placed), (short,)), key))
    assert len(list(SHORT.items(net.state))) == 5
    loss.silence(2)
    assert [name for name, _ in SCANNED.items(net.state)] == sorted([loss.lost.address, repair.SHORT_SCAN])
    net.run(net.entry(RemoveFile(short.file_cid), net.users[0]))
    loss.silence(2)
    assert not list(SHORT.items(net.state))
    net.wait(1)
    assert not list(SCANNED.items(net.state)), "the lost holder is back"
