"""Our side of a holder's cumulative receipt, above all after a connection broke in the middle of a step."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stratos.client.core import Suspects, Trees
from stratos.client.errors import Refused
from stratos.client.ledgerfile import ReceiptLine
from stratos.client.session import DownloadAccount, PaidSession, Sessions
from stratos.crypto.keys import NodeKey, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import encode
from stratos.wire.metalog import Dispute
from stratos.wire.receipts import EMPTY_CHAIN, TAG_RECEIPT, DownloadTask, Receipt, chain_digest

NETWORK = b"n" * 32
HOLDER = b"h" * 20


class Kept:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def write(self, *lines: Any) -> None:
        self.lines += lines


def account() -> tuple[DownloadAccount, Kept]:
    kept = Kept()
    core: Any = SimpleNamespace(
        genesis_hash=NETWORK,
        key=NodeKey(b"c" * 32),
        wallet=SimpleNamespace(address=b"w" * 20),
        ledger=kept,
        epoch=lambda: 4,
        now_ms=lambda: 1,
    )
    session: Any = SimpleNamespace(core=core, id=b"s" * 16, unresolved={})
    return DownloadAccount(session, HOLDER), kept


def task(length: int) -> DownloadTask:
    return DownloadTask(b"d" * 32, 0, length, 0)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=10))
def test_every_signed_total_is_in_the_ledger(lengths: list[int]) -> None:
    """Each step signs the next total and chain link, verifiably, and writes exactly that to the client's own ledger."""
    made, kept = account()
    total, digest = 0, EMPTY_CHAIN
    for length in lengths:
        receipt = made.sign(task(length))
        total, digest = total + length, chain_digest(digest, task(length))
        assert (receipt.body.total_noz, receipt.body.digest, receipt.body.epoch) == (total, digest, 4)
        signed = sign_bytes(TAG_RECEIPT, NETWORK, encode(receipt.body))
        assert verify_node(made.session.core.key.public_key, signed, receipt.taker_signature)
        made.received(length)
    lines = [line for line in kept.lines if isinstance(line, ReceiptLine)]
    assert [line.total_noz for line in lines][-1] == total
    assert lines[-1].digest == digest.hex()
    assert made.step_noz == 0


def test_a_step_the_holder_never_got_is_forgotten() -> None:
    """When the holder's last receipt is the one before, we go on from there and owe nothing."""
    made, _ = account()
    first = made.sign(task(10))
    made.received(10)
    made.sign(task(20))
    made.resume(first)
    assert (made.total_noz, made.digest, made.step_noz) == (10, first.body.digest, 0)
    assert made.session.unresolved == {}


def test_a_step_the_holder_has_and_did_not_deliver_is_disputed_later() -> None:
    """When the holder has our signature for bytes that never came, that much stays unresolved for the session's end."""
    made, _ = account()
    made.sign(task(10))
    made.received(10)
    second = made.sign(task(20))
    made.resume(second)
    assert (made.total_noz, made.session.unresolved) == (30, {HOLDER: 20})


def test_a_holder_that_has_nothing_is_begun_with_anew() -> None:
    """A holder without any receipt of ours (first step lost) takes us back to zero."""
    made, _ = account()
    made.sign(task(10))
    made.resume(None)
    assert (made.total_noz, made.digest, made.session.unresolved) == (0, EMPTY_CHAIN, {})


def test_a_receipt_we_never_signed_is_refused() -> None:
    """A total, digest or signature that is not ours is not gone on from."""
    made, _ = account()
    receipt = made.sign(task(10))
    inflated = structs.replace(receipt, body=structs.replace(receipt.body, total_noz=11))
    forged = Receipt(receipt.body, b"", b"\0" * 64)
    for wrong in (inflated, forged):
        with pytest.raises(Refused):
            made.resume(wrong)


def test_suspects_are_asked_last_but_keep_their_place_in_the_order() -> None:
    """A holder that failed moves behind the others; the place it has in the serving order is still told."""
    suspects = Suspects()
    order = [b"a", b"b", b"c"]
    assert suspects.last(order) == [(0, b"a"), (1, b"b"), (2, b"c")]
    suspects.add(b"a")
    assert suspects.last(order) == [(1, b"b"), (2, b"c"), (0, b"a")]


def test_remembered_trees_are_bounded() -> None:
    """Only the trees of the slices read last are kept."""
    trees = Trees()
    for number in range(300):
        trees.put(number.to_bytes(32, "big"), ())
    assert trees.get((0).to_bytes(32, "big")) is None
    assert trees.get((299).to_bytes(32, "big")) == ()


def test_a_wrong_piece_voids_the_step_it_was_signed_for() -> None:
    """The dispute about a step whose bytes were wrong carries the hash of what came, one about silence carries none."""
    ordered: list[Any] = []
    core: Any = SimpleNamespace(
        wallet=SimpleNamespace(address=b"w" * 20),
        order=lambda body, **_: ordered.append(body),
        note=lambda *_, **__: None,
    )
    sessions = Sessions(core, session_noz=None)
    for number, mismatches in enumerate(({HOLDER: b"m" * 32}, {})):
        session = PaidSession(core, bytes([number]) * 16, pool_noz=100, expiry_ms=10**15)
        session.unresolved[HOLDER] = 64
        session.mismatches.update(mismatches)
        sessions._retired.append(session)
    sessions.close()
    assert ordered == [Dispute(b"\0" * 16, HOLDER, 64, b"m" * 32), Dispute(b"\1" * 16, HOLDER, 64, b"")]
