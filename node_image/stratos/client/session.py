"""Sessions as a payer sees them: opened when needed, enlarged by allotments, closed with what is left returned.

A session's noz is in its pool (uploads reserve from it) and in allotments (one holder's downloads each). `Sessions` hands
out a session that can pay for what is planned; an upload stays with its session to the end. `DownloadAccount` is our side
of one holder's cumulative receipt: total, hash chain, and whether a step we signed for has not come.

When a connection breaks in the middle of a step, the holder is asked where the account stands before anything else is
signed; a step it has and did not deliver stays unresolved and is disputed when the session ends, so nobody is paid for it.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from stratos.client.core import Core
from stratos.client.errors import ClientError, NotEnoughOzone, Refused, Unreachable
from stratos.client.ledgerfile import ReceiptLine
from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import encode
from stratos.wire.limits import GIB, MAX_ALLOTMENTS, MIB
from stratos.wire.metalog import Allot, CloseSession, Dispute, OpenSession
from stratos.wire.metarpc import Balance, GetBalance, GetSessionTokens, SessionTokens
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    TAG_RECEIPT,
    DownloadTask,
    Receipt,
    ReceiptBody,
    chain_digest,
)
from stratos.wire.transfer import SessionToken

SESSION_NOZ = GIB
SESSION_MS = 3_600_000
SLOWEST_NOZ_PER_SECOND = 250_000
"""An upload stays with its session to the end, so a large one gets a session that outlives it even over a slow line."""
RENEW_BEFORE_MS = 60_000
SPREAD_PER_HOLDER = 64 * MIB
SPREAD_SHARE = 64
"""At most this part of the wallet's ozone is spread, because an allotment comes back an epoch after the session's end."""
ALLOT_NOZ = 64 * MIB
CLOSE_SECONDS = 5.0
SPENT_CODES = frozenset({"funds", "session", "expired"})
"""Refusals after which another session may do."""


class SessionSpent(Exception):
    """This session cannot pay for it; another one may."""


class DownloadAccount:
    """Our receipts towards one holder in one session. `lock` is held for a whole read."""

    def __init__(self, session: "PaidSession", holder: bytes) -> None:
        self.session = session
        self.holder = holder
        self.lock = threading.Lock()
        self.total_noz = 0
        self.digest = EMPTY_CHAIN
        self.shown_noz = 0
        """Allotment in the token shown on the account's link."""
        self.shown_until_ms = 0
        self.broken = False
        """A read ended badly: ask the holder where the account stands before signing again."""
        self._history: list[tuple[int, bytes]] = [(0, EMPTY_CHAIN)]
        self.step_noz = 0
        """Signed for and not received (yet)."""

    def sign(self, task: DownloadTask) -> Receipt:
        """Our signature for one more step."""
        core = self.session.core
        total, digest = self.total_noz + task.length, chain_digest(self.digest, task)
        body = ReceiptBody(DOWNLOAD, self.session.id, self.holder, core.epoch(), total, digest)
        signature = core.key.sign(sign_bytes(TAG_RECEIPT, core.genesis_hash, encode(body)))
        core.ledger.write(
            ReceiptLine(
                time_ms=core.now_ms(),
                wallet=core.wallet.address.hex(),
                kind=DOWNLOAD,
                task=self.session.id.hex(),
                earner=self.holder.hex(),
                epoch=body.epoch,
                total_noz=total,
                digest=digest.hex(),
            )
        )
        self.total_noz, self.digest = total, digest
        self.step_noz += task.length
        self._history.append((total, digest))
        del self._history[:-1024]
        return Receipt(body, b"", signature)

    def received(self, length: int) -> None:
        """A step's bytes have come and are right."""
        self.step_noz -= length

    def resume(self, last: Receipt | None) -> None:
        """Go on from the holder's last receipt of ours; raises Refused when it is none of ours."""
        total, digest = (0, EMPTY_CHAIN) if last is None else (last.body.total_noz, last.body.digest)
        if (total, digest) not in self._history:
            raise Refused(
                f"holder {self.holder.hex()} shows a receipt that was never signed; it is left out", "receipt"
            )
        if last is not None:
            signed = sign_bytes(TAG_RECEIPT, self.session.core.genesis_hash, encode(last.body))
            if not verify_node(self.session.core.key.public_key, signed, last.taker_signature):
                raise Refused(
                    f"holder {self.holder.hex()} shows a receipt with a wrong signature; it is left out", "receipt"
                )
        taken_back = self.total_noz - total
        self.total_noz, self.digest = total, digest
        undelivered = max(0, self.step_noz - taken_back)
        self.step_noz = 0
        if undelivered:
            self.session.unresolved[self.holder] = self.session.unresolved.get(self.holder, 0) + undelivered
        self.broken = False


