"""Transactions between validators: what a client gave to one node reaches all others in one hop.

Only the node that got a transaction from a client passes it on, in batches: at once when nothing was sent lately, else
gathered for a few milliseconds. A peer that reads slowly is skipped until it has drained; a peer that comes up gets what
waits. Losses are harmless: the transaction is in the block of whoever has it.
"""

import asyncio
from collections.abc import Sequence

from stratos.chain.mempool import CheckedTx, Mempool
from stratos.net.connection import notify_frame
from stratos.net.mesh import PeerMesh
from stratos.wire.chainrpc import MAX_TXS_PER_SUBMIT, TxBatch

GATHER_SECONDS = 0.004
MAX_BATCH_BYTES = 1024 * 1024


class Gossip:
    """Sends admitted transactions to all validators that are up."""

    def __init__(self, *, mesh: PeerMesh, mempool: Mempool) -> None:
        self._mesh = mesh
        self._mempool = mempool
        self._outbox: list[bytes] = []
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._last_sent = 0.0

    def announce(self, txs: Sequence[CheckedTx]) -> None:
        """Pass these on to every peer."""
        self._outbox.extend([checked.raw for checked in txs])
        if self._timer is None:
            loop = asyncio.get_running_loop()
            quiet = loop.time() - self._last_sent
            if quiet >= GATHER_SECONDS:
                self._timer = loop.call_soon(self._flush)
            else:
                self._timer = loop.call_later(GATHER_SECONDS - quiet, self._flush)

    def peer_up(self, address: bytes) -> None:
        """Give a peer that has just come up what waits here."""
        for frame in _frames([checked.raw for checked in self._mempool.waiting()]):
            if self._mesh.congested(address):
                return
            self._mesh.send_frame(frame, to=address)

    def close(self) -> None:
        """Stop sending."""
        if self._timer is not None:
            self._timer.cancel()

    def _flush(self) -> None:
        self._timer = None
        self._last_sent = asyncio.get_running_loop().time()
        outbox, self._outbox = self._outbox, []
        peers = [address for address in self._mesh.up if not self._mesh.congested(address)]
        for frame in _frames(outbox):
            for address in peers:
                self._mesh.send_frame(frame, to=address)


def _frames(raws: list[bytes]) -> list[bytes]:
    frames = []
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if len(batch) >= MAX_TXS_PER_SUBMIT or size + len(raw) > MAX_BATCH_BYTES:
            frames.append(notify_frame(TxBatch(tuple(batch))))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        frames.append(notify_frame(TxBatch(tuple(batch))))
    return frames
