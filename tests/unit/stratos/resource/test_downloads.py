"""Downloads, repair copies and possession proofs over real sockets."""

import os
import threading

import pytest
from blake3 import blake3
from bulk_net import Holder, Net, spec_of
from msgspec import structs

from stratos.crypto.keys import NodeKey, verify_node
from stratos.crypto.merkle import verify_merkle
from stratos.crypto.signing import sign_bytes
from stratos.resource.accounts import receipt_bytes
from stratos.resource.frames import LinkBroken, RefusedByPeer
from stratos.resource.link import BulkLink, LinkPool
from stratos.resource.pieces import PIECE, piece_count, range_root
from stratos.wire.limits import KIB, MIB
from stratos.wire.metalog import Session, SliceSpec
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    REPAIR,
    DownloadTask,
    Receipt,
    ReceiptBody,
    chain_digest,
    indices_digest,
)
from stratos.wire.transfer import (
    TAG_POSSESSION,
    AccountState,
    AskAccount,
    FetchReceipt,
    FetchSlice,
    FetchStart,
    PossessionProof,
    ProvePossession,
    ReadDone,
    ReadSlice,
    ReadStart,
    StepReceipt,
    step_lengths,
)


def keep(holder: Holder, data: bytes) -> SliceSpec:
    """Put a slice into a holder's store."""
    spec = spec_of(data)
    writer = holder.store.begin(spec.digest, spec.length)
    writer.write(memoryview(data))
    writer.finish()
    holder.store.commit([writer])
    return spec


