"""Books and journal: a restart neither loses nor repeats earnings."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.keys import NodeKey
from stratos.resource.accounts import receipt_bytes
from stratos.resource.books import Books
from stratos.resource.journal import Held, Journal, Ordered, Settled, Voided, pack, unpack
from stratos.wire.file_head import UnknownVersion
from stratos.wire.metalog import SESSION_OPEN, Allotment, Session
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    REPAIR,
    UPLOAD,
    DownloadTask,
    Receipt,
    ReceiptBody,
    chain_digest,
)

NETWORK = b"n" * 32
CLIENT = NodeKey(b"c" * 32)
HOLDER = NodeKey(b"h" * 32)
SESSION = Session(b"s" * 16, b"w" * 20, CLIENT.public_key, 10**6, 0, 10**15, SESSION_OPEN, 0)
LATER = 10**15


def open_books(folder: Path) -> Books:
    return Books(folder / "journal", key=HOLDER, genesis_hash=NETWORK, epoch=lambda: 1)


def step(books: Books, length: int) -> Receipt:
    """Sign for and admit one step."""
    last = books.last_receipt(SESSION.id)
    total, digest = (0, EMPTY_CHAIN) if last is None else (last.body.total_noz, last.body.digest)
    task = DownloadTask(b"d" * 32, 0, length, 0)
    body = ReceiptBody(DOWNLOAD, SESSION.id, HOLDER.address, 1, total + length, chain_digest(digest, task))
    receipt = Receipt(body, b"", CLIENT.sign(receipt_bytes(NETWORK, body)))
    books.admit(SESSION.id, receipt, task)
    return receipt


def test_a_restart_keeps_every_account(tmp_path: Path) -> None:
    """Downloads with what was ordered of them, uploads and repairs are the same after closing and opening."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(1000, 0, EMPTY_CHAIN), LATER)
    first = step(books, 100)
    step(books, 50)
    books.ordered(SESSION.id, 100, first.body.digest)
    books.hold(UPLOAD, b"u" * 16, [(0, 10), (3, 20)], epoch=1)
    repaired = books.hold(REPAIR, b"r" * 16, [(1, 30)], epoch=1)
    books.cosigned(b"r" * 16, Receipt(repaired.receipt.body, b"g" * 64, repaired.receipt.taker_signature))
    before = (books.lines(), books.submissions(), books.unsettled_repairs(), books.unsubmitted_noz())
    books.close()
    again = open_books(tmp_path)
    assert (again.lines(), again.submissions(), again.unsettled_repairs(), again.unsubmitted_noz()) == before
    assert again.unsubmitted_noz() == 50
    step(again, 25)
    assert again.hold(UPLOAD, b"u" * 16, [(4, 5)], epoch=1).indices == (0, 3, 4)
    assert again.unsettled_repairs()[0].receipt.giver_signature == b"g" * 64
    again.repair_settled(b"r" * 16, 30)
    assert again.unsettled_repairs() == []
    again.close()


def test_a_kill_loses_nothing_that_was_admitted(tmp_path: Path) -> None:
    """What was appended before a kill -9 (no close, no sync) is read back."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(1000, 0, EMPTY_CHAIN), LATER)
    step(books, 100)
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    os.waitpid(pid, 0)
    again = Books(tmp_path / "journal", key=HOLDER, genesis_hash=NETWORK, epoch=lambda: 1)
    assert again.unsubmitted_noz() == 100
    again.close()
    books.close()


def test_a_session_never_seen_begins_where_the_meta_layer_stands(tmp_path: Path) -> None:
    """A holder that lost its journal goes on from what its allotment says it was charged."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(1000, 700, b"x" * 32), LATER)
    task = DownloadTask(b"d" * 32, 0, 100, 0)
    body = ReceiptBody(DOWNLOAD, SESSION.id, HOLDER.address, 1, 800, chain_digest(b"x" * 32, task))
    books.admit(SESSION.id, Receipt(body, b"", CLIENT.sign(receipt_bytes(NETWORK, body))), task)
    assert books.unsubmitted_noz() == 100
    books.close()


def test_a_step_taken_back_stays_taken_back(tmp_path: Path) -> None:
    """A voided step is not handed in, also after a restart."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(1000, 0, EMPTY_CHAIN), LATER)
    step(books, 100)
    step(books, 50)
    books.void_last(SESSION.id)
    books.close()
    again = open_books(tmp_path)
    assert again.unsubmitted_noz() == 100
    again.close()


def test_an_old_token_has_to_be_shown_again(tmp_path: Path) -> None:
    """A session is stale when its evidence has run out, and after a restart."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(1000, 0, EMPTY_CHAIN), 5_000)
    assert not books.is_stale(SESSION.id, 5_000)
    assert books.is_stale(SESSION.id, 5_001)
    books.close()
    again = open_books(tmp_path)
    assert again.is_stale(SESSION.id, 0 + 1)
    again.close()


