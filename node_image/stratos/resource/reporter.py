"""What a holder tells the meta layer by itself: that it lives, and what it has earned.

One thread. A status goes out every status interval (at once after start, and when maintenance begins or ends). Download receipts go out in batches, a few times
per epoch or when enough has been served, because a receipt is void one epoch after its own. When the meta layer refuses
one as ordered already, or as not continuing what it knows, its record of our account is read and the books follow it; so
a crash between handing in and hearing the answer neither loses nor repeats anything.
"""

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from stratos.crypto.keys import NodeKey
from stratos.net.peers import RpcRefused
from stratos.resource.books import Books
from stratos.resource.metalink import EntryRefused, MetaLink, MetaUnreachable
from stratos.resource.store import SliceStore
from stratos.wire.codec import encode
from stratos.wire.genesis import MetaParams
from stratos.wire.limits import MAX_ENTRY_BYTES, MAX_RECEIPTS_PER_ENTRY, MIB
from stratos.wire.metalog import DownloadReceipts, NodeStatus, ServedTasks
from stratos.wire.metarpc import GetSessionTokens, SessionTokens

SUBMIT_SECONDS = 5.0
SUBMIT_NOZ = 256 * MIB
LOOK_SECONDS = 0.25
ENTRY_BYTES = MAX_ENTRY_BYTES // 2
VOID_CODES = frozenset({"late", "session", "disputed"})
"""Refusals after which a receipt can never be paid: it is not handed in again."""
_log = structlog.get_logger("stratos.resource.reporter")


class Reporter:
    """Runs until `stop`; `run` is a thread's body."""

    def __init__(
        self,
        *,
        meta: MetaLink,
        key: NodeKey,
        books: Books,
        store: SliceStore,
        params: MetaParams,
        network_address: Callable[[], str],
        stop: threading.Event,
        maintenance: Callable[[], bool] = lambda: False,
    ) -> None:
        self._meta = meta
        self._key = key
        self._books = books
        self._store = store
        self._params = params
        self._network_address = network_address
        self._stop = stop
        self._maintenance = maintenance
        self._told_maintenance = False
        self._void: set[bytes] = set()
        self._wake = threading.Event()
        self.degraded = ""
        self.drops_done = 0
        self.last_status = 0.0
        self.refusal = ""
        """Why the last status was refused; empty when it was taken."""
        self.statuses_refused = 0
        self.statuses_unsent = 0
        self.receipts_ordered = 0
        self.receipts_refused = 0
        self.slices_damaged = 0

    def damaged(self, _digest: bytes, sentence: str) -> None:
        """A slice was found damaged: say so in the next status, which is now."""
        self.degraded = sentence[:200]
        self.slices_damaged += 1
        _log.error("slice damaged", reason=sentence)
        self._wake.set()

    def dropped(self, height: int) -> None:
        """Everything the meta layer told to drop up to `height` is gone."""
        self.drops_done = max(self.drops_done, height)
        self._wake.set()

    def run(self) -> None:
        """Report until told to stop."""
        submit_every = min(SUBMIT_SECONDS, self._params.epoch_seconds / 4)
        next_status, next_submit = 0.0, time.monotonic() + submit_every
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_status or self._wake.is_set() or self._maintenance() != self._told_maintenance:
                self._wake.clear()
                wait = self._params.status_seconds if self.status() else min(1.0, self._params.status_seconds)
                next_status = now + wait
            if now >= next_submit or self._books.unsubmitted_noz() >= SUBMIT_NOZ:
                self.submit()
                next_submit = time.monotonic() + submit_every
            pause = min(next_status, next_submit) - time.monotonic()
            self._stop.wait(max(0.01, min(pause, LOOK_SECONDS)))
        self.submit(deadline_seconds=2.0)

    def status(self) -> bool:
        """Send one status; False when it has to be sent again soon."""
        self._told_maintenance = maintenance = self._maintenance()
        body = NodeStatus(
            self._store.free_bytes,
            self._store.used_bytes,
            len(self._store),
            maintenance,
            self._network_address(),
            self.degraded,
            self.drops_done,
        )
        try:
            self._meta.submit(body, key=self._key, deadline_seconds=max(2.0, self._params.status_seconds))
        except EntryRefused as error:
            if error.sentence != self.refusal:
                _log.warning("status refused", code=error.code, reason=error.sentence)
            self.refusal = error.sentence
            self.statuses_refused += 1
            return False
        except MetaUnreachable as error:
            if not self._stop.is_set():
                _log.warning("no meta node takes the status", reason=error.sentence)
                self.statuses_unsent += 1
            return False
        self.refusal = ""
        self.degraded = ""
        self.last_status = time.monotonic()
        return True

    def submit(self, *, deadline_seconds: float = 10.0) -> None:
        """Hand in what has not been ordered yet."""
        items = [item for item in self._books.submissions() if item[0] not in self._void]
        batch: list[tuple[bytes, ServedTasks]] = []
        size = 0
        for item in items:
            length = len(encode(item[1]))
            if batch and (size + length > ENTRY_BYTES or len(batch) == MAX_RECEIPTS_PER_ENTRY):
                self._submit_batch(batch, deadline_seconds)
                batch, size = [], 0
            batch.append(item)
            size += length
        if batch:
            self._submit_batch(batch, deadline_seconds)

    def _submit_batch(self, batch: Sequence[tuple[bytes, ServedTasks]], deadline_seconds: float) -> None:
        body = DownloadReceipts(tuple(served for _, served in batch))
        refused: dict[int, str] = {}
        try:
            outcome, _ = self._meta.submit(body, key=self._key, deadline_seconds=deadline_seconds)
        except MetaUnreachable as error:
            if not self._stop.is_set():
                _log.warning("receipts wait", reason=error.sentence)
            return
        except EntryRefused as error:
            _log.warning("receipts refused", code=error.code, reason=error.sentence)
            refused = dict.fromkeys(range(len(batch)), error.code)
        else:
            for event in outcome.events:
                if event.kind == "receipt_refused":
                    told = dict(event.attributes)
                    refused[int(told.get("index", "0"))] = told.get("code", "")
                    _log.warning("receipt refused", code=told.get("code", ""), reason=told.get("error", ""))
        self.receipts_refused += len(refused)
        self.receipts_ordered += len(batch) - len(refused)
        for index, (session, served) in enumerate(batch):
            if index not in refused:
                self._books.ordered(session, served.receipt.body.total_noz, served.receipt.body.digest)
            elif refused[index] in VOID_CODES and len(batch) == 1:
                self._void.add(session)
            else:
                self._follow(session, refused[index])

    def _follow(self, session: bytes, code: str) -> None:
        """Make the books agree with what the meta layer has ordered of this session."""
        try:
            answer = self._meta.call(
                GetSessionTokens(session, (self._key.address,)), SessionTokens, deadline_seconds=5.0
            )
        except RpcRefused:
            self._void.add(session)
            return
        except MetaUnreachable:
            return
        for token in answer.tokens:
            if token.holder == self._key.address:
                self._books.ordered(session, token.allotment.charged_noz, token.allotment.digest)
        if code in VOID_CODES:
            self._void.add(session)
