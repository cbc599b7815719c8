"""The node's books: its accounts, kept in step with the journal, shared by all transfer threads.

Every change is in the journal before the bytes it stands for move on (downloads) or before it is acknowledged (uploads). At
start the books are read back from the journal, so that cumulative receipts go on where they stopped. A session that the
books have never seen begins at what the meta layer has already charged for this holder, which is in its token.

What the journal refuses does not happen: the account is as it was before, and the caller is told to go elsewhere.
"""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from stratos.crypto.keys import NodeKey
from stratos.resource.accounts import AccountError, HeldAccount, LedgerLine, SessionAccount
from stratos.resource.journal import (
    Held,
    Journal,
    JournalError,
    Opened,
    Ordered,
    Record,
    Served,
    Settled,
    Signed,
    Voided,
)
from stratos.wire.metalog import Allotment, HeldIndices, ServedTasks, Session
from stratos.wire.receipts import DOWNLOAD, REPAIR, DownloadTask, Receipt

COMPACT_BYTES = 64 * 1024 * 1024
_log = structlog.get_logger("stratos.resource.books")


class Books:
    """All accounts of one holder. Thread-safe."""

    def __init__(self, path: Path, *, key: NodeKey, genesis_hash: bytes, epoch: Callable[[], int]) -> None:
        self._key = key
        self._genesis_hash = genesis_hash
        self._epoch = epoch
        self._lock = threading.Lock()
        self._sessions: dict[bytes, SessionAccount] = {}
        self._held: dict[tuple[int, bytes], HeldAccount] = {}
        self._settled: dict[bytes, int] = {}
        self._until_ms: dict[bytes, int] = {}
        self._journal = Journal(path)
        for record in self._journal.records:
            self._replay(record)
        self._journal.records.clear()
        if self._journal.size > COMPACT_BYTES:
            try:
                self._journal.rewrite(self._live_records())
            except JournalError as error:
                _log.warning("the journal stays long", reason=str(error))

    # -- downloads

    def open_session(self, session: Session, allotment: Allotment, until_ms: int) -> None:
        """Take in a verified session token that may be relied on until `until_ms`."""
        with self._lock:
            self._until_ms[session.id] = max(until_ms, self._until_ms.get(session.id, 0))
            account = self._sessions.get(session.id)
            if account is None:
                account = SessionAccount(
                    session=session.id,
                    wallet=session.wallet,
                    key=session.key,
                    total_noz=allotment.charged_noz,
                    digest=allotment.digest,
                )
            elif allotment.allotted_noz <= account.allotted_noz:
                return
            self._gate(
                Opened(
                    session.id, session.wallet, session.key, account.total_noz, account.digest, allotment.allotted_noz
                )
            )
            self._sessions[session.id] = account
            account.allow(session, allotment)

    def is_stale(self, session: bytes, now_ms: int) -> bool:
        """Whether a fresh token has to be shown before anything more is served."""
        with self._lock:
            return self._until_ms.get(session, 0) < now_ms

    def session_key(self, session: bytes) -> bytes | None:
        """The key of a session known here."""
        with self._lock:
            account = self._sessions.get(session)
            return None if account is None else account.key

    def admit(self, session: bytes, receipt: Receipt, task: DownloadTask) -> None:
        """Accept the receipt that opens a step; raises AccountError and changes nothing."""
        with self._lock:
            account = self._known(session)
            account.admit(receipt, task, earner=self._key.address, epoch=self._epoch(), genesis_hash=self._genesis_hash)
            try:
                self._gate(Served(session, receipt, task))
            except AccountError:
                account.void_last()
                raise

    def void_last(self, session: bytes) -> None:
        """Take back the step admitted last, which could not be delivered."""
        with self._lock:
            if self._known(session).void_last():
                self._journal.note(Voided(session))

    def last_receipt(self, session: bytes) -> Receipt | None:
        """The last receipt of a session, as signed by its client."""
        with self._lock:
            account = self._sessions.get(session)
            return None if account is None else account.receipt

    def signed_receipt(self, session: bytes) -> Receipt:
        """The last receipt with both signatures."""
        with self._lock:
            return self._known(session).signed(self._key, self._genesis_hash)

    def submissions(self) -> list[tuple[bytes, ServedTasks]]:
        """(session, receipt with its tasks) of everything the meta layer has not ordered yet."""
        with self._lock:
            found = []
            for session in sorted(self._sessions):
                served = self._sessions[session].submission(self._key, self._genesis_hash)
                if served is not None:
                    found.append((session, served))
            return found

    def unsubmitted_noz(self) -> int:
        """Earned by downloads and not ordered yet."""
        with self._lock:
            return sum(account.total_noz - account.ordered_noz for account in self._sessions.values())

    def ordered(self, session: bytes, total_noz: int, digest: bytes) -> None:
        """The meta layer has ordered this session's receipt of this total."""
        with self._lock:
            account = self._sessions.get(session)
            if account is not None and total_noz > account.ordered_noz:
                account.ordered(total_noz, digest)
                self._journal.note(Ordered(session, total_noz, digest))

    # -- uploads and repairs

    def hold(self, kind: int, task: bytes, items: Iterable[tuple[int, int]], *, epoch: int) -> HeldIndices:
        """Sign for durable (index, length) items of an upload or repair order; raises JournalError and changes nothing."""
        items = tuple(items)
        with self._lock:
            before = self._held.get((kind, task)) or HeldAccount(kind=kind, task=task)
            account = before.copy()
            held = account.hold(items, epoch=epoch, signer=self._key, genesis_hash=self._genesis_hash)
            self._journal.append(Held(kind, task, items, held.receipt))
            self._held[kind, task] = account
            return held

    def repair_settled(self, task: bytes, total_noz: int) -> None:
        """A repair receipt of this total has been ordered."""
        with self._lock:
            self._settled[task] = max(total_noz, self._settled.get(task, 0))
            self._journal.note(Settled(task, total_noz))

    def unsettled_repairs(self) -> list[HeldIndices]:
        """Repair receipts the meta layer has not ordered yet."""
        with self._lock:
            found = []
            for (kind, task), account in sorted(self._held.items()):
                if kind == REPAIR and account.receipt is not None and account.total_noz > self._settled.get(task, 0):
                    found.append(HeldIndices(account.receipt, tuple(sorted(account.lengths))))
            return found

    def held_indices(self, kind: int, task: bytes) -> tuple[int, ...]:
        """Indices of an upload or repair order that are durable here."""
        with self._lock:
            account = self._held.get((kind, task))
            return () if account is None else tuple(sorted(account.lengths))

    def cosigned(self, task: bytes, receipt: Receipt) -> None:
        """A repair receipt came back from its source with the giver's signature."""
        with self._lock:
            account = self._held.get((REPAIR, task))
            if account is not None and account.receipt is not None and account.receipt.body == receipt.body:
                account.receipt = receipt
                self._journal.note(Held(REPAIR, task, (), receipt))

    # -- for people and the audit

    def lines(self) -> list[LedgerLine]:
        """This node's own ledger: its last receipt of every session, upload and repair."""
        with self._lock:
            found = [
                LedgerLine(DOWNLOAD, session, account.total_noz, account.ordered_noz, account.receipt, account.key)
                for session, account in sorted(self._sessions.items())
                if account.receipt is not None
            ]
            found += [
                LedgerLine(kind, task, account.total_noz, self._settled.get(task, 0), account.receipt)
                for (kind, task), account in sorted(self._held.items())
                if account.receipt is not None
            ]
            return found

    def close(self) -> None:
        """Sync and close the journal."""
        self._journal.close()

    # -- inside

    def _gate(self, record: Record) -> None:
        """Write what a download waits for; raises AccountError when the journal does not take it."""
        try:
            self._journal.append(record)
        except JournalError as error:
            raise AccountError(f"{error}; ask another holder", -1) from error

    def _known(self, session: bytes) -> SessionAccount:
        account = self._sessions.get(session)
        if account is None:
            raise AccountError(f"session {session.hex()} is not known here; show its token first", -6)
        return account

    def _replay(self, record: Record) -> None:
        if isinstance(record, Opened):
            account = self._sessions.get(record.session)
            if account is None:
                account = self._sessions[record.session] = SessionAccount(
                    session=record.session,
                    wallet=record.wallet,
                    key=record.key,
                    total_noz=record.total_noz,
                    digest=record.digest,
                )
            account.allotted_noz = max(account.allotted_noz, record.allotted_noz)
        elif isinstance(record, Served):
            self._sessions[record.session].served(record.receipt, record.task)
        elif isinstance(record, Voided):
            self._sessions[record.session].void_last()
        elif isinstance(record, Ordered):
            self._sessions[record.session].ordered(record.total_noz, record.digest)
        elif isinstance(record, Signed):
            self._sessions[record.session].receipt = record.receipt
        elif isinstance(record, Held):
            held = self._held.setdefault((record.kind, record.task), HeldAccount(kind=record.kind, task=record.task))
            for index, length in record.items:
                held.restore(index, length, record.receipt)
            held.receipt = record.receipt
        else:
            self._settled[record.task] = max(record.total_noz, self._settled.get(record.task, 0))

    def _live_records(self) -> Iterable[Record]:
        for session, account in sorted(self._sessions.items()):
            yield Opened(
                session, account.wallet, account.key, account.ordered_noz, account.ordered_digest, account.allotted_noz
            )
            if account.receipt is not None:
                if not account.tasks:
                    yield Signed(session, account.receipt)
                for step in account.tasks:
                    yield Served(session, account.receipt, step)
        for (kind, name), held in sorted(self._held.items()):
            if held.receipt is not None:
                yield Held(kind, name, tuple(sorted(held.lengths.items())), held.receipt)
        for order, total in sorted(self._settled.items()):
            yield Settled(order, total)
