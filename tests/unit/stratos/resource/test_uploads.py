"""Uploads over real sockets: chain replication, and everything that can go wrong in the middle of it."""

import os
import resource
import socket
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from bulk_net import EPOCH_SECONDS, Holder, Net, now_ms, spec_of
from msgspec import structs

from stratos.client.sending import SendJob, send_slices
from stratos.client.sources import MemorySource
from stratos.crypto.keys import NodeKey, verify_node
from stratos.resource.accounts import receipt_bytes
from stratos.resource.frames import LinkBroken, RefusedByPeer
from stratos.resource.link import BulkLink, dial
from stratos.wire.limits import KIB, MIB
from stratos.wire.metalog import PlacedSlice
from stratos.wire.metarpc import GetPlacement, PlacementAnswer
from stratos.wire.receipts import UPLOAD, indices_digest
from stratos.wire.transfer import HolderAck, PlacementToken, UploadDone, UploadReady, UploadSlice


def place(
    net: Net, slices: Sequence[bytes], chain: Sequence[Holder], session_key: NodeKey | None = None
) -> PlacementToken:
    session = net.meta.open_session(session_key or net.client)
    holders = tuple(holder.address for holder in chain)
    return net.meta.placement_token(session, [(spec_of(data), holders) for data in slices])


def message(token: PlacementToken, index: int, chain: Sequence[Holder], /, **changes: object) -> UploadSlice:
    fields: dict[str, object] = {
        "upload": token.placement.upload,
        "index": index,
        "position": 0,
        "epoch": 1,
        "ask": False,
        "placed": token.placement.slices[index],
        "token": token,
        "addresses": tuple(holder.endpoint for holder in chain),
    }
    return UploadSlice(**{**fields, **changes})  # type: ignore[arg-type]


def send(link: BulkLink, token: PlacementToken, index: int, chain: Sequence[Holder], data: bytes) -> None:
    link.send(message(token, index, chain), flush=False)
    link.send_data(data)


def check_ack(net: Net, holder: Holder, ack: HolderAck, token: PlacementToken, indices: tuple[int, ...]) -> None:
    """An ack is the holder's signature over exactly these slices."""
    assert ack.receipt is not None
    body = ack.receipt.body
    assert (ack.holder, ack.error, ack.indices) == (holder.address, "", indices)
    assert (body.kind, body.task, body.earner) == (UPLOAD, token.placement.upload, holder.address)
    assert body.total_noz == sum(token.placement.slices[index].spec.length for index in indices)
    assert body.digest == indices_digest(indices)
    signed = receipt_bytes(net.meta.genesis_hash, body)
    assert verify_node(holder.key.public_key, signed, ack.receipt.taker_signature)


@pytest.mark.parametrize("length", [1, 64 * KIB, 3 * MIB + 77])
def test_a_slice_reaches_every_holder_of_its_chain(net: Net, length: int) -> None:
    """One upload to the first holder makes the slice durable at all four, each with its own signed receipt."""
    chain = net.start(4)
    data = os.urandom(length)
    token = place(net, [data], chain)
    link = net.link(chain[0])
    send(link, token, 0, chain, data)
    done = link.expect(UploadDone)
    assert done.indices == (0,)
    acks = {ack.holder: ack for ack in done.acks}
    for holder in chain:
        check_ack(net, holder, acks[holder.address], token, (0,))
        with holder.store.open(spec_of(data).digest) as reader:
            view = memoryview(bytearray(length))
            got = 0
            while got < length:
                got += reader.read_into(view[got:], got)
            assert view == data
    net.links.put(link)


def test_small_slices_sent_back_to_back_are_answered_together(net: Net) -> None:
    """A run of small slices on one connection ends with every slice durable and receipts over all of them."""
    chain = net.start(3)
    slices = [os.urandom(100 + number) for number in range(50)]
    token = place(net, slices, chain)
    link = net.link(chain[0])
    for index, data in enumerate(slices):
        link.send(message(token, index, chain, token=token if index == 0 else None), flush=False)
        link.send_data(data, flush=False)
    link.flush()
    answered: set[int] = set()
    best: dict[bytes, HolderAck] = {}
    while len(answered) < len(slices):
        done = link.expect(UploadDone)
        answered |= set(done.indices)
        for ack in done.acks:
            if ack.holder not in best or len(ack.indices) > len(best[ack.holder].indices):
                best[ack.holder] = ack
    for holder in chain:
        check_ack(net, holder, best[holder.address], token, tuple(range(50)))
        assert len(holder.store) == 50
    net.links.put(link)


