"""Silence has consequences by rule: unavailable, repaired elsewhere, suspended, removed - and returns are welcome."""

import pytest

from stratos.crypto.keys import NodeKey
from stratos.ledger.events import event
from stratos.meta.books import check_books
from stratos.meta.outbox import in_flight, signed_message
from stratos.meta.rehearsal import STOS, Rehearsal, seed_bytes
from stratos.meta.rooms import HISTORY, HOLDER, REPAIR, SLICE, drop_room
from stratos.wire.genesis import MetaParams
from stratos.wire.metalog import NodeStatus, PossessionFailure
from stratos.wire.txs import Leave, SetEffectiveDeposit, Suspend, Unsuspend


@pytest.fixture
def net() -> Rehearsal:
    """Status every second, suspended after 10 s of silence, removed after 20 s."""
    rehearsal = Rehearsal(
        meta=MetaParams(
            epoch_seconds=60.0, status_seconds=1.0, suspend_offline_seconds=10.0, remove_offline_seconds=20.0
        )
    )
    rehearsal.heartbeat()
    return rehearsal


def silence(net: Rehearsal, seconds: float, *keys: NodeKey) -> None:
    """Time passes in which only the others report."""
    for _ in range(round(seconds * 2)):
        net.heartbeat(without=keys, seconds=0.5)


def actions(net: Rehearsal) -> list[object]:
    return [signed_message(action) for action in in_flight(net.state)]


def test_silence_makes_unavailable_and_a_word_makes_active(net: Rehearsal) -> None:
    """Two intervals without a status: unavailable and 500 points down; the next status: active again."""
    key = net.holders[0]
    silence(net, 3, key)
    assert net.holder(key).status == "unavailable"
    assert net.holder(key).score == net.genesis.meta.score_start - 500
    net.heartbeat()
    assert net.holder(key).status == "active" and not net.holder(key).repairing
    history = HISTORY.get(net.state, key.address) or ()
    assert [item.reason for item in history] == ["unavailable"]


def test_after_the_grace_its_copies_no_longer_count(net: Rehearsal) -> None:
    """One interval after being unavailable a holder is given up for repairs."""
    key = net.holders[0]
    silence(net, 3, key)
    assert not net.holder(key).repairing
    silence(net, 1.5, key)
    assert net.holder(key).repairing


def test_an_hour_offline_suspends_and_returning_unsuspends(net: Rehearsal) -> None:
    """`suspend_offline_seconds` of silence put a Suspend into the outbox, the first status afterwards an Unsuspend."""
    key = net.holders[0]
    silence(net, 12, key)
    [message] = actions(net)
    assert isinstance(message, Suspend) and message.node == key.address
    net.run(
        net.chain(
            event("action_included", action_id=message.action_id, node=key.address),
            event("suspended", node=key.address),
        )
    )
    assert net.holder(key).status == "suspended"
    net.heartbeat()
    [message] = actions(net)
    assert isinstance(message, Unsuspend)
    net.run(
        net.chain(
            event("action_included", action_id=message.action_id, node=key.address),
            event("unsuspended", node=key.address, amount=800 * STOS),
        )
    )
    assert net.holder(key).status == "active" and not actions(net)


def test_a_week_offline_removes_and_charges_the_leaver(net: Rehearsal) -> None:
    """`remove_offline_seconds` of silence remove the node; with nothing left on it, it is charged as not completed."""
    key = net.holders[0]
    silence(net, 12, key)
    [suspend] = actions(net)
    assert isinstance(suspend, Suspend)
    net.run(
        net.chain(
            event("action_included", action_id=suspend.action_id, node=key.address),
            event("suspended", node=key.address),
        )
    )
    silence(net, 10, key)
    assert net.holder(key).status == "removed"
    [leave] = actions(net)
    assert isinstance(leave, Leave) and not leave.completed and leave.migrated_noz == "0"
    net.run(net.chain(event("action_included", action_id=leave.action_id, node=key.address)))
    silence(net, 3, key)
    assert not actions(net)
    body = NodeStatus(1, 0, 0, False, "", "")
    assert net.refused(net.entry(body, key)) == "node"


