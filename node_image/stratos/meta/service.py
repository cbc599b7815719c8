"""What a meta node answers over the framed RPC: submit and wait, read with proofs, long-poll for placements and repairs.

Reads are plain functions on committed state. Waiting costs a future that every commit resolves; nothing polls.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from stratos.meta.errors import MetaError
from stratos.meta.intake import Intake
from stratos.meta.reads import MetaReads
from stratos.net.peers import NODES, PeerIdentity, RpcRefused
from stratos.net.routes import Handler, Routes
from stratos.wire import metarpc
from stratos.wire.peersrpc import GetPeers

R = TypeVar("R")
PLACEMENT_SECONDS = 15.0
REPAIR_SECONDS = 20.0


class MetaService:
    """Handlers over one node's reads and intake."""

    def __init__(self, *, reads: MetaReads, intake: Intake) -> None:
        self._reads = reads
        self._intake = intake

    def register(self, routes: Routes) -> None:
        """Put all handlers into the table of the node's port."""
        reads = self._reads
        routes.on_notify(metarpc.EntryBatch, lambda _peer, batch: self._intake.gossiped(batch), allow=NODES)
        routes.on_request(metarpc.SubmitEntry, self._submit)
        routes.on_request(metarpc.GetPlacement, self._placement)
        routes.on_request(metarpc.GetRepairOrders, self._repairs)
        routes.on_request(GetPeers, _read(lambda _: reads.peers()))
        routes.on_request(metarpc.GetNetwork, _read(lambda _: reads.network()))
        routes.on_request(metarpc.GetBalance, _read(lambda q: reads.balance(q.wallet)))
        routes.on_request(metarpc.GetSessionTokens, _read(lambda q: reads.session_tokens(q.session, q.holders)))
        routes.on_request(metarpc.GetFile, _read(lambda q: reads.file(q.wallet, q.file_cid)))
        routes.on_request(metarpc.GetUpload, _read(lambda q: reads.upload(q.upload)))
        routes.on_request(metarpc.ListFiles, _read(lambda q: reads.files(q.wallet, q.after, q.limit)))
        routes.on_request(metarpc.GetSlice, _read(lambda q: reads.slice(q.slice_digest)))
        routes.on_request(metarpc.GetEvidence, _read(lambda q: reads.evidence(q.height)))
        routes.on_request(metarpc.GetSetChanges, _read(lambda q: reads.set_changes(q.from_height)))
        routes.on_request(metarpc.GetEpochReceipts, _read(lambda q: reads.epoch_receipts(q.epoch, q.node, q.first)))
        routes.on_request(metarpc.GetOzone, _read(lambda _: reads.ozone_sheet()))
        routes.on_request(metarpc.Explain, _read(lambda q: reads.explain(q.node)))

    async def _submit(self, _peer: PeerIdentity, request: metarpc.SubmitEntry) -> metarpc.EntryOutcome:
        try:
            outcome = await self._intake.submit(request.entry)
        except TimeoutError as error:
            raise RpcRefused(
                "pending", "the entry is not ordered yet; submit the same bytes again to wait on"
            ) from error
        result = outcome.result
        return metarpc.EntryOutcome(
            self._reads.stamp(), outcome.height, outcome.name, result.code, result.error, result.events
        )

    async def _placement(self, _peer: PeerIdentity, request: metarpc.GetPlacement) -> metarpc.PlacementAnswer:
        try:
            async with asyncio.timeout(PLACEMENT_SECONDS):
                while True:
                    with_answer = _refusing(lambda: self._reads.placement(request.upload, request.first_index))
                    if with_answer is not None:
                        return with_answer
                    await self._intake.next_block()
        except TimeoutError as error:
            raise RpcRefused("pending", "the lottery is not drawn yet; ask again") from error

    async def _repairs(self, _peer: PeerIdentity, request: metarpc.GetRepairOrders) -> metarpc.RepairOrders:
        try:
            async with asyncio.timeout(REPAIR_SECONDS):
                while request.after_height and not self._reads.has_news(request.holder, request.after_height):
                    await self._intake.next_block()
        except TimeoutError:
            pass
        return _refusing(lambda: self._reads.repairs(request.holder))


def _refusing(read: Callable[[], R]) -> R:
    try:
        return read()
    except MetaError as error:
        raise RpcRefused(error.code, error.sentence) from error


def _read(read: Callable[[Any], Struct]) -> Handler:
    return lambda _peer, request: _refusing(lambda: read(request))
