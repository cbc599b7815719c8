"""How entries come in: signatures checked once, in threads, in batches; tried against the state; told to the other nodes.

Whoever submits waits for the block that orders the entry, or for the reason why none will. A refusal that may only mean that
this node is a block behind is tried again after the next commit. Entries from peers go through the same checks without
an answer. Signatures of receipts inside an entry are checked ahead too, so that executing a block checks none.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from msgspec import Struct

from stratos.meta.application import MetaApplication
from stratos.meta.entries import entry_hash, receipt_checks
from stratos.meta.errors import MetaError
from stratos.meta.pool import PooledEntry, PoolFull
from stratos.meta.rooms import HOLDER, REPAIR, SESSION, UPLOAD
from stratos.net.connection import notify_frame
from stratos.net.mesh import PeerMesh
from stratos.wire.block import EntryResult
from stratos.wire.metarpc import EntryBatch
from stratos.wire.receipts import DOWNLOAD, Receipt
from stratos.wire.receipts import UPLOAD as UPLOAD_KIND

JOB_ENTRIES = 64
MAX_PENDING = 20_000
SECOND_TRY_SECONDS = 0.15
MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH_ENTRIES = 1_000
STALE_BLOCKS = 3
"""Blocks an awaited entry may be passed over before its submitter asks the state again."""


class Outcome(Struct, frozen=True):
    """What became of an entry: height 0 when it was refused before ordering."""

    name: bytes
    height: int
    result: EntryResult


class _Waiting(Struct):
    """One submission."""

    raw: bytes
    answer: "asyncio.Future[Outcome] | None"


Checked = PooledEntry | MetaError


class Intake:
    """Brings entries into the pool. `work_available` is called when one is in."""

    def __init__(
        self,
        *,
        application: MetaApplication,
        mesh: PeerMesh,
        pool: Executor,
        work_available: Callable[[], None],
    ) -> None:
        self._app = application
        self._mesh = mesh
        self._threads = pool
        self._work_available = work_available
        self._queue: list[_Waiting] = []
        self._scheduled = False
        self._pending = 0
        self._answers: dict[bytes, list[tuple[asyncio.Future[Outcome], int]]] = {}
        self._outbox: list[bytes] = []
        self._flush_scheduled = False
        self._next_block: asyncio.Future[None] | None = None
        self._ordered: dict[bytes, tuple[int, EntryResult]] = {}
        """Outcomes of the last blocks, for submitters that come late (a retry at another node)."""
        self._ordered_heights: list[tuple[int, list[bytes]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        application.on_ordered = self._committed
        application.on_refused = self._dropped

    # -- from outside ------------------------------------------------------------------------------------------------

    async def submit(self, raw: bytes, *, timeout_seconds: float = 30.0) -> Outcome:
        """Check, order and report; raises TimeoutError when no block took it in time."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._enqueue(_Waiting(raw, future))
        async with asyncio.timeout(timeout_seconds):
            return await future

    def gossiped(self, batch: EntryBatch) -> None:
        """Entries from a peer."""
        for raw in batch.entries:
            if not self._app.pool.seen(entry_hash(raw)):
                self._enqueue(_Waiting(raw, None))

    async def next_block(self) -> None:
        """Return at the next commit."""
        if self._next_block is None or self._next_block.done():
            self._next_block = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next_block)

    def peer_up(self, address: bytes) -> None:
        """Tell a peer that came up what waits here."""
        for frame in _frames([pooled.raw for pooled in self._app.pool.waiting()]):
            if self._mesh.congested(address):
                return
            self._mesh.send_frame(frame, to=address)

    async def check_ahead(self, raws: Sequence[bytes]) -> None:
        """Check entries of a block that were never seen here, in threads."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(raws), JOB_ENTRIES):
            for checked in await loop.run_in_executor(
                self._threads, self._check_all, raws[start : start + JOB_ENTRIES]
            ):
                if isinstance(checked, PooledEntry):
                    self._app.prepared(checked)

    # -- checking ----------------------------------------------------------------------------------------------------

    def _enqueue(self, waiting: _Waiting) -> None:
        if self._pending >= MAX_PENDING:
            if waiting.answer is not None:
                refusal = EntryResult("full", f"{self._pending} entries wait for their check; try again later", ())
                waiting.answer.set_result(Outcome(entry_hash(waiting.raw), 0, refusal))
            return
        self._pending += 1
        self._queue.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_jobs)

    def _start_jobs(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        queue, self._queue = self._queue, []
        for start in range(0, len(queue), JOB_ENTRIES):
            job = queue[start : start + JOB_ENTRIES]
            task = loop.create_task(self._job(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _job(self, job: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        checked = await loop.run_in_executor(self._threads, self._check_all, [waiting.raw for waiting in job])
        self._pending -= len(job)
        news = False
        for waiting, one in zip(job, checked, strict=True):
            news = self._admit(waiting, one) or news
        if news:
            self._work_available()

    def _check_all(self, raws: Sequence[bytes]) -> list[Checked]:
        return [self._check(raw) for raw in raws]

    def _check(self, raw: bytes) -> Checked:
        try:
            pooled = self._app.check(raw)
        except MetaError as error:
            return error
        # Good ones are remembered; wrong ones are found again, and named, when the entry is tried.
        for check in receipt_checks(pooled.entry, keys=self._keys_of, genesis_hash=self._app.genesis_hash):
            self._app.signatures(check.public_key, check.message, check.signature)
        return pooled

    def _keys_of(self, receipt: Receipt) -> tuple[bytes | None, bytes | None]:
        body = receipt.body
        state = self._app.state
        earner = HOLDER.get(state, body.earner)
        node = earner.public_key if earner is not None else None
        if body.kind == DOWNLOAD:
            session = SESSION.get(state, body.task)
            return node, session.key if session is not None else None
        if body.kind == UPLOAD_KIND:
            upload = UPLOAD.get(state, body.task)
            session = SESSION.get(state, upload.session) if upload is not None else None
            return session.key if session is not None else None, node
        order = REPAIR.get(state, body.task)
        source = HOLDER.get(state, order.sources[0][0]) if order is not None and order.sources[0] else None
        return source.public_key if source is not None else None, node

    # -- admitting ---------------------------------------------------------------------------------------------------

    def _admit(self, waiting: _Waiting, checked: Checked) -> bool:
        answer = waiting.answer
        if isinstance(checked, MetaError):
            if answer is not None and not answer.done():
                answer.set_result(
                    Outcome(entry_hash(waiting.raw), 0, EntryResult(checked.code, checked.sentence[:1024], ()))
                )
            return False
        if answer is None:
            return self._try(checked) is None
        known = self._ordered.get(checked.name)
        if known is not None:
            answer.set_result(Outcome(checked.name, known[0], known[1]))
            return False
        if self._app.pool.seen(checked.name) and checked.name not in self._app.pool:
            refusal = EntryResult(
                "nonce", "this very entry was ordered before; sign the request anew with a fresh nonce", ()
            )
            answer.set_result(Outcome(checked.name, 0, refusal))
            return False
        refused = self._try(checked)
        if refused is None:
            self._answers.setdefault(checked.name, []).append((answer, self._app.height))
            self._announce(checked.raw)
            return True
        task = asyncio.get_running_loop().create_task(self._second_try(checked, answer, refused))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return False

    def _try(self, pooled: PooledEntry) -> EntryResult | None:
        try:
            result = self._app.submit(pooled)
        except PoolFull as error:
            return EntryResult("full", str(error), ())
        return None if result.code == "ok" else result

    async def _second_try(self, pooled: PooledEntry, answer: "asyncio.Future[Outcome]", refusal: EntryResult) -> None:
        height = self._app.height
        try:
            async with asyncio.timeout(SECOND_TRY_SECONDS):
                await self.next_block()
        except TimeoutError:
            pass
        final: EntryResult | None = refusal
        if self._app.height > height:
            final = self._try(pooled)
        if answer.done():
            return
        if final is not None:
            answer.set_result(Outcome(pooled.name, 0, final))
            return
        self._answers.setdefault(pooled.name, []).append((answer, self._app.height))
        self._announce(pooled.raw)
        self._work_available()

    def _announce(self, raw: bytes) -> None:
        self._outbox.append(raw)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        outbox, self._outbox = self._outbox, []
        for frame in _frames(outbox):
            for address in self._mesh.up:
                if not self._mesh.congested(address):
                    self._mesh.send_frame(frame, to=address)

    # -- what became of them -----------------------------------------------------------------------------------------

    def _committed(self, height: int, executed: Sequence[PooledEntry], results: Sequence[EntryResult]) -> None:
        names = []
        for pooled, result in zip(executed, results, strict=True):
            names.append(pooled.name)
            self._ordered[pooled.name] = (height, result)
            self._answer(pooled.name, height, result)
        self._ordered_heights.append((height, names))
        if len(self._ordered_heights) > 64:
            for name in self._ordered_heights.pop(0)[1]:
                self._ordered.pop(name, None)
        self._recheck(height)
        if self._next_block is not None and not self._next_block.done():
            self._next_block.set_result(None)

    def _recheck(self, height: int) -> None:
        """Entries passed over by several blocks: perhaps the state has come to refuse them."""
        for name, answers in list(self._answers.items()):
            if height - answers[0][1] < STALE_BLOCKS or (height - answers[0][1]) % STALE_BLOCKS:
                continue
            pooled = self._app.pool.get(name)
            if pooled is None:
                continue
            result = self._app.trial(pooled)
            if result.code not in ("ok", "order"):
                self._app.pool.drop(name)
                self._answer(name, 0, result)

    def _dropped(self, pooled: PooledEntry, result: EntryResult) -> None:
        self._answer(pooled.name, 0, result)

    def _answer(self, name: bytes, height: int, result: EntryResult) -> None:
        for future, _ in self._answers.pop(name, ()):
            if not future.done():
                future.set_result(Outcome(name, height, result))


def _frames(raws: Sequence[bytes]) -> list[bytes]:
    frames = []
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (len(batch) == MAX_BATCH_ENTRIES or size + len(raw) > MAX_BATCH_BYTES):
            frames.append(notify_frame(EntryBatch(tuple(batch))))
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        frames.append(notify_frame(EntryBatch(tuple(batch))))
    return frames
