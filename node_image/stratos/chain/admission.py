"""Signatures of transactions, checked once per node, in threads, a batch at a time, before the mempool.

`check_txs` is the pure part: bytes -> CheckedTx or the reason against it. `Admission` collects what arrives in one turn of the
event loop (from RPC, REST and gossip) into one job per thread, so a flood of single transactions costs no task and no thread
hop each. A block with transactions never seen here is prepared the same way before it is executed.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from blake3 import blake3
from msgspec import Struct

from stratos.chain.mempool import CheckedTx, Mempool, MempoolError
from stratos.crypto.errors import CryptoError
from stratos.crypto.keys import verify_wallet
from stratos.crypto.signing import wallet_digest
from stratos.ledger.errors import DUPLICATE, INVALID, SIGNATURE, LedgerError
from stratos.ledger.signing import wallet_of
from stratos.wire.chainrpc import TxVerdict
from stratos.wire.codec import WireError, decode
from stratos.wire.limits import MAX_TX_BYTES
from stratos.wire.txs import TAG_TX, Tx

JOB_TXS = 256
"""Transactions per thread job: large enough to hide the hop, small enough to spread over threads."""
MAX_PENDING = 50_000
"""Transactions waiting for their check; more are refused as `full`."""

_BODY_START = 1
_BODY_END = -(2 + 33 + 2 + 64)
"""Canonical Tx bytes are array(3) | body | bin8 33 | bin8 64, so the signed body is a slice of what arrived."""


class Rejected(Struct, frozen=True):
    """A transaction that is not even worth the mempool's look: hash, code, sentence."""

    hash: bytes
    code: str
    sentence: str


Checked = CheckedTx | Rejected
Precheck = Callable[[CheckedTx, int | None], None]
"""(transaction, sequence after the sender's waiting ones or None): raises LedgerError when the ledger would refuse it now."""


def check_tx(raw: bytes, genesis_hash: bytes) -> Checked:
    """Decode one transaction and check its signature. Pure; safe in threads."""
    tx_hash = blake3(raw).digest()
    try:
        tx = decode(raw, Tx, limit=MAX_TX_BYTES)
        sender = wallet_of(tx.public_key)
    except (WireError, CryptoError) as error:
        return Rejected(tx_hash, INVALID, str(error)[:1024])
    digest = wallet_digest(TAG_TX, genesis_hash, raw[_BODY_START:_BODY_END])
    if not verify_wallet(tx.public_key, digest, tx.signature):
        return Rejected(
            tx_hash, SIGNATURE, "the signature does not fit the transaction, its key and this network; sign it again"
        )
    return CheckedTx(tx_hash, raw, tx, sender)


def check_txs(raws: Sequence[bytes], genesis_hash: bytes) -> list[Checked]:
    """`check_tx` for each, in order."""
    return [check_tx(raw, genesis_hash) for raw in raws]


class _Waiting(Struct):
    """One submission: its transactions, how to answer, whether peers should hear of them."""

    raws: Sequence[bytes]
    gossip: bool
    answer: Callable[[list[TxVerdict]], None] | None


