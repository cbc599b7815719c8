"""The shell around a `bft.Replica`: sockets, timers, disk and threads for the core that has none.

Effects run strictly in the order given. A synced log write sends one fdatasync to the log thread and everything behind it
waits, while events keep coming in; records that queue up meanwhile share the next fdatasync (group commit). Executing
blocks happens on the event loop (it is pure Python and would hold the interpreter lock anywhere); what releases the lock,
signatures and syncs, happens in threads. A layer with few validators checks votes in place, because handing one
check to a thread costs more than the check; a large one checks them in batches in the pool.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import structlog

from stratos.bft.certificate import CertificateError, run_checks
from stratos.bft.events import (
    Application,
    Broadcast,
    CommitBlock,
    Committed,
    Durable,
    Effect,
    Event,
    Evidence,
    Halt,
    PeerDown,
    PeerUp,
    ProposalReady,
    ReadBlock,
    Received,
    Refused,
    ReplaceWal,
    RequestProposal,
    RequestVerify,
    SendTo,
    SetTimeout,
    Start,
    Timeout,
    Verified,
    WorkAvailable,
    WriteWal,
)
from stratos.bft.replica import Replica
from stratos.bft.signing import SignatureCheck, Verifier
from stratos.net.guard import guard, report_failure
from stratos.net.mesh import PeerMesh
from stratos.net.peers import PeerIdentity
from stratos.net.routes import Routes
from stratos.net.wal_file import WalFile
from stratos.wire.block import (
    Block,
    CatchUpRequest,
    Commit,
    CommittedBlock,
    ConsensusMessage,
    Proposal,
    RoundStatus,
    Vote,
)

THREADED_CHECKS_FROM = 8
"""Validators from which vote signatures are checked in threads."""
MAX_QUEUED_READS = 256

_log = structlog.get_logger("stratos.net.consensus")


class ConsensusHalted(RuntimeError):
    """The core found this node's own state wrong; going on could harm others."""


class HostedApplication(Application, Protocol):
    """What the host needs of an application beyond what the core needs."""

    @property
    def height(self) -> int:
        """Height of the last committed block."""
        ...

    @property
    def durable_height(self) -> int:
        """Height up to which block and state are on disk; when it lags, `ConsensusHost.durable` must be called later."""
        ...

    def has_work(self) -> bool:
        """Whether entries wait to be ordered."""
        ...

    def prepare(self, block: Block) -> Awaitable[None] | None:
        """Slow work before `verify` (signatures of entries never seen), in threads; None when there is none."""
        ...

    def read_block(self, height: int) -> CommittedBlock | None:
        """A committed block with a certificate, from the store."""
        ...