@given(st.integers(0, 400), st.binary(max_size=30))
def test_a_torn_tail_is_cut_off(cut: int, noise: bytes) -> None:
    """Whatever follows the last whole entry, all whole entries before it are read and nothing else."""
    receipt = Receipt(ReceiptBody(UPLOAD, b"u" * 16, b"e" * 20, 1, 5, b"d" * 32), b"", b"t" * 64)
    records = [
        Ordered(b"s" * 16, 1, b"d" * 32),
        Held(1, b"u" * 16, ((0, 5),), receipt),
        Voided(b"s" * 16),
        Settled(b"r" * 16, 9),
    ]
    data = b"".join(map(pack, records))
    ends = [end for _, end in unpack(data)]
    whole = [record for record, end in zip(records, ends, strict=True) if end <= cut]
    read = [record for record, _ in unpack(data[: min(cut, len(data))] + noise)]
    assert read[: len(whole)] == whole
    assert len(read) <= len(whole) + len(noise)


def test_a_damaged_entry_ends_the_journal(tmp_path: Path) -> None:
    """A flipped byte is found by its checksum; the journal goes on after the last good entry."""
    journal = Journal(tmp_path / "j")
    journal.append(Settled(b"a" * 16, 1))
    journal.sync(journal.append(Settled(b"b" * 16, 2)))
    journal.close()
    data = bytearray((tmp_path / "j").read_bytes())
    data[-1] ^= 1
    (tmp_path / "j").write_bytes(data)
    again = Journal(tmp_path / "j")
    assert again.records == [Settled(b"a" * 16, 1)]
    assert again.lost_bytes > 0
    again.append(Settled(b"c" * 16, 3))
    again.close()
    last = Journal(tmp_path / "j")
    assert last.records == [Settled(b"a" * 16, 1), Settled(b"c" * 16, 3)]
    last.close()


@pytest.mark.parametrize("ordered", [15, 20])
def test_compaction_keeps_what_is_not_ordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordered: int) -> None:
    """A journal written anew gives the same accounts, and the same ledger to the audit, whether or not all is ordered."""
    books = open_books(tmp_path)
    books.open_session(SESSION, Allotment(10_000, 0, EMPTY_CHAIN), LATER)
    receipts = [step(books, 100) for _ in range(20)]
    books.ordered(SESSION.id, 100 * ordered, receipts[ordered - 1].body.digest)
    books.hold(UPLOAD, b"u" * 16, [(0, 10), (3, 20)], epoch=1)
    before = (books.lines(), books.submissions())
    books.close()
    size = (tmp_path / "journal").stat().st_size
    monkeypatch.setattr("stratos.resource.books.COMPACT_BYTES", 10)
    for _ in range(2):
        again = open_books(tmp_path)
        assert (again.lines(), again.submissions()) == before
        again.close()
    assert (tmp_path / "journal").stat().st_size < size


def test_a_journal_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Its entries would look like a torn tail to this program, and cutting them off would lose earnings."""
    newer = b"stratos receipts-journal 2\n" + b"entries of another form"
    (tmp_path / "j").write_bytes(newer)
    with pytest.raises(UnknownVersion, match=r"receipts-journal 2.* reads 'stratos receipts-journal 1'; start it"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == newer


def test_a_journal_from_before_versions_goes_on(tmp_path: Path) -> None:
    """It has no first line until it is written anew."""
    (tmp_path / "j").write_bytes(pack(Settled(b"a" * 16, 1)))
    journal = Journal(tmp_path / "j")
    journal.append(Settled(b"b" * 16, 2))
    assert journal.records == [Settled(b"a" * 16, 1)]
    journal.rewrite([Settled(b"c" * 16, 3)])
    journal.append(Settled(b"d" * 16, 4))
    journal.close()
    assert (tmp_path / "j").read_bytes().startswith(b"stratos receipts-journal 1\n")
    again = Journal(tmp_path / "j")
    assert again.records == [Settled(b"c" * 16, 3), Settled(b"d" * 16, 4)]
    again.close()


@pytest.mark.parametrize("written", [b"", b"stratos rec"])
def test_a_new_journal_has_its_first_line_once(tmp_path: Path, written: bytes) -> None:
    """Also when a crash tore it, and when the journal is written anew before its first entry."""
    for rewritten in (False, True):
        path = tmp_path / str(rewritten)
        path.write_bytes(written)
        journal = Journal(path)
        if rewritten:
            journal.rewrite([])
        journal.append(Settled(b"a" * 16, 1))
        journal.close()
        assert path.read_bytes() == b"stratos receipts-journal 1\n" + pack(Settled(b"a" * 16, 1))