def test_a_dead_next_holder_is_reported_and_those_behind_it_are_served(net: Net) -> None:
    """When the second of four holders is dead, the other three have the slice and the ack of the dead one says why."""
    chain = net.start(4)
    data = os.urandom(2 * MIB)
    token = place(net, [data], chain)
    chain[1].server.close()
    link = net.link(chain[0])
    send(link, token, 0, chain, data)
    acks = {ack.holder: ack for ack in link.expect(UploadDone).acks}
    for holder in (chain[0], chain[2], chain[3]):
        check_ack(net, holder, acks[holder.address], token, (0,))
    assert acks[chain[1].address].receipt is None
    assert "cannot connect" in acks[chain[1].address].error
    net.links.put(link)


def test_a_holder_that_dies_in_the_middle_does_not_kill_the_upload(plain_net: Net) -> None:
    """The second holder's connections break when half of the slice has passed; first, third and fourth end with the slice."""
    net = plain_net
    chain = net.start(4)
    data = os.urandom(8 * MIB)
    token = place(net, [data], chain)
    link = net.link(chain[0])
    link.send(message(token, 0, chain))
    link.send_data(data[: 4 * MIB])
    deadline = threading.Event()
    while chain[1].server.connections == 0:
        assert not deadline.wait(0.01)
    chain[1].server.close()
    link.send_data(data[4 * MIB :])
    acks = {ack.holder: ack for ack in link.expect(UploadDone).acks}
    for holder in (chain[0], chain[2], chain[3]):
        check_ack(net, holder, acks[holder.address], token, (0,))
    assert acks[chain[1].address].error
    net.links.put(link)


def test_a_full_holder_goes_on_forwarding(plain_net: Net) -> None:
    """A holder without room says so in its ack, and the holders behind it still get the slice through it."""
    net = plain_net
    (full,) = net.start(1, limit_bytes=100 * KIB)
    chain = [full, *net.start(2)]
    data = os.urandom(MIB)
    token = place(net, [data], chain)
    link = net.link(full)
    send(link, token, 0, chain, data)
    acks = {ack.holder: ack for ack in link.expect(UploadDone).acks}
    assert "no room" in acks[full.address].error
    for holder in chain[1:]:
        check_ack(net, holder, acks[holder.address], token, (0,))
    net.links.put(link)


def test_a_flipped_byte_is_stored_nowhere(net: Net) -> None:
    """Bytes that do not hash to the placed slice are refused by every holder of the chain."""
    chain = net.start(3)
    data = os.urandom(MIB)
    token = place(net, [data], chain)
    link = net.link(chain[0])
    send(link, token, 0, chain, data[:-1] + bytes([data[-1] ^ 1]))
    acks = {ack.holder: ack for ack in link.expect(UploadDone).acks}
    for holder in chain:
        assert "hash to" in acks[holder.address].error
        assert len(holder.store) == 0
        assert holder.store.used_bytes == 0
    net.links.put(link)


