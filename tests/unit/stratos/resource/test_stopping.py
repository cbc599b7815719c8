"""A planned stop: what is under way is finished, nothing new is begun."""

import os
import threading

import pytest
from bulk_net import Net
from test_downloads import Reader, keep

from stratos.net.peers import PeerUnreachable
from stratos.resource.frames import LinkBroken, RefusedByPeer
from stratos.resource.pieces import PIECE
from stratos.wire.limits import MIB
from stratos.wire.receipts import DownloadTask
from stratos.wire.transfer import ReadDone, ReadStart, StepReceipt, step_lengths


def test_a_transfer_under_way_is_finished(plain_net: Net) -> None:
    """Told to stop in the middle of a download, a holder serves its later steps, and its idle connections end at once."""
    (holder,) = plain_net.start(1)
    data = os.urandom(3 * MIB)
    spec = keep(holder, data)
    reader = Reader(plain_net, holder, allotted=10 * MIB)
    idle = plain_net.link(holder)
    link = plain_net.link(holder)
    link.send(reader.request(spec, 0, len(data)))
    link.expect(ReadStart)
    assert link.receive_data(memoryview(bytearray(MIB))) == PIECE
    drained: list[bool] = []
    stopping = threading.Thread(target=lambda: drained.append(holder.server.drain(30.0)))
    stopping.start()
    with pytest.raises(LinkBroken):
        idle.receive()
    got = PIECE
    for length in step_lengths(len(data))[1:]:
        link.send(StepReceipt(reader.sign(DownloadTask(spec.digest, got, length, 0))))
        end = got + length
        while got < end:
            got += link.receive_data(memoryview(bytearray(end - got)))
    link.expect(ReadDone)
    stopping.join()
    assert (drained, got) == ([True], len(data))


def test_nothing_new_is_begun(plain_net: Net) -> None:
    """A holder that stops takes no connection, and refuses a request that comes behind the one it finishes."""
    (holder,) = plain_net.start(1)
    data = os.urandom(3 * MIB)
    spec = keep(holder, data)
    reader = Reader(plain_net, holder, allotted=10 * MIB)
    link = plain_net.link(holder)
    link.send(reader.request(spec, 0, PIECE))
    link.expect(ReadStart)
    holder.server.draining = True
    link.receive_data(memoryview(bytearray(PIECE)))
    link.expect(ReadDone)
    with pytest.raises((RefusedByPeer, LinkBroken)):
        reader.read(link, spec, 0, PIECE)
    assert holder.server.drain(10.0)
    with pytest.raises(PeerUnreachable):
        plain_net.link(holder)


def test_a_transfer_that_does_not_end_is_not_waited_for_longer_than_said(plain_net: Net) -> None:
    """A client that sits on an open transfer cannot keep a holder from stopping."""
    (holder,) = plain_net.start(1)
    spec = keep(holder, os.urandom(3 * MIB))
    reader = Reader(plain_net, holder, allotted=10 * MIB)
    link = plain_net.link(holder)
    link.send(reader.request(spec, 0, spec.length))
    link.expect(ReadStart)
    assert not holder.server.drain(0.05)
    holder.server.close()
    assert holder.server.connections == 0
