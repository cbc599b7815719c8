"""Reading one range of one slice: holder by holder in the serving order, step by step, each piece verified.

The bytes land where the caller wants them (`RangeSink`), are checked against the slice's tree there, and only then is the
next step signed for. When a holder fails, the next one continues after the last verified piece; nothing is fetched twice.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from blake3 import blake3

from stratos.client.core import Core
from stratos.client.errors import IntegrityError, Refused, Unreachable
from stratos.client.session import DownloadAccount, PaidSession, Sessions, SessionSpent
from stratos.meta.placement import serving_order
from stratos.resource.frames import FrameError, RefusedByPeer
from stratos.resource.link import TRANSFER_ERRORS, BulkLink
from stratos.resource.pieces import PIECE, piece_count, range_root
from stratos.wire.limits import MAX_COPIES
from stratos.wire.metalog import PlacedSlice
from stratos.wire.receipts import DownloadTask
from stratos.wire.transfer import (
    AccountState,
    AskAccount,
    ReadDone,
    ReadSlice,
    ReadStart,
    StepReceipt,
    step_lengths,
)

ROUNDS = 3
PAUSE_SECONDS = 0.2
STALE_TOKEN = -5


class RangeSink(Protocol):
    """Where verified bytes go. `room` gives memory for bytes at an offset of the slice, `keep` takes them over."""

    def room(self, offset: int, length: int) -> memoryview: ...

    def keep(self, offset: int, length: int) -> None: ...


class WrongPiece(Exception):
    """A holder sent bytes that are not the slice's."""

    def __init__(self, sentence: str, digest: bytes = b"") -> None:
        super().__init__(sentence)
        self.digest = digest