class Admission:
    """Brings transactions into the mempool. `on_admitted(txs, gossip)` is called on the loop for those that got in."""

    def __init__(
        self,
        *,
        mempool: Mempool,
        genesis_hash: bytes,
        pool: Executor,
        precheck: Precheck,
        account_sequence: Callable[[bytes], int],
        on_admitted: Callable[[list[CheckedTx], bool], None],
    ) -> None:
        self._mempool = mempool
        self._genesis_hash = genesis_hash
        self._pool = pool
        self._precheck = precheck
        self._account_sequence = account_sequence
        self._on_admitted = on_admitted
        self._waiting: list[_Waiting] = []
        self._pending = 0
        self._scheduled = False
        self._running: set[asyncio.Future[list[Checked]]] = set()

    @property
    def pending(self) -> int:
        """Transactions whose signature is being checked or waits for it."""
        return self._pending

    async def submit(self, raws: Sequence[bytes]) -> list[TxVerdict]:
        """Check and admit; one verdict per transaction."""
        future: asyncio.Future[list[TxVerdict]] = asyncio.get_running_loop().create_future()

        def answer(verdicts: list[TxVerdict]) -> None:
            if not future.done():
                future.set_result(verdicts)

        self._enqueue(_Waiting(raws, True, answer))
        return await future

    def gossiped(self, raws: Sequence[bytes]) -> None:
        """Transactions from a peer: those not seen yet are checked and admitted, without an answer."""
        mempool = self._mempool
        fresh = [raw for raw in raws if not mempool.seen(blake3(raw).digest())]
        if fresh:
            self._enqueue(_Waiting(fresh, False, None))

    def check(self, raws: Sequence[bytes]) -> "asyncio.Future[list[list[Checked]]]":
        """Check signatures in the pool without admitting (transactions of a block never seen here)."""
        loop = asyncio.get_running_loop()
        return asyncio.gather(
            *(
                loop.run_in_executor(self._pool, check_txs, raws[start : start + JOB_TXS], self._genesis_hash)
                for start in range(0, len(raws), JOB_TXS)
            )
        )

    def _enqueue(self, submission: _Waiting) -> None:
        if self._pending + len(submission.raws) > MAX_PENDING:
            if submission.answer is not None:
                sentence = f"{self._pending} transactions wait for their signature check; try again later"
                submission.answer([TxVerdict(blake3(raw).digest(), "full", sentence) for raw in submission.raws])
            return
        self._pending += len(submission.raws)
        self._waiting.append(submission)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_jobs)

    def _start_jobs(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        waiting, self._waiting = self._waiting, []
        job: list[_Waiting] = []
        size = 0
        for submission in waiting:
            job.append(submission)
            size += len(submission.raws)
            if size >= JOB_TXS:
                self._start_job(loop, job)
                job, size = [], 0
        if job:
            self._start_job(loop, job)

    def _start_job(self, loop: asyncio.AbstractEventLoop, job: list[_Waiting]) -> None:
        raws = [raw for submission in job for raw in submission.raws]
        future = loop.run_in_executor(self._pool, check_txs, raws, self._genesis_hash)
        self._running.add(future)
        future.add_done_callback(lambda done: self._checked(job, done))

    def _checked(self, job: list[_Waiting], future: "asyncio.Future[list[Checked]]") -> None:
        self._running.discard(future)
        self._pending -= sum(len(submission.raws) for submission in job)
        if future.cancelled():
            return
        results = future.result()
        now = asyncio.get_running_loop().time()
        position = 0
        told: list[CheckedTx] = []
        quiet: list[CheckedTx] = []
        for submission in job:
            part = results[position : position + len(submission.raws)]
            position += len(submission.raws)
            admitted = told if submission.gossip else quiet
            if submission.answer is None:
                for checked in part:
                    self._admit(checked, admitted, now)
            else:
                submission.answer([self._admit(checked, admitted, now) for checked in part])
        if told:
            self._on_admitted(told, True)
        if quiet:
            self._on_admitted(quiet, False)

    def _admit(self, checked: Checked, admitted: list[CheckedTx], now: float) -> TxVerdict:
        if isinstance(checked, Rejected):
            return TxVerdict(checked.hash, checked.code, checked.sentence)
        if self._mempool.seen(checked.hash):
            where = "waits already" if checked.hash in self._mempool else "is in a block already"
            return TxVerdict(checked.hash, DUPLICATE, f"transaction {checked.hash.hex()} {where}; wait for its result")
        try:
            self._precheck(checked, self._mempool.next_sequence(checked.sender))
            self._mempool.add(checked, account_sequence=self._account_sequence(checked.sender), now=now)
        except (MempoolError, LedgerError) as error:
            return TxVerdict(checked.hash, error.code, error.sentence[:1024])
        admitted.append(checked)
        return TxVerdict(checked.hash, "ok", "")