def test_a_new_node_is_activated_once_it_reports(net: Rehearsal) -> None:
    """Registration alone activates nobody; the first status of a reachable node puts its deposit into the outbox, once."""
    key = NodeKey(seed_bytes("new"))
    created = event(
        "resource_created", node=key.address, public_key=key.public_key, owner=b"o" * 20, beneficiary=b"o" * 20,
        host="", network_address="", name="new", deposit=900 * STOS,
    )  # fmt: skip
    net.run(net.chain(created))
    silence(net, 2)
    assert not actions(net)
    body = NodeStatus(10**12, 0, 0, False, "127.0.0.1:77", "")
    net.run(net.entry(body, key))
    [message] = actions(net)
    assert message == SetEffectiveDeposit(1, key.address, str(900 * STOS), ())
    net.run(net.entry(body, key))
    assert len(actions(net)) == 1
    net.run(
        net.chain(
            event("action_included", action_id=1, node=key.address),
            event("effective_deposit", node=key.address, amount=900 * STOS),
            event("unsuspended", node=key.address, amount=900 * STOS),
        )
    )
    record = HOLDER.get(net.state, key.address)
    assert record is not None and record.status == "active" and record.network_address == "127.0.0.1:77"


def test_a_refused_action_is_tried_again_an_epoch_later(net: Rehearsal) -> None:
    """The chain's refusal ends an action; the monitor waits an epoch before it decides the same again."""
    key = net.holders[0]
    silence(net, 12, key)
    [message] = actions(net)
    assert isinstance(message, Suspend)
    net.run(net.chain(event("action_refused", action_id=message.action_id, code="invalid")))
    silence(net, 3, key)
    assert not actions(net)


def test_maintenance_is_no_silence(net: Rehearsal) -> None:
    """A node in announced maintenance gets no work, loses no score and is not repaired while it is away."""
    key = net.holders[0]
    net.run(net.entry(NodeStatus(10**12, 0, 0, True, "", ""), key))
    silence(net, 6, key)
    holder = net.holder(key)
    assert holder.status == "maintenance" and not holder.repairing and holder.score == net.genesis.meta.score_start


def test_silence_of_the_meta_layer_is_nobodys_fault(net: Rehearsal) -> None:
    """A night without meta blocks makes nobody unavailable: the witness clock moves one interval per block at most."""
    net.step(seconds=10 * 3600.0)
    assert {net.holder(key).status for key in net.holders} == {"active"}


def test_low_scores_are_suspended(net: Rehearsal) -> None:
    """Failed possession challenges below the floor suspend the node."""
    session, key = net.open(max_noz=10**7)
    bad = net.holders[0]
    failures = 0
    for number in range(12):
        net.heartbeat()
        _, placed = net.put(session, key, 100 + number, name=f"f{number}")
        if bad.address not in placed[0].holders:
            continue
        failures += 1
        body = PossessionFailure(bad.address, placed[0].spec.digest)
        net.run(*(net.entry(body, authority) for authority in net.authorities[:3]))
    assert failures >= 3
    silence(net, 1)
    assert [type(message) for message in actions(net)] == [Suspend]
    check_books(net.state)


def test_possession_is_judged_by_a_quorum(net: Rehearsal) -> None:
    """One or two authorities cannot take a copy away; three of four can, and a repair is ordered."""
    session, key = net.open(max_noz=10**7)
    _, placed = net.put(session, key, 1_000)
    holder, digest = placed[0].holders[0], placed[0].spec.digest
    body = PossessionFailure(holder, digest)
    net.run(*(net.entry(body, authority) for authority in net.authorities[:2]))
    assert net.refused(net.entry(body, net.authorities[0])) == "duplicate"
    assert net.refused(net.entry(body, net.holders[1])) == "authority"
    record = SLICE.get(net.state, digest)
    assert record is not None and holder in record.holders
    net.run(net.entry(body, net.authorities[2]))
    record = SLICE.get(net.state, digest)
    assert record is not None and holder not in record.holders
    assert net.state.get(drop_room(holder) + digest) is not None
    assert net.holder(net.by_address[holder]).score < net.genesis.meta.score_start
    assert net.refused(net.entry(body, net.authorities[3])) == "slice"
    silence(net, 1)
    [order] = [order for _, order in REPAIR.items(net.state)]
    assert order.slices[0].digest == digest and order.target not in placed[0].holders
    check_books(net.state)