class PaidSession:
    """One open session."""

    def __init__(self, core: Core, session_id: bytes, *, pool_noz: int, expiry_ms: int) -> None:
        self.core = core
        self.id = session_id
        self.pool_noz = pool_noz
        self.expiry_ms = expiry_ms
        self.users = 0
        self.retired = False
        self.unresolved: dict[bytes, int] = {}
        self.mismatches: dict[bytes, bytes] = {}
        """Holder -> BLAKE3 of a wrong piece it sent for a step that was signed for: that step can never be earned."""
        self._lock = threading.Lock()
        self._allotted: dict[bytes, int] = {}
        self._fetched = False
        self._tokens: dict[bytes, SessionToken] = {}
        self._accounts: dict[bytes, DownloadAccount] = {}

    def account(self, holder: bytes) -> DownloadAccount:
        """Our account with a holder."""
        with self._lock:
            account = self._accounts.get(holder)
            if account is None:
                account = self._accounts[holder] = DownloadAccount(self, holder)
            return account

    def accounts(self) -> list[DownloadAccount]:
        """All accounts."""
        with self._lock:
            return list(self._accounts.values())

    def allot(self, needs: Iterable[tuple[bytes, int]]) -> None:
        """Make sure that each holder may serve so much more; raises SessionSpent."""
        with self._lock:
            needs = list(needs)
            more = self._missing(needs)
            if more and not self._fetched:
                self._fetch_tokens()
                more = self._missing(needs)
            if not more:
                return
            pool = self.pool_noz
            if sum(missing for _, missing in more) > pool:
                raise SessionSpent(f"session {self.id.hex()} has {pool} noz left")
            share = max(0, pool - sum(missing for _, missing in more)) // (2 * len(more))
            generous = tuple((holder, missing + min(share, ALLOT_NOZ)) for holder, missing in more)
            try:
                for start in range(0, len(generous), MAX_ALLOTMENTS):
                    self.core.order(Allot(self.id, generous[start : start + MAX_ALLOTMENTS]))
            except Refused as error:
                if error.code in SPENT_CODES:
                    raise SessionSpent(error.sentence) from error
                raise
            except NotEnoughOzone as error:
                raise SessionSpent(error.sentence) from error
            for holder, noz in generous:
                self.pool_noz -= noz
                self._allotted[holder] = self._allotted.get(holder, 0) + noz
                self._tokens.pop(holder, None)

    def token(self, holder: bytes, *, fresh: bool = False) -> SessionToken:
        """The token to show to a holder: with the whole allotment, on evidence that is not old."""
        with self._lock:
            token = self._tokens.get(holder)
        oldest = self.core.now_ms() - self.core.token_age_ms // 2
        if token is not None and not fresh and token.evidence.header.time_ms >= oldest:
            return token
        with self._lock:
            self._fetch_tokens()
            token = self._tokens.get(holder)
        if token is None:
            raise SessionSpent(f"session {self.id.hex()} allots nothing to holder {holder.hex()}")
        return token

    def _missing(self, needs: Iterable[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        more = []
        for holder, noz in needs:
            account = self._accounts.get(holder)
            used = account.total_noz if account is not None else 0
            missing = used + noz - self._allotted.get(holder, 0)
            if missing > 0:
                more.append((holder, missing))
        return more

    def _fetch_tokens(self) -> None:
        answer = self.core.ask(GetSessionTokens(self.id, ()), SessionTokens)
        self._fetched = True
        for each in answer.tokens:
            self._tokens[each.holder] = each
            self._allotted[each.holder] = max(each.allotment.allotted_noz, self._allotted.get(each.holder, 0))


class Sessions:
    """The client's sessions: one current, older ones until their uploads have ended."""

    def __init__(self, core: Core, *, session_noz: int | None) -> None:
        self._core = core
        self._session_noz = session_noz or SESSION_NOZ
        self._lock = threading.Lock()
        self._current: PaidSession | None = None
        self._retired: list[PaidSession] = []

    @contextmanager
    def paying(self, noz: int, *, not_this: PaidSession | None = None) -> Iterator[PaidSession]:
        """A session whose pool holds `noz`, kept open for the length of a `with` block."""
        session = self.acquire(noz, not_this=not_this)
        try:
            yield session
        finally:
            self.release(session)

    def acquire(self, noz: int, *, not_this: PaidSession | None = None) -> PaidSession:
        """A session that can pay `noz` from its pool; give it back with `release`."""
        with self._lock:
            session = self._current
            stale = session is not None and (
                session is not_this
                or session.pool_noz < noz
                or session.retired
                or session.expiry_ms - RENEW_BEFORE_MS < self._core.now_ms()
            )
            if session is None or stale:
                if session is not None:
                    session.retired = True
                    self._retired.append(session)
                    self._current = None
                self._close_idle()
                session = self._current = self._open(noz)
            session.users += 1
            return session

    def release(self, session: PaidSession) -> None:
        """The operation that used the session has ended."""
        with self._lock:
            session.users -= 1
            self._close_idle()

    def close(self) -> None:
        """Close every session; what cannot be said now is settled by their expiry."""
        with self._lock:
            if self._current is not None:
                self._retired.append(self._current)
                self._current = None
            for session in self._retired:
                self._end(session)
            self._retired.clear()

    def _close_idle(self) -> None:
        for session in [retired for retired in self._retired if retired.users <= 0]:
            self._retired.remove(session)
            self._end(session)

    def _open(self, noz: int) -> PaidSession:
        core = self._core
        balance = core.ask(GetBalance(core.wallet.address), Balance)
        available = balance.available_noz
        if available < noz or available == 0:
            raise NotEnoughOzone(
                f"this takes {noz} noz and the wallet has {available}; buy ozone with `stratosctl prepay AMOUNT`"
            )
        spread = min(SPREAD_PER_HOLDER * max(1, core.holder_count()), (available - noz) // SPREAD_SHARE)
        most = min(available, max(2 * noz, self._session_noz) + spread)
        expiry_ms = core.now_ms() + SESSION_MS + noz * 1000 // SLOWEST_NOZ_PER_SECOND
        started = time.monotonic()
        _, name = core.order(OpenSession(core.key.public_key, most, spread, expiry_ms), key=core.wallet)
        core.note("session", started=started, task=name[:16].hex(), noz=most)
        return PaidSession(core, name[:16], pool_noz=most - spread, expiry_ms=expiry_ms)

    def _end(self, session: PaidSession) -> None:
        core = self._core
        for account in session.accounts():
            if account.step_noz:
                session.unresolved[account.holder] = session.unresolved.get(account.holder, 0) + account.step_noz
        started = time.monotonic()
        try:
            disputed = [self._dispute(session, holder, noz) for holder, noz in sorted(session.unresolved.items())]
            if not any(disputed):
                core.order(CloseSession(session.id), deadline_seconds=CLOSE_SECONDS)
            core.note("session_close", started=started, task=session.id.hex())
        except ClientError as error:
            # Expiry closes it as well; an unreachable meta layer must not keep a program from ending.
            core.note("session_close", started=started, task=session.id.hex(), error=error)

    def _dispute(self, session: PaidSession, holder: bytes, noz: int) -> bool:
        started = time.monotonic()
        error: ClientError | None = None
        try:
            self._core.order(
                Dispute(session.id, holder, noz, session.mismatches.get(holder, b"")), deadline_seconds=CLOSE_SECONDS
            )
        except (Refused, Unreachable) as refused:
            error = refused
        self._core.note("dispute", started=started, task=session.id.hex(), holder=holder.hex(), noz=noz, error=error)
        return error is None
