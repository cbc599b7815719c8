"""No file may grow: nothing is half booked, what cannot be booked does not happen, and all goes on when there is space."""

import errno
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from bulk_net import Holder, Net, spec_of

from stratos.crypto.keys import NodeKey
from stratos.resource.accounts import AccountError, receipt_bytes
from stratos.resource.books import Books
from stratos.resource.journal import Journal, JournalError, Settled, pack, unpack
from stratos.resource.metalink import MetaLink
from stratos.resource.repair import RepairWorker
from stratos.resource.store import file_bytes
from stratos.wire.limits import KIB
from stratos.wire.metalog import SESSION_OPEN, Allotment, HolderInfo, RepairReceipts, Session
from stratos.wire.metarpc import GetNetwork, Network, Stamp
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
from stratos.wire.transfer import HolderAck, UploadDone, UploadSlice

NETWORK = b"n" * 32
CLIENT = NodeKey(b"c" * 32)
HOLDER = NodeKey(b"h" * 32)
SESSION = Session(b"s" * 16, b"w" * 20, CLIENT.public_key, 10**6, 0, 10**15, SESSION_OPEN, 0)


@pytest.fixture(autouse=True)
def output_in_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged must not be what fails: it goes to no file that may not grow."""


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file of this process can be written beyond `size` bytes: what fits is written, the rest is refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def folder_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be synced any more, as on a disk that has begun to fail."""
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def open_books(folder: Path) -> Books:
    return Books(folder / "journal", key=HOLDER, genesis_hash=NETWORK, epoch=lambda: 1)


def step(books: Books, length: int) -> Receipt:
    last = books.last_receipt(SESSION.id)
    total, digest = (0, EMPTY_CHAIN) if last is None else (last.body.total_noz, last.body.digest)
    task = DownloadTask(b"d" * 32, 0, length, 0)
    body = ReceiptBody(DOWNLOAD, SESSION.id, HOLDER.address, 1, total + length, chain_digest(digest, task))
    receipt = Receipt(body, b"", CLIENT.sign(receipt_bytes(NETWORK, body)))
    books.admit(SESSION.id, receipt, task)
    return receipt


@pytest.mark.parametrize("fits", [0, 1, 10])
def test_an_entry_that_does_not_fit_is_taken_back_whole(tmp_path: Path, fits: int) -> None:
    """However much of it was written, entries after it are found at the next start."""
    journal = Journal(tmp_path / "j")
    journal.append(Settled(b"a" * 16, 1))
    with files_end_at(journal.size + fits), pytest.raises(JournalError, match="free some space"):
        journal.append(Settled(b"b" * 16, 2))
    journal.append(Settled(b"c" * 16, 3))
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.records == [Settled(b"a" * 16, 1), Settled(b"c" * 16, 3)]
    assert again.lost_bytes == 0
    again.close()


@pytest.mark.parametrize("closed_full", [False, True])
def test_what_has_happened_is_written_when_there_is_space(tmp_path: Path, closed_full: bool) -> None:
    """Notes wait for space and come before what is written later; a node that ends on a full disk still ends well."""
    journal = Journal(tmp_path / "j")
    with files_end_at(journal.size + 5):
        journal.note(Settled(b"a" * 16, 1))
        journal.note(Settled(b"b" * 16, 2))
        assert journal.size == 0
        if closed_full:
            journal.close()
    if not closed_full:
        journal.append(Settled(b"c" * 16, 3))
        journal.close()
    again = Journal(tmp_path / "j")
    assert [record.task[:1] for record in again.records if isinstance(record, Settled)] == (
        [] if closed_full else [b"a", b"b", b"c"]
    )
    again.close()


def test_a_journal_that_cannot_be_written_anew_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long journal on a full disk is no reason not to start."""
    journal = Journal(tmp_path / "journal")
    for number in range(50):
        journal.append(Settled(bytes([number]) * 16, number))
    journal.close()
    monkeypatch.setattr("stratos.resource.books.COMPACT_BYTES", 10)
    size = (tmp_path / "journal").stat().st_size
    with files_end_at(len(pack(Settled(b"a" * 16, 1)))):
        books = open_books(tmp_path)
    books.close()
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert (tmp_path / "journal").stat().st_size == size


def test_a_journal_whose_folder_cannot_be_synced_is_the_new_one_and_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the rename nothing is ever written through the old file's descriptor, which may belong to another file by then."""
    journal = Journal(tmp_path / "j")
    journal.append(Settled(b"a" * 16, 1))
    folder_refuses(monkeypatch)
    with pytest.raises(JournalError):
        journal.rewrite([Settled(b"b" * 16, 2)])
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(JournalError):
        journal.append(Settled(b"c" * 16, 3))
    journal.close()
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b""
    assert list(unpack((tmp_path / "j").read_bytes())) == [(Settled(b"b" * 16, 2), journal.size)]