class ConsensusHost:
    """Runs one replica. `on_committed(block, commit)` is called after each commit, on the loop."""

    def __init__(
        self,
        *,
        replica: Replica,
        application: HostedApplication,
        mesh: PeerMesh,
        routes: Routes,
        wal_path: Path,
        verify: Verifier,
        pool: Executor,
        on_committed: Callable[[Block, Commit], None] | None = None,
        on_evidence: Callable[[Evidence], None] | None = None,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.replica = replica
        self.last_commit_at = 0.0
        """Loop time of the last commit, 0 before the first."""
        self.refused = 0
        """Messages that broke a rule."""
        self._application = application
        self._mesh = mesh
        self._wal_path = wal_path
        self._verify = verify
        self._pool = pool
        self._on_committed = on_committed
        self._on_evidence = on_evidence
        self._wall_ms = wall_ms
        self._wal: WalFile | None = None
        self._wal_thread = ThreadPoolExecutor(1, thread_name_prefix="wal")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._effects: deque[Effect] = deque()
        self._blocked = False
        """A synced write is under way: the effects behind it wait."""
        self._pumping = False
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._reads: dict[bytes, deque[int]] = {}
        self._to_check: list[tuple[bytes, ConsensusMessage, list[SignatureCheck]]] = []
        self._checking = False
        self._threaded_checks = len(replica.validators) >= THREADED_CHECKS_FROM
        self._stopped = False
        for kind in (Proposal, Vote, RoundStatus, CommittedBlock, CatchUpRequest):
            routes.on_notify(kind, self._received)
        mesh.on_peer_up = self._peer_up
        mesh.on_peer_down = self._peer_down

    async def start(self) -> None:
        """Open the log and start the core; the mesh may already have peers up."""
        self._loop = asyncio.get_running_loop()
        self._wal = WalFile(self._wal_path)
        self._handle(Start(self._wal.read()))
        for peer in self._mesh.up:
            self._handle(PeerUp(peer))
        if self._application.has_work():
            self.work_available()

    def work_available(self) -> None:
        """Entries wait to be ordered."""
        self._handle(WorkAvailable())

    def durable(self, height: int) -> None:
        """Block and state of `height` reached the disk (for applications that write behind)."""
        self._handle(Durable(height))

    async def stop(self) -> None:
        """Stop handling events; what was signed stays in the log."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._effects.clear()
        if self._loop is not None:
            await self._loop.run_in_executor(None, self._wal_thread.shutdown)
        if self._wal is not None:
            self._wal.close()
            self._wal = None

    # -- events --------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if self._stopped or self._loop is None:
            return
        try:
            self._effects.extend(self.replica.handle(event, self._loop.time(), self._wall_ms()))
            self._pump()
        except Exception as error:  # noqa: BLE001 - a full disk or a bug: half-done effects must not be followed by others
            self._fail("consensus", error)

    def _peer_up(self, address: bytes) -> None:
        self._handle(PeerUp(address))

    def _peer_down(self, address: bytes) -> None:
        self._reads.pop(address, None)
        self._handle(PeerDown(address))

    def _received(self, peer: PeerIdentity, message: ConsensusMessage) -> None:
        if self._loop is None or not self._mesh.is_member(peer.address):
            return
        if self._threaded_checks and isinstance(message, Vote):
            checks = self.replica.signature_check(message)
            if checks:
                self._to_check.append((peer.address, message, checks))
                if not self._checking:
                    self._checking = True
                    self._loop.call_soon(self._check_batch)
                return
        self._handle(Received(peer.address, message))

    def _check_batch(self) -> None:
        batch, self._to_check = self._to_check, []
        if not batch or self._stopped:
            self._checking = False
            return
        guard("check votes", self._checked(batch), may_end=True)

    async def _checked(self, batch: list[tuple[bytes, ConsensusMessage, list[SignatureCheck]]]) -> None:
        loop = asyncio.get_running_loop()
        right = await loop.run_in_executor(self._pool, self._check_all, [checks for _, _, checks in batch])
        for (peer, message, _), good in zip(batch, right, strict=True):
            if good:
                self._handle(Received(peer, message, verified=True))
            else:
                self.refused += 1
        self._check_batch()

    def _check_all(self, wanted: list[list[SignatureCheck]]) -> list[bool]:
        right = []
        for checks in wanted:
            try:
                run_checks(checks, self._verify)
            except CertificateError:
                right.append(False)
            else:
                right.append(True)
        return right

    # -- effects -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._pumping or self._blocked:
            return
        self._pumping = True
        try:
            while self._effects and self._may_act():
                self._do(self._effects.popleft())
        finally:
            self._pumping = False

    def _may_act(self) -> bool:
        return not self._blocked and not self._stopped

    def _do(self, effect: Effect) -> None:
        match effect:
            case WriteWal(data, sync):
                self._write(data, sync=sync)
            case Broadcast(message):
                self._mesh.notify(message)
            case SendTo(peer, message):
                self._mesh.notify(message, to=peer)
            case SetTimeout(timer_id, delay_seconds):
                self._set_timer(timer_id, delay_seconds)
            case RequestVerify(block_hash, block):
                self._request_verify(block_hash, block)
            case RequestProposal(height, number, template):
                if template.height == self._application.height + 1:
                    self._handle(ProposalReady(height, number, self._application.propose(template)))
            case CommitBlock(_, block, commit):
                self._commit(block, commit)
            case ReadBlock(peer, height):
                self._read(peer, height)
            case ReplaceWal(data):
                self._replace(data)
            case Evidence():
                _log.error("double vote", validator=effect.validator.hex(), height=effect.vote_a.height)
                if self._on_evidence is not None:
                    self._on_evidence(effect)
            case Refused(peer, reason):
                self.refused += 1
                _log.warning("message refused", peer=peer.hex(), reason=reason)
            case Halt(reason):
                report_failure("consensus", ConsensusHalted(reason))

    def _set_timer(self, timer_id: int, delay_seconds: float) -> None:
        assert self._loop is not None
        old = self._timers.get(timer_id)
        if old is not None:
            old.cancel()
        self._timers[timer_id] = self._loop.call_later(delay_seconds, self._timed_out, timer_id)

    def _timed_out(self, timer_id: int) -> None:
        del self._timers[timer_id]
        self._handle(Timeout(timer_id))

    def _request_verify(self, block_hash: bytes, block: Block) -> None:
        waiting = self._application.prepare(block)
        if waiting is None:
            self._verify_now(block_hash, block)
        else:
            guard("prepare block", self._verify_later(block_hash, block, waiting), may_end=True)

    async def _verify_later(self, block_hash: bytes, block: Block, waiting: Awaitable[None]) -> None:
        await waiting
        self._verify_now(block_hash, block)

    def _verify_now(self, block_hash: bytes, block: Block) -> None:
        if block.header.height == self._application.height + 1:
            self._handle(Verified(block_hash, self._application.verify(block)))

    def _commit(self, block: Block, commit: Commit) -> None:
        assert self._loop is not None
        validators = self._application.commit(block, commit)
        height = block.header.height
        self.last_commit_at = self._loop.time()
        if self._on_committed is not None:
            self._on_committed(block, commit)
        durable = self._application.durable_height >= height
        self._handle(Committed(height, validators, work=self._application.has_work(), durable=durable))

    # -- the log -------------------------------------------------------------------------------------------------

    def _write(self, data: bytes, *, sync: bool) -> None:
        assert self._wal is not None
        self._wal.append(data)
        if not sync:
            return
        # Records further back in the queue may join this sync: being in the log early is always safe.
        joined: list[Effect] = []
        for effect in self._effects:
            if isinstance(effect, ReplaceWal):
                break
            if isinstance(effect, WriteWal):
                self._wal.append(effect.data)
                joined.append(effect)
        if joined:
            done = {id(effect) for effect in joined}
            self._effects = deque(effect for effect in self._effects if id(effect) not in done)
        self._in_thread(self._wal.sync)

    def _replace(self, data: bytes) -> None:
        assert self._wal is not None
        wal = self._wal
        self._in_thread(lambda: wal.replace(data))

    def _in_thread(self, work: Callable[[], None]) -> None:
        assert self._loop is not None
        self._blocked = True
        loop = self._loop
        future = loop.run_in_executor(self._wal_thread, work)
        future.add_done_callback(self._unblocked)

    def _unblocked(self, future: "asyncio.Future[None]") -> None:
        self._blocked = False
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            # Without its log this node could vote twice after a crash: it must not send anything any more.
            self._fail("write-ahead log", error)
            return
        try:
            self._pump()
        except Exception as failure:  # noqa: BLE001 - as in _handle
            self._fail("consensus", failure)

    def _fail(self, duty: str, error: BaseException) -> None:
        if not self._stopped:
            self._stopped = True
            report_failure(duty, error)

    # -- catch-up reads ------------------------------------------------------------------------------------------

    def _read(self, peer: bytes, height: int) -> None:
        queue = self._reads.get(peer)
        if queue is not None:
            if len(queue) < MAX_QUEUED_READS:
                queue.append(height)
            return
        if not self._mesh.congested(peer):
            self._send_block(peer, height)
        elif self._mesh.is_member(peer):
            self._reads[peer] = deque([height])
            self._mesh.when_drained(peer, lambda: self._send_queued(peer))

    def _send_queued(self, peer: bytes) -> None:
        queue = self._reads.get(peer)
        while queue and not self._mesh.congested(peer):
            self._send_block(peer, queue.popleft())
        if queue:
            self._mesh.when_drained(peer, lambda: self._send_queued(peer))
        else:
            self._reads.pop(peer, None)

    def _send_block(self, peer: bytes, height: int) -> None:
        block = self._application.read_block(height)
        if block is not None:
            self._mesh.notify(block, to=peer)