class Reader:
    """A client's side of downloads from one holder."""

    def __init__(self, net: Net, holder: Holder, *, allotted: int) -> None:
        self.net = net
        self.holder = holder
        self.session: Session = net.meta.open_session(net.client)
        self.token = net.meta.session_token(self.session, holder.address, allotted)
        self.total = 0
        self.digest = EMPTY_CHAIN

    def sign(self, task: DownloadTask, **changes: object) -> Receipt:
        total, digest = self.total + task.length, chain_digest(self.digest, task)
        body = ReceiptBody(DOWNLOAD, self.session.id, self.holder.address, 1, total, digest)
        body = structs.replace(body, **changes)
        self.total, self.digest = total, digest
        return Receipt(body, b"", self.net.client.sign(receipt_bytes(self.net.meta.genesis_hash, body)))

    def request(self, spec: SliceSpec, offset: int, length: int, /, **changes: object) -> ReadSlice:
        first = DownloadTask(spec.digest, offset, step_lengths(length)[0], 0)
        asked = ReadSlice(self.session.id, self.token, spec.digest, offset, length, 0, True, self.sign(first))
        return structs.replace(asked, **changes)

    def read(self, link: BulkLink, spec: SliceSpec, offset: int, length: int) -> bytes:
        link.send(self.request(spec, offset, length))
        start = link.expect(ReadStart)
        hashes = start.piece_hashes
        root = range_root(
            hashes, first=offset // PIECE, count=piece_count(spec.length), left=start.left, right=start.right
        )
        assert root == spec.digest
        data = bytearray()
        for number, step in enumerate(step_lengths(length)):
            if number:
                link.send(StepReceipt(self.sign(DownloadTask(spec.digest, offset + len(data), step, 0))))
            end = len(data) + step
            while len(data) < end:
                room = memoryview(bytearray(MIB))
                data += room[: link.receive_data(room[: end - len(data)])]
        for at in range(0, length, PIECE):
            assert blake3(data[at : at + PIECE]).digest() == hashes[at // PIECE]
        receipt = link.expect(ReadDone).receipt
        assert receipt.body.total_noz == self.total
        signed = receipt_bytes(self.net.meta.genesis_hash, receipt.body)
        assert verify_node(self.holder.key.public_key, signed, receipt.giver_signature)
        assert verify_node(self.net.client.public_key, signed, receipt.taker_signature)
        return bytes(data)


@pytest.mark.parametrize(
    ("size", "offset", "length"),
    [(1, 0, 1), (PIECE, 0, PIECE), (7 * MIB + 9, 0, 7 * MIB + 9), (3 * MIB, 2 * PIECE, MIB), (PIECE + 5, PIECE, 5)],
)
def test_a_range_is_served_against_receipts(net: Net, size: int, offset: int, length: int) -> None:
    """Whole slices and ranges come step by step with their tree hashes, and end with a receipt of both sides."""
    (holder,) = net.start(1)
    data = os.urandom(size)
    spec = keep(holder, data)
    reader = Reader(net, holder, allotted=10 * MIB)
    link = net.link(holder)
    assert reader.read(link, spec, offset, length) == data[offset : offset + length]
    assert holder.books.unsubmitted_noz() == length
    served = holder.books.submissions()[0][1]
    assert sum(task.length for task in served.tasks) == length
    net.links.put(link)


def test_small_reads_are_pipelined_on_one_connection(net: Net) -> None:
    """Many requests sent ahead, each pre-signed, are answered in order."""
    (holder,) = net.start(1)
    slices = [os.urandom(200 + number) for number in range(30)]
    specs = [keep(holder, data) for data in slices]
    reader = Reader(net, holder, allotted=MIB)
    link = net.link(holder)
    for spec in specs:
        link.send(reader.request(spec, 0, spec.length), flush=False)
    link.flush()
    for data in slices:
        link.expect(ReadStart)
        room = memoryview(bytearray(1000))
        assert room[: link.receive_data(room)] == data
        link.expect(ReadDone)
    net.links.put(link)


def test_not_one_byte_over_the_allotment(net: Net) -> None:
    """A read over the allotment stops exactly where it is used up, and the account stands at what was served."""
    (holder,) = net.start(1)
    data = os.urandom(3 * MIB)
    spec = keep(holder, data)
    reader = Reader(net, holder, allotted=64 * KIB + 100)
    link = net.link(holder)
    link.send(reader.request(spec, 0, len(data)))
    link.expect(ReadStart)
    link.receive_data(memoryview(bytearray(MIB)))
    link.send(StepReceipt(reader.sign(DownloadTask(spec.digest, PIECE, MIB, 0))))
    with pytest.raises(RefusedByPeer, match="allot more") as refused:
        link.receive_data(memoryview(bytearray(MIB)))
    assert refused.value.code == -6
    link.close()
    assert holder.books.unsubmitted_noz() == PIECE
    again = net.link(holder)
    again.send(AskAccount(reader.session.id))
    state = again.expect(AccountState).receipt
    assert state is not None
    assert state.body.total_noz == PIECE
    net.links.put(again)


def test_wrong_receipts_and_sessions_get_nothing(plain_net: Net) -> None:
    """Inflated total, replay, unknown session, foreign key, ranges outside the slice: one sentence each, nothing served."""
    net = plain_net
    (holder,) = net.start(1)
    data = os.urandom(2 * PIECE)
    spec = keep(holder, data)
    reader = Reader(net, holder, allotted=MIB)
    link = net.link(holder)

    def refused(request: ReadSlice, sentence: str, code: int) -> None:
        reader.total, reader.digest = 0, EMPTY_CHAIN
        link.send(request)
        with pytest.raises(RefusedByPeer, match=sentence) as error:
            link.receive()
        assert error.value.code == code

    whole = 2 * PIECE
    task = DownloadTask(spec.digest, 0, whole, 0)
    refused(reader.request(spec, 0, whole, token=None), "not known here", -6)
    refused(reader.request(spec, 0, whole, receipt=reader.sign(task, total_noz=5)), "where the account stands", -7)
    refused(reader.request(spec, 0, whole, receipt=reader.sign(task, earner=b"e" * 20)), "another session", -7)
    refused(reader.request(spec, 0, whole, session=b"x" * 16), "another session than the request", -7)
    refused(reader.request(spec, 0, whole, offset=1), "whole pieces", -4)
    refused(reader.request(spec, 0, whole, length=3 * PIECE), "whole pieces", -4)
    refused(reader.request(spec, 0, whole, slice_digest=b"n" * 32), "not here", -6)
    unsigned = reader.sign(task)
    refused(reader.request(spec, 0, whole, receipt=structs.replace(unsigned, taker_signature=b"")), "signature", -3)
    assert holder.books.unsubmitted_noz() == 0
    good = reader.request(spec, 0, whole)
    reader.total, reader.digest = 0, EMPTY_CHAIN
    assert reader.read(link, spec, 0, whole) == data
    link.send(good)
    with pytest.raises(RefusedByPeer, match="so far"):
        link.receive()
    net.links.put(link)
    thief = LinkPool(
        identity=NodeKey.generate(),
        genesis_hash=net.meta.genesis_hash,
        transport="plain",
        now=lambda: 0.0,
        timeout=60.0,
    )
    stolen = thief.get(holder.address, holder.endpoint)
    stolen.send(reader.request(spec, 0, whole))
    with pytest.raises(RefusedByPeer, match="not the session's"):
        stolen.receive()
    stolen.close()


def test_a_client_that_does_not_sign_gets_no_further(plain_net: Net) -> None:
    """A silent taker has one step, which it signed for, and not a byte more; the holder gives the connection up."""
    net = plain_net
    (holder,) = net.start(1, silence_seconds=1.0)
    data = os.urandom(3 * MIB)
    spec = keep(holder, data)
    reader = Reader(net, holder, allotted=10 * MIB)
    link = net.link(holder)
    link.send(reader.request(spec, 0, len(data)))
    link.expect(ReadStart)
    assert link.receive_data(memoryview(bytearray(MIB))) == PIECE
    with pytest.raises(LinkBroken):
        link.receive_data(memoryview(bytearray(MIB)))
    link.close()
    assert holder.books.unsubmitted_noz() == PIECE
    assert holder.services.counters.served_bytes == PIECE


def test_damage_in_the_middle_of_a_step_is_not_owed_for(plain_net: Net) -> None:
    """A bit flipped on disk is found while serving: the step is taken back, the slice set aside, the client told."""
    net = plain_net
    (holder,) = net.start(1)
    data = os.urandom(7 * MIB)
    spec = keep(holder, data)
    path = holder.store.root / "slices" / spec.digest.hex()[:1] / spec.digest.hex()
    with path.open("r+b") as file:
        file.seek(6 * MIB)
        byte = file.read(1)
        file.seek(6 * MIB)
        file.write(bytes([byte[0] ^ 1]))
    reader = Reader(net, holder, allotted=20 * MIB)
    link = net.link(holder)
    with pytest.raises(RefusedByPeer, match="damaged"):
        reader.read(link, spec, 0, len(data))
    link.close()
    assert len(holder.corrupt) == 1
    good = PIECE + MIB + 4 * MIB
    assert holder.books.unsubmitted_noz() == good
    again = net.link(holder)
    again.send(AskAccount(reader.session.id))
    state = again.expect(AccountState).receipt
    assert state is not None
    assert state.body.total_noz == good
    net.links.put(again)


def test_a_restart_keeps_what_was_earned(net: Net) -> None:
    """A holder killed after a step goes on from that receipt, once the token is shown again."""
    (holder,) = net.start(1)
    data = os.urandom(PIECE)
    spec = keep(holder, data)
    reader = Reader(net, holder, allotted=10 * MIB)
    link = net.link(holder)
    assert reader.read(link, spec, 0, PIECE) == data
    link.close()
    again = net.restart(holder)
    reader.holder = again
    link = net.link(again)
    before = (reader.total, reader.digest)
    link.send(reader.request(spec, 0, PIECE, token=None))
    with pytest.raises(RefusedByPeer, match="too old"):
        link.receive()
    reader.total, reader.digest = before
    assert reader.read(link, spec, 0, PIECE) == data
    assert again.books.unsubmitted_noz() == 2 * PIECE
    net.links.put(link)


def test_possession_is_proven_to_anybody(net: Net) -> None:
    """A fresh challenge about a random piece is answered by the piece, its path, and a signature bound to the nonce."""
    (holder,) = net.start(1)
    data = os.urandom(5 * PIECE + 1)
    spec = keep(holder, data)
    link = net.link(holder)
    for piece in range(6):
        nonce = os.urandom(16)
        link.send(ProvePossession(spec.digest, piece, nonce))
        proof = link.expect(PossessionProof)
        assert proof.piece_bytes == data[piece * PIECE : (piece + 1) * PIECE]
        leaf = blake3(proof.piece_bytes).digest()
        assert verify_merkle(spec.digest, leaf, piece, proof.count, proof.path)
        signed = sign_bytes(TAG_POSSESSION, net.meta.genesis_hash, nonce + leaf)
        assert verify_node(holder.key.public_key, signed, proof.signature)
    link.send(ProvePossession(spec.digest, 6, b"n" * 16))
    with pytest.raises(RefusedByPeer, match="6 pieces"):
        link.receive()
    link.send(ProvePossession(b"g" * 32, 0, b"n" * 16))
    with pytest.raises(RefusedByPeer, match="not here"):
        link.receive()
    net.links.put(link)


def test_a_repair_copy_is_given_to_its_target_only(plain_net: Net) -> None:
    """The target of an order gets the slice and the source's signature under its receipt; nobody else, and nothing else."""
    net = plain_net
    source, target = net.start(2)
    data = os.urandom(MIB)
    spec = keep(source, data)
    token = net.meta.repair_token(target.address, [spec, spec_of(b"other")], source.address)
    link = target.services.links.get(source.address, source.endpoint)
    link.send(FetchSlice(token, token.order.id, 0, 1))
    assert link.expect(FetchStart).length == MIB
    got = bytearray()
    while len(got) < MIB:
        room = memoryview(bytearray(MIB))
        got += room[: link.receive_data(room[: MIB - len(got)])]
    assert got == data
    held = target.books.hold(REPAIR, token.order.id, [(0, MIB)], epoch=1)
    link.send(FetchReceipt(held.receipt, held.indices))
    receipt = link.expect(FetchReceipt).receipt
    signed = receipt_bytes(net.meta.genesis_hash, receipt.body)
    assert receipt.body.digest == indices_digest((0,))
    assert verify_node(source.key.public_key, signed, receipt.giver_signature)
    link.send(FetchSlice(None, token.order.id, 1, 1))
    with pytest.raises(RefusedByPeer, match="not here"):
        link.receive()
    link.close()
    stranger = net.link(source)
    stranger.send(FetchSlice(token, token.order.id, 0, 1))
    with pytest.raises(RefusedByPeer, match="only the target"):
        stranger.receive()
    net.links.put(stranger)


def test_an_inflated_repair_receipt_is_not_cosigned(plain_net: Net) -> None:
    """A target that signs for slices it did not get, or for more bytes, gets no signature of the source."""
    net = plain_net
    source, target = net.start(2)
    spec = keep(source, b"x" * 1000)
    token = net.meta.repair_token(target.address, [spec], source.address)
    link = target.services.links.get(source.address, source.endpoint)
    link.send(FetchSlice(token, token.order.id, 0, 1))
    link.expect(FetchStart)
    link.receive_data(memoryview(bytearray(MIB)))
    held = target.books.hold(REPAIR, token.order.id, [(0, 2000)], epoch=1)
    link.send(FetchReceipt(held.receipt, held.indices))
    with pytest.raises(RefusedByPeer, match="does not fit"):
        link.receive()
    link.close()


def test_many_readers_at_once(plain_net: Net) -> None:
    """Sessions of many clients are served at the same time, each with its own account."""
    net = plain_net
    (holder,) = net.start(1)
    data = os.urandom(2 * MIB)
    spec = keep(holder, data)
    readers = [Reader(net, holder, allotted=10 * MIB) for _ in range(8)]
    results: list[bool] = []

    def run(reader: Reader) -> None:
        link = net.link(holder)
        results.append(reader.read(link, spec, 0, len(data)) == data)
        link.close()

    threads = [threading.Thread(target=run, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert results == [True] * 8
    assert holder.books.unsubmitted_noz() == 8 * len(data)