def test_a_sync_that_cannot_begin_is_told_to_who_waits(tmp_path: Path) -> None:
    """Without a descriptor to spare, nobody waits for a durable journal for ever."""
    journal = Journal(tmp_path / "j")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(JournalError):
            journal.sync(journal.append(Settled(b"a" * 16, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    journal.close()


def test_what_cannot_be_booked_does_not_happen(tmp_path: Path) -> None:
    """A session, a step and a slice are refused with the accounts as they were, and taken once there is space."""
    books = open_books(tmp_path)
    other = Session(b"o" * 16, b"w" * 20, CLIENT.public_key, 10**6, 0, 10**15, SESSION_OPEN, 0)
    books.open_session(SESSION, Allotment(1000, 0, EMPTY_CHAIN), 10**15)
    step(books, 100)
    books.hold(UPLOAD, b"u" * 16, [(0, 10)], epoch=1)
    before = (books.submissions(), books.lines())
    with files_end_at((tmp_path / "journal").stat().st_size + 20):
        with pytest.raises(AccountError, match="ask another holder"):
            books.open_session(other, Allotment(1000, 0, EMPTY_CHAIN), 10**15)
        with pytest.raises(AccountError, match="ask another holder"):
            step(books, 50)
        with pytest.raises(JournalError):
            books.hold(UPLOAD, b"u" * 16, [(1, 20)], epoch=1)
        with pytest.raises(JournalError):
            books.hold(REPAIR, b"r" * 16, [(1, 20)], epoch=1)
        assert (books.submissions(), books.lines()) == before
        assert books.session_key(other.id) is None
        first = books.last_receipt(SESSION.id)
        assert first is not None
        books.ordered(SESSION.id, 100, first.body.digest)
        assert books.unsubmitted_noz() == 0
    step(books, 70)
    assert books.hold(UPLOAD, b"u" * 16, [(2, 30)], epoch=1).indices == (0, 2)
    after = (books.submissions(), books.lines(), books.unsubmitted_noz())
    books.close()
    again = open_books(tmp_path)
    assert (again.submissions(), again.lines(), again.unsubmitted_noz()) == after
    again.close()


@pytest.mark.parametrize("here_before", [False, True], ids=["slice does not fit", "books do not fit"])
def test_an_upload_that_does_not_fit_is_told_and_not_held(plain_net: Net, here_before: bool) -> None:
    """Whether the bytes or the receipt find no room, every holder of the chain says so and none counts as holding."""
    net = plain_net
    chain = net.start(2)
    data = os.urandom(200 * KIB)
    holders = tuple(holder.address for holder in chain)

    def upload() -> tuple[bytes, dict[bytes, HolderAck]]:
        token = net.meta.placement_token(net.meta.open_session(net.client), [(spec_of(data), holders)])
        name, placed = token.placement.upload, token.placement.slices[0]
        addresses = tuple(holder.endpoint for holder in chain)
        link = net.link(chain[0])
        link.send(UploadSlice(name, 0, 0, 1, False, placed, token, addresses), flush=False)
        link.send_data(data)
        acks = link.expect(UploadDone).acks
        net.links.put(link)
        return name, {ack.holder: ack for ack in acks}

    if here_before:
        upload()
    with files_end_at((chain[0].folder / "journal").stat().st_size):
        name, refused = upload()
    assert set(refused) == set(holders)
    for holder in chain:
        ack = refused[holder.address]
        assert ack.receipt is None and "free some space" in ack.error
        assert holder.books.held_indices(UPLOAD, name) == ()
        assert len(holder.store) == here_before
        assert bool(holder.store.used_bytes) == here_before
    assert all(ack.receipt is not None for ack in upload()[1].values())


class OrdersOnly:
    """What the repair worker asks of the meta layer: where holders are, and to take its receipts."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.submitted: list[RepairReceipts] = []

    def call(self, _request: GetNetwork, _kind: type[Network], **_: object) -> Network:
        none = b"\0" * 20
        rows = tuple(
            HolderInfo(
                holder.address, holder.key.public_key, none, none, "h", "n", holder.endpoint, "active", 1, 1, 1, 1
            )
            for holder in self._net.holders
        )
        return Network(Stamp(1, NETWORK, 0, 1), rows, NETWORK, 1)

    def submit(self, body: RepairReceipts, **_: object) -> None:
        self.submitted.append(body)


def repair_worker(target: Holder, meta: OrdersOnly) -> RepairWorker:
    return RepairWorker(
        services=target.services,
        meta=cast(MetaLink, meta),
        key=target.key,
        stop=threading.Event(),
        dropped=lambda _height: None,
    )


@pytest.mark.parametrize("short_of", ["slices", "books"])
def test_a_repair_that_does_not_fit_waits(plain_net: Net, short_of: str) -> None:
    """Without room nothing is fetched in vain or signed for, the worker lives, and with room the order is carried out."""
    net = plain_net
    data = os.urandom(200 * KIB)
    spec = spec_of(data)
    (source,) = net.start(1)
    (target,) = net.start(1, limit_bytes=100 * KIB if short_of == "slices" else 1 << 30)
    writer = source.store.begin(spec.digest, spec.length)
    writer.write(memoryview(data))
    writer.finish()
    source.store.commit([writer])
    token = net.meta.repair_token(target.address, [spec], source.address)
    meta = OrdersOnly(net)
    end = len(data) * 2
    if short_of == "books":
        while (end := (target.folder / "journal").stat().st_size) < file_bytes(len(data)):
            target.books.repair_settled(os.urandom(16), 1)
    with files_end_at(end):
        assert not repair_worker(target, meta)._carry_out(token)
    assert meta.submitted == [] and target.books.held_indices(REPAIR, token.order.id) == ()
    if short_of == "slices":
        assert source.services.counters.connections == 0
    assert repair_worker(net.restart(target), meta)._carry_out(token)
    [body] = meta.submitted
    assert body.receipts[0].indices == (0,) and spec.digest in net.holders[1].store
