"""Cumulative receipts on the holder's side: exactly the next step, exactly once, within the allotment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from stratos.crypto.keys import NodeKey, verify_node
from stratos.resource.accounts import AccountError, HeldAccount, SessionAccount, receipt_bytes
from stratos.wire.metalog import SESSION_OPEN, Allotment, Session
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    UPLOAD,
    DownloadTask,
    Receipt,
    ReceiptBody,
    chain_digest,
    indices_digest,
)

NETWORK = b"n" * 32
CLIENT = NodeKey(b"c" * 32)
HOLDER = NodeKey(b"h" * 32)
SESSION = b"s" * 16
EPOCH = 7


def account(allotted: int = 10_000) -> SessionAccount:
    made = SessionAccount(session=SESSION, wallet=b"w" * 20, key=CLIENT.public_key)
    session = Session(SESSION, b"w" * 20, CLIENT.public_key, 10**6, 0, 10**15, SESSION_OPEN, 0)
    made.allow(session, Allotment(allotted, 0, EMPTY_CHAIN))
    return made


def task(length: int = 100, offset: int = 0) -> DownloadTask:
    return DownloadTask(b"d" * 32, offset, length, 0)


def signed(made: SessionAccount, step: DownloadTask, **changes: object) -> Receipt:
    body = ReceiptBody(
        DOWNLOAD, SESSION, HOLDER.address, EPOCH, made.total_noz + step.length, chain_digest(made.digest, step)
    )
    body = structs.replace(body, **changes)
    return Receipt(body, b"", CLIENT.sign(receipt_bytes(NETWORK, body)))


def admit(made: SessionAccount, receipt: Receipt, step: DownloadTask, epoch: int = EPOCH) -> None:
    made.admit(receipt, step, earner=HOLDER.address, epoch=epoch, genesis_hash=NETWORK)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12), st.integers(0, 12))
def test_steps_add_up_to_what_the_meta_layer_recomputes(lengths: list[int], ordered: int) -> None:
    """After any admitted steps, and any of them ordered, the tasks still to be told lead from the ordered digest to the last."""
    made = account()
    totals = [(0, EMPTY_CHAIN)]
    for length in lengths:
        admit(made, signed(made, task(length)), task(length))
        totals.append((made.total_noz, made.digest))
    made.ordered(*totals[min(ordered, len(lengths))])
    total, digest = made.ordered_noz, made.ordered_digest
    for step in made.tasks:
        total += step.length
        digest = chain_digest(digest, step)
    assert (total, digest) == (made.total_noz, made.digest) == (sum(lengths), totals[-1][1])
    submission = made.submission(HOLDER, NETWORK)
    if made.tasks:
        assert submission is not None
        assert submission.tasks == tuple(made.tasks)
        body = submission.receipt.body
        assert verify_node(HOLDER.public_key, receipt_bytes(NETWORK, body), submission.receipt.giver_signature)
    else:
        assert submission is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"total_noz": 101}, "ask where the account stands"),
        ({"total_noz": 10**6}, "ask where the account stands"),
        ({"digest": b"x" * 32}, "commits to other bytes"),
        ({"task": b"t" * 16}, "another session"),
        ({"earner": b"e" * 20}, "another session"),
        ({"kind": UPLOAD}, "another session"),
        ({"epoch": EPOCH + 2}, "check the clock"),
        ({"epoch": EPOCH - 2}, "check the clock"),
    ],
)
def test_a_receipt_of_anything_else_is_refused(changes: dict[str, object], sentence: str) -> None:
    """Inflated totals, other bytes, sessions, holders, kinds and epochs are refused and change nothing."""
    made = account()
    with pytest.raises(AccountError, match=sentence):
        admit(made, signed(made, task(), **changes), task())
    assert (made.total_noz, made.tasks, made.receipt) == (0, [], None)


def test_a_replayed_receipt_is_refused() -> None:
    """The same receipt opens one step only."""
    made = account()
    receipt = signed(made, task())
    admit(made, receipt, task())
    with pytest.raises(AccountError, match="100 so far"):
        admit(made, receipt, task())
    assert made.total_noz == 100


def test_a_receipt_of_another_network_or_key_is_refused() -> None:
    """A signature made for another genesis, or by another key, proves nothing here."""
    made = account()
    body = signed(made, task()).body
    for signature in (CLIENT.sign(receipt_bytes(b"m" * 32, body)), HOLDER.sign(receipt_bytes(NETWORK, body)), b""):
        with pytest.raises(AccountError, match="signature"):
            admit(made, Receipt(body, b"", signature), task())


def test_the_allotment_is_the_limit() -> None:
    """Not one noz over the allotment is served, and a larger allotment lets it go on."""
    made = account(allotted=150)
    admit(made, signed(made, task()), task())
    with pytest.raises(AccountError, match="allot more") as refused:
        admit(made, signed(made, task()), task())
    assert refused.value.code == -6
    session = Session(SESSION, b"w" * 20, CLIENT.public_key, 10**6, 0, 10**15, SESSION_OPEN, 0)
    made.allow(session, Allotment(200, 0, EMPTY_CHAIN))
    admit(made, signed(made, task()), task())
    made.allow(session, Allotment(10, 0, EMPTY_CHAIN))
    assert made.allotted_noz == 200


def test_a_step_taken_back_can_be_signed_for_again() -> None:
    """After a step that could not be delivered the account stands where it stood before it."""
    made = account()
    admit(made, signed(made, task(100)), task(100))
    before = (made.receipt, made.total_noz, made.digest)
    admit(made, signed(made, task(50)), task(50))
    assert made.void_last()
    assert (made.receipt, made.total_noz, made.digest) == before
    assert not made.void_last()
    admit(made, signed(made, task(50)), task(50))
    assert made.total_noz == 150


@given(st.lists(st.lists(st.integers(0, 50), max_size=5), min_size=1, max_size=6))
def test_held_slices_are_signed_for_once(batches: list[list[int]]) -> None:
    """However often and in whatever order slices are reported, each counts once in the cumulative receipt."""
    made = HeldAccount(kind=UPLOAD, task=b"u" * 16)
    known: set[int] = set()
    for batch in batches:
        held = made.hold([(index, 10 + index) for index in batch], epoch=EPOCH, signer=HOLDER, genesis_hash=NETWORK)
        known |= set(batch)
        body = held.receipt.body
        assert held.indices == tuple(sorted(known))
        assert body.total_noz == sum(10 + index for index in known)
        assert body.digest == indices_digest(held.indices)
        assert verify_node(HOLDER.public_key, receipt_bytes(NETWORK, body), held.receipt.taker_signature)