def read_range(
    core: Core,
    sessions: Sessions,
    placed: PlacedSlice,
    sink: RangeSink,
    *,
    offset: int,
    length: int,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Fetch whole pieces [offset, offset + length) of a slice into `sink`; noz signed for. Raises Unreachable, IntegrityError."""
    position, end, paid = offset, offset + length, 0
    problem: Exception | None = None
    deadline = time.monotonic() + core.deadline_seconds
    for round_number in range(ROUNDS):
        order = serving_order(core.wallet.address, placed.spec.digest, core.epoch(), placed.holders)
        for attempt, holder in core.suspects.last(order):
            try:
                read = _Read(core, placed, sink, holder=holder, attempt=min(attempt, MAX_COPIES), progress=progress)
                read.position = position
                _with_session(sessions, end - position, read, end)
                return paid + read.paid_noz
            except (*TRANSFER_ERRORS, WrongPiece, Refused) as error:
                problem = error
                core.suspects.add(holder)
                paid += read.paid_noz
                position = read.position
        if time.monotonic() > deadline or round_number == ROUNDS - 1:
            break
        core.directory()
        time.sleep(PAUSE_SECONDS * (round_number + 1))
    name = placed.spec.digest.hex()[:16]
    if isinstance(problem, WrongPiece):
        raise IntegrityError(
            f"slice {name} could not be verified from any of its {len(placed.holders)} holders: {problem}"
        )
    raise Unreachable(
        f"slice {name} could not be read from any of its {len(placed.holders)} holders: {problem}; try again"
    )


def _with_session(sessions: Sessions, noz: int, read: "_Read", end: int) -> None:
    """Run a read with a session that can pay for it, opening another when one is spent."""
    spent: PaidSession | None = None
    for last in (False, False, True):
        session = sessions.acquire(0 if spent is None else noz, not_this=spent)
        try:
            read.run(session, end)
            return
        except SessionSpent as error:
            if last:
                raise Refused(str(error), "session") from error
            spent = session
        finally:
            sessions.release(session)


class _Read:
    """One holder's part of a range."""

    def __init__(
        self,
        core: Core,
        placed: PlacedSlice,
        sink: RangeSink,
        *,
        holder: bytes,
        attempt: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.position = 0
        self.paid_noz = 0
        self._core = core
        self._spec = placed.spec
        self._sink = sink
        self._holder = holder
        self._attempt = attempt
        self._progress = progress

    def run(self, session: PaidSession, end: int) -> None:
        """Fetch [position, end); `position` moves with every verified piece."""
        account = session.account(self._holder)
        with account.lock:
            session.allot([(self._holder, end - self.position)])
            try:
                self._converse(account, end, fresh_token=False)
            except RefusedByPeer as error:
                if error.code != STALE_TOKEN or self.paid_noz:
                    raise
                self._converse(account, end, fresh_token=True)

    def _converse(self, account: DownloadAccount, end: int, *, fresh_token: bool) -> None:
        core = self._core
        link = core.links.get(self._holder, core.endpoint(self._holder))
        signed_before = account.total_noz
        try:
            if account.broken:
                self._ask_where(link, account)
                signed_before = account.total_noz
            token = None
            now = core.now_ms()
            if (
                fresh_token
                or (account.session.id, 0) not in link.tokens
                or account.shown_until_ms < now
                or (account.total_noz + end - self.position > account.shown_noz)
            ):
                token = account.session.token(self._holder, fresh=fresh_token)
                if account.total_noz + end - self.position > token.allotment.allotted_noz:
                    token = account.session.token(self._holder, fresh=True)
                account.shown_noz = token.allotment.allotted_noz
                account.shown_until_ms = token.evidence.header.time_ms + core.token_age_ms // 2
            known = core.trees.get(self._spec.digest)
            steps = step_lengths(end - self.position)
            receipt = account.sign(self._task(self.position, steps[0]))
            link.send(
                ReadSlice(
                    account.session.id,
                    token,
                    self._spec.digest,
                    self.position,
                    end - self.position,
                    self._attempt,
                    known is None,
                    receipt,
                )
            )
            start = link.expect(ReadStart)
            link.tokens.add((account.session.id, 0))
            hashes = self._hashes(start, known, self.position, end)
            first = self.position // PIECE
            for number, length in enumerate(steps):
                if number:
                    link.send(StepReceipt(account.sign(self._task(self.position, length))))
                self._step(link, length, hashes, first)
                account.received(length)
                self.paid_noz += length
            link.expect(ReadDone)
        except BaseException as error:
            account.broken = account.total_noz != signed_before
            if isinstance(error, WrongPiece) and error.digest:
                account.session.mismatches[self._holder] = error.digest
            link.close()
            raise
        core.links.put(link)

    def _task(self, offset: int, length: int) -> DownloadTask:
        return DownloadTask(self._spec.digest, offset, length, self._attempt)

    def _ask_where(self, link: BulkLink, account: DownloadAccount) -> None:
        link.send(AskAccount(account.session.id))
        account.resume(link.expect(AccountState).receipt)

    def _hashes(self, start: ReadStart, known: tuple[bytes, ...] | None, offset: int, end: int) -> Sequence[bytes]:
        """Verified hashes of the pieces of the range."""
        if start.offset != offset or start.length != end - offset or start.slice_length != self._spec.length:
            raise FrameError("the holder answers for another range than asked for")
        first, last = offset // PIECE, piece_count(end)
        if known is not None:
            return known[first:last]
        root = range_root(
            start.piece_hashes,
            first=first,
            count=piece_count(self._spec.length),
            left=start.left,
            right=start.right,
        )
        if root != self._spec.digest or len(start.piece_hashes) != last - first:
            raise WrongPiece(f"holder {self._holder.hex()} sent piece hashes that do not lead to the slice's root")
        if first == 0 and end == self._spec.length:
            self._core.trees.put(self._spec.digest, start.piece_hashes)
        return start.piece_hashes

    def _step(self, link: BulkLink, length: int, hashes: Sequence[bytes], first: int) -> None:
        """Receive and verify one step."""
        end = self.position + length
        while self.position < end:
            room = self._sink.room(self.position, end - self.position)
            count = link.receive_data(room, most=end - self.position)
            if count % PIECE and self.position + count != end:
                raise FrameError(f"a data frame of {count} bytes is not whole pieces")
            for at in range(0, count, PIECE):
                piece = room[at : min(at + PIECE, count)]
                if blake3(piece).digest() != hashes[(self.position + at) // PIECE - first]:
                    raise WrongPiece(
                        f"holder {self._holder.hex()} sent wrong bytes at {self.position + at}", blake3(piece).digest()
                    )
            self._sink.keep(self.position, count)
            self.position += count
            if self._progress is not None:
                self._progress(count)
