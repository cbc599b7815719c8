"""Repair: carrying out the meta layer's orders to copy slices here, and to drop what nobody refers to any more.

One thread, long-polling: the answer comes when there is something to do. Slices of an order are fetched one after the
other from their sources in the order given (a rate cap leaves the disk and the line to readers), verified like an upload,
made durable, signed for, co-signed by the source, and handed in per source, because the giver of a receipt must have
had all its new slices.
"""

import threading
import time
from collections.abc import Callable

import structlog

from stratos.crypto.keys import NodeKey
from stratos.net.peers import RpcRefused
from stratos.resource.frames import FrameError
from stratos.resource.link import TRANSFER_ERRORS, BulkLink
from stratos.resource.metalink import EntryRefused, MetaLink, MetaUnreachable
from stratos.resource.services import Services
from stratos.resource.store import StoreError, WrongBytes
from stratos.wire.limits import MIB
from stratos.wire.metalog import HeldIndices, RepairReceipts
from stratos.wire.metarpc import GetNetwork, GetRepairOrders, Network, RepairOrders
from stratos.wire.receipts import REPAIR
from stratos.wire.transfer import FetchReceipt, FetchSlice, FetchStart, RepairToken

POLL_SECONDS = 25.0
PAUSE_SECONDS = 1.0
BYTES_PER_SECOND = 256 * MIB
"""Cap on what repair writes, so that readers come first."""
_log = structlog.get_logger("stratos.resource.repair")


class RepairWorker:
    """Runs until `stop`; `run` is a thread's body."""

    def __init__(
        self,
        *,
        services: Services,
        meta: MetaLink,
        key: NodeKey,
        stop: threading.Event,
        dropped: Callable[[int], None],
    ) -> None:
        self._services = services
        self._meta = meta
        self._key = key
        self._stop = stop
        self._dropped = dropped
        self._after_height = 0

    def run(self) -> None:
        """Poll and work until told to stop."""
        while not self._stop.is_set():
            try:
                answer = self._meta.call(
                    GetRepairOrders(self._key.address, self._after_height),
                    RepairOrders,
                    deadline_seconds=2 * POLL_SECONDS,
                    try_seconds=POLL_SECONDS,
                )
            except (RpcRefused, MetaUnreachable) as error:
                # Not registered yet, or no meta node up: both pass.
                _log.debug("no repair orders", reason=str(error))
                self._stop.wait(PAUSE_SECONDS)
                continue
            self._drop(answer)
            complete = True
            for token in answer.orders:
                complete = self._carry_out(token) and complete
            self._after_height = answer.stamp.height if complete else 0
            if not complete:
                self._stop.wait(PAUSE_SECONDS)

    def _drop(self, answer: RepairOrders) -> None:
        for digest in answer.drop:
            self._services.store.drop(digest)
        if answer.drop:
            _log.info("slices dropped", count=len(answer.drop))
            self._dropped(answer.drops_height)

    def _carry_out(self, token: RepairToken) -> bool:
        """Fetch what an order still lacks; False when something has to be tried again."""
        order = token.order
        done = self._already(order.id)
        todo = [index for index in range(len(order.slices)) if index not in done]
        endpoints = self._endpoints() if todo else {}
        source_before = b""
        complete = True
        for index in todo:
            if self._stop.is_set():
                return False
            for source in order.sources[index]:
                endpoint = endpoints.get(source)
                if endpoint is None:
                    continue
                if source_before not in (b"", source):
                    self._hand_in()
                try:
                    self._fetch(token, index, source, endpoint)
                    source_before = source
                    break
                except TRANSFER_ERRORS as error:
                    _log.warning("repair source failed", source=source.hex(), reason=str(error))
                except WrongBytes as error:
                    _log.warning("repair source sent wrong bytes", source=source.hex(), reason=str(error))
                except StoreError as error:
                    # Another source would not help: the order waits for space, or expires.
                    _log.warning("repaired slice not stored", reason=str(error))
                    self._hand_in()
                    return False
            else:
                complete = False
        return self._hand_in() and complete

    def _fetch(self, token: RepairToken, index: int, source: bytes, endpoint: str) -> None:
        services = self._services
        order = token.order
        spec = order.slices[index]
        started = time.monotonic()
        # Room first: a source should not read and send what finds no place.
        writer = services.store.begin(spec.digest, spec.length)
        link = None
        try:
            link = services.links.get(source, endpoint)
            shown = (order.id, 0)
            link.send(FetchSlice(None if shown in link.tokens else token, order.id, index, services.epoch()))
            start = link.expect(FetchStart)
            link.tokens.add(shown)
            if start.length != spec.length:
                raise FrameError(f"the source has {start.length} bytes of a slice of {spec.length}")
            self._receive(link, spec.length, writer.write)
            writer.finish()
            services.store.commit([writer])
            held = services.books.hold(REPAIR, order.id, [(index, spec.length)], epoch=services.epoch())
            link.send(FetchReceipt(held.receipt, held.indices))
            services.books.cosigned(order.id, link.expect(FetchReceipt).receipt)
        except BaseException:
            writer.discard()
            if link is not None:
                link.close()
            raise
        services.links.put(link)
        services.counters.add("repaired_bytes", spec.length)
        self._stop.wait(max(0.0, spec.length / BYTES_PER_SECOND - (time.monotonic() - started)))

    def _receive(self, link: BulkLink, length: int, take: Callable[[memoryview], None]) -> None:
        with self._services.buffers.borrow() as buffer:
            while length:
                count = link.receive_data(buffer[: min(length, len(buffer))], most=length)
                take(buffer[:count])
                length -= count

    def _hand_in(self) -> bool:
        """Submit repair receipts that are signed by both; False when they have to wait."""
        ready = [held for held in self._services.books.unsettled_repairs() if held.receipt.giver_signature]
        for held in ready:
            try:
                self._meta.submit(RepairReceipts((held,)), key=self._key, deadline_seconds=10.0)
            except EntryRefused as error:
                # Expired or unknown orders are over; what is copied stays until the meta layer says drop.
                _log.warning("repair receipt refused", code=error.code, reason=error.sentence)
            except MetaUnreachable as error:
                _log.warning("repair receipts wait", reason=error.sentence)
                return False
            self._settled(held)
        return True

    def _settled(self, held: HeldIndices) -> None:
        self._services.books.repair_settled(held.receipt.body.task, held.receipt.body.total_noz)

    def _already(self, order: bytes) -> set[int]:
        return set(self._services.books.held_indices(REPAIR, order))

    def _endpoints(self) -> dict[bytes, str]:
        try:
            network = self._meta.call(GetNetwork(), Network, deadline_seconds=5.0)
        except (RpcRefused, MetaUnreachable):
            return {}
        return {holder.address: holder.network_address for holder in network.holders}