def test_a_truncated_upload_leaves_nothing(plain_net: Net) -> None:
    """When the client goes away in the middle of a slice no holder keeps a part of it, and all go on serving."""
    net = plain_net
    chain = net.start(3)
    data = os.urandom(MIB)
    token = place(net, [data], chain)
    link = net.link(chain[0])
    link.send(message(token, 0, chain))
    link.send_data(data[: MIB // 2])
    link.close()
    waiting = threading.Event()
    while any(holder.server.connections for holder in chain):
        assert not waiting.wait(0.01)
    for holder in chain:
        assert len(holder.store) == 0
        assert holder.store.used_bytes == 0
        assert list((holder.store.root / "incoming").iterdir()) == []
    again = net.link(chain[0])
    send(again, token, 0, chain, data)
    assert all(not ack.error for ack in again.expect(UploadDone).acks)
    net.links.put(again)


def test_a_silent_client_is_given_up(plain_net: Net) -> None:
    """A client that stops in the middle of a slice is cut off after the silence limit."""
    net = plain_net
    (holder,) = net.start(1, silence_seconds=1.0)
    data = os.urandom(MIB)
    token = place(net, [data], [holder])
    link = net.link(holder)
    link.send(message(token, 0, [holder]))
    link.send_data(data[:1000])
    with pytest.raises(LinkBroken):
        link.receive()
    link.close()
    assert len(holder.store) == 0


def test_what_is_held_already_is_not_moved_again(net: Net) -> None:
    """Asked first, a holder that has the slice wants no bytes, and those behind it who lack it get it from its copy."""
    chain = net.start(3)
    data = os.urandom(MIB)
    alone = place(net, [data], chain[:1])
    link = net.link(chain[0])
    send(link, alone, 0, chain[:1], data)
    link.expect(UploadDone)
    token = place(net, [data], chain)
    link.send(message(token, 0, chain, ask=True))
    assert link.expect(UploadReady) == UploadReady(0, want=False)
    acks = {ack.holder: ack for ack in link.expect(UploadDone).acks}
    for holder in chain:
        check_ack(net, holder, acks[holder.address], token, (0,))
    assert chain[0].services.counters.received_bytes == MIB
    net.links.put(link)


def test_only_what_was_placed_is_taken(plain_net: Net) -> None:
    """Another slice, holder list, place in the chain, session key, epoch, or no token at all: one sentence, no bytes kept."""
    net = plain_net
    chain = net.start(2)
    data = os.urandom(1000)
    token = place(net, [data], chain)
    strangers = place(net, [data], chain, session_key=NodeKey.generate())
    other = PlacedSlice(spec_of(b"other"), token.placement.slices[0].holders)
    cases = [
        (message(token, 0, chain, placed=other), "not what was placed"),
        (message(token, 0, chain, position=1), "not holder 1"),
        (message(token, 0, chain, addresses=()), "addresses"),
        (message(token, 0, chain, epoch=3), "epoch"),
        (message(token, 0, chain, token=None, upload=b"x" * 16), "no placement"),
        (message(strangers, 0, chain), "neither the session's"),
    ]
    for wrong, sentence in cases:
        link = net.link(chain[0])
        link.send(wrong)
        with pytest.raises(RefusedByPeer, match=sentence):
            link.receive()
        link.close()
    assert len(chain[0].store) == 0


def test_a_restarted_holder_goes_on_with_its_receipt(plain_net: Net) -> None:
    """After a restart in the middle of an upload the holder's receipt covers slices from before and after it."""
    net = plain_net
    (holder,) = net.start(1)
    slices = [os.urandom(1000 + number) for number in range(2)]
    token = place(net, slices, [holder])
    link = net.link(holder)
    send(link, token, 0, [holder], slices[0])
    link.expect(UploadDone)
    link.close()
    again = net.restart(holder)
    link = net.link(again)
    send(link, token, 1, [again], slices[1])
    check_ack(net, again, link.expect(UploadDone).acks[0], token, (0, 1))
    net.links.put(link)


def test_the_dialled_node_must_be_the_holder(net: Net) -> None:
    """A connection to another node than the one meant is refused by the caller."""
    first, second = net.start(2)
    with pytest.raises(Exception, match="is not holder"):
        net.links.get(first.address, second.endpoint)


def test_another_networks_caller_is_refused(plain_net: Net) -> None:
    """A hello for another genesis ends with a sentence."""
    net = plain_net
    (holder,) = net.start(1)
    with pytest.raises(Exception, match=r"did not prove its key|genesis"):
        dial(holder.endpoint, address=holder.address, identity=net.client, genesis_hash=b"o" * 32, tls=None)


def test_too_many_connections_are_turned_away(plain_net: Net) -> None:
    """Guests beyond the limit are closed at once; the node goes on serving those it has."""
    net = plain_net
    (holder,) = net.start(1)
    sockets = [socket.create_connection(("127.0.0.1", holder.port), timeout=60) for _ in range(40)]
    waiting = threading.Event()
    while holder.services.counters.refused + holder.services.counters.connections < 40:
        assert not waiting.wait(0.01)
    assert holder.services.counters.refused == 24
    for each in sockets:
        each.close()


def test_a_port_without_descriptors_for_a_moment_goes_on_afterwards(plain_net: Net) -> None:
    """A connection that cannot be accepted now costs the node neither its port nor the next ones."""
    (holder,) = plain_net.start(1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as caller:
        host, _, port = holder.endpoint.rpartition(":")
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            caller.connect((host, int(port)))
            deadline = time.monotonic() + 10
            while not holder.services.counters.refused:
                assert time.monotonic() < deadline, "the port never tried"
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    plain_net.link(holder).close()


def test_a_token_that_has_aged_is_replaced_before_it_is_shown(net: Net) -> None:
    """Evidence older than holders take (a silent holder was waited for) is fetched anew, and the upload goes on."""
    chain = net.start(4)
    data = os.urandom(100_000)
    age_ms = round(EPOCH_SECONDS * 1000)
    net.meta.time_ms = now_ms() - age_ms - 1_000
    old = place(net, [data], chain)
    net.meta.time_ms = now_ms()
    fresh = structs.replace(old, evidence=net.meta.evidence())
    asked: list[GetPlacement] = []

    def ask(request: GetPlacement, _kind: type[PlacementAnswer]) -> Any:
        asked.append(request)
        return SimpleNamespace(token=fresh)

    endpoints = {holder.address: holder.endpoint for holder in chain}
    core: Any = SimpleNamespace(
        links=net.links, endpoint=endpoints.get, epoch=lambda: 1, now_ms=now_ms, token_age_ms=age_ms, ask=ask
    )
    job = SendJob(0, old.placement.slices[0], old, MemorySource(data), None)
    acks, problem = send_slices(core, old.placement.upload, [job])
    assert (len(acks), problem) == (4, "")
    assert asked == [GetPlacement(old.placement.upload, 0)]
    for ack in acks:
        check_ack(net, next(holder for holder in chain if holder.address == ack.holder), ack, old, (0,))
