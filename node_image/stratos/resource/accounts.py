"""A holder's accounts: what it may still serve, what it has earned, and the receipts that say so. Pure.

One account per session (downloads), per upload and per repair order. Receipts are cumulative (protocol 7), so an account is
a running total and the digest that commits to what it is made of. A download step is admitted only with the client's
signature over exactly the next total and the next link of the hash chain, within the allotment the meta layer
committed; so a receipt cannot be replayed, inflated, or moved to another session, holder or network.
"""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import encode
from stratos.wire.limits import MAX_TASKS_PER_RECEIPT
from stratos.wire.metalog import Allotment, HeldIndices, ServedTasks, Session
from stratos.wire.receipts import (
    DOWNLOAD,
    EMPTY_CHAIN,
    TAG_RECEIPT,
    DownloadTask,
    Receipt,
    ReceiptBody,
    chain_digest,
    indices_digest,
)


class Signer(Protocol):
    @property
    def address(self) -> bytes: ...

    def sign(self, message: bytes, /) -> bytes: ...


class AccountError(Exception):
    """A receipt that does not fit its account; `code` of protocol 8."""

    def __init__(self, sentence: str, code: int = -7) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


def receipt_bytes(genesis_hash: bytes, body: ReceiptBody) -> bytes:
    """What giver and taker sign."""
    return sign_bytes(TAG_RECEIPT, genesis_hash, encode(body))


class SessionAccount:
    """Downloads of one session from this holder. Not thread-safe: the caller holds the session's lock."""

    def __init__(
        self, *, session: bytes, wallet: bytes, key: bytes, total_noz: int = 0, digest: bytes = EMPTY_CHAIN
    ) -> None:
        self.session = session
        self.wallet = wallet
        self.key = key
        self.allotted_noz = 0
        self.total_noz = total_noz
        self.digest = digest
        self.receipt: Receipt | None = None
        self._before: tuple[Receipt | None, int, bytes] | None = None
        self.ordered_noz = total_noz
        self.ordered_digest = digest
        self.tasks: list[DownloadTask] = []
        """Steps since the last receipt the meta layer has ordered."""
        self.closed = False

    def allow(self, session: Session, allotment: Allotment) -> None:
        """Take in a verified token: allotments only grow; what the meta layer has ordered is known to it."""
        self.allotted_noz = max(self.allotted_noz, allotment.allotted_noz)

    def admit(self, receipt: Receipt, task: DownloadTask, *, earner: bytes, epoch: int, genesis_hash: bytes) -> None:
        """Check the receipt that opens one step and make it the account's; raises AccountError and changes nothing."""
        body = receipt.body
        if body.kind != DOWNLOAD or body.task != self.session or body.earner != earner:
            raise AccountError("the receipt is for another session, holder or kind of work; sign for this one")
        if body.total_noz != self.total_noz + task.length:
            raise AccountError(
                f"the receipt says {body.total_noz} noz, but {self.total_noz} so far and {task.length} for this step "
                f"make {self.total_noz + task.length}; ask where the account stands"
            )
        if body.total_noz > self.allotted_noz:
            raise AccountError(
                f"{body.total_noz} noz are over this holder's allotment of {self.allotted_noz}; allot more", -6
            )
        if body.digest != chain_digest(self.digest, task):
            raise AccountError("the receipt commits to other bytes than those asked for; sign for this step")
        if abs(body.epoch - epoch) > 1:
            raise AccountError(f"the receipt is of epoch {body.epoch}, it is epoch {epoch} now; check the clock")
        if len(self.tasks) >= MAX_TASKS_PER_RECEIPT:
            raise AccountError("too many steps wait for the meta layer; try again in a moment", -1)
        if not verify_node(self.key, receipt_bytes(genesis_hash, body), receipt.taker_signature):
            raise AccountError("the receipt's signature is not by the session's key; sign it again", -3)
        self.served(receipt, task)

    def served(self, receipt: Receipt, task: DownloadTask) -> None:
        """Take over an admitted step (also when the journal is read back)."""
        self._before = (self.receipt, self.total_noz, self.digest)
        self.receipt = receipt
        self.total_noz = receipt.body.total_noz
        self.digest = receipt.body.digest
        self.tasks.append(task)

    def void_last(self) -> bool:
        """Take back the last step, which this holder could not deliver; False when it has been ordered already."""
        if self._before is None or not self.tasks:
            return False
        self.receipt, self.total_noz, self.digest = self._before
        self._before = None
        self.tasks.pop()
        return True

    def ordered(self, total_noz: int, digest: bytes) -> None:
        """The meta layer has ordered a receipt of this total: its steps need not be told again."""
        if total_noz <= self.ordered_noz:
            return
        self._before = None
        running, count = self.ordered_noz, 0
        for task in self.tasks:
            if running >= total_noz:
                break
            running += task.length
            count += 1
        del self.tasks[:count]
        self.ordered_noz = total_noz
        self.ordered_digest = digest

    def submission(self, signer: Signer, genesis_hash: bytes) -> ServedTasks | None:
        """What the meta layer has not ordered yet, signed by this holder; None when there is nothing."""
        if self.receipt is None or not self.tasks or self.total_noz <= self.ordered_noz:
            return None
        return ServedTasks(self.signed(signer, genesis_hash), tuple(self.tasks))

    def signed(self, signer: Signer, genesis_hash: bytes) -> Receipt:
        """The last receipt with this holder's signature as giver."""
        if self.receipt is None:
            raise AccountError("nothing has been served in this session", -6)
        if not self.receipt.giver_signature:
            signature = signer.sign(receipt_bytes(genesis_hash, self.receipt.body))
            self.receipt = Receipt(self.receipt.body, signature, self.receipt.taker_signature)
        return self.receipt


class HeldAccount:
    """Slices of one upload or repair order that this holder has made durable. The caller holds its lock."""

    def __init__(self, *, kind: int, task: bytes) -> None:
        self.kind = kind
        self.task = task
        self.lengths: dict[int, int] = {}
        self.total_noz = 0
        self.receipt: Receipt | None = None

    def hold(self, items: Iterable[tuple[int, int]], *, epoch: int, signer: Signer, genesis_hash: bytes) -> HeldIndices:
        """Add durable (index, length) items and sign for everything held, as taker."""
        for index, length in items:
            if index not in self.lengths:
                self.lengths[index] = length
                self.total_noz += length
        indices = tuple(sorted(self.lengths))
        body = ReceiptBody(self.kind, self.task, signer.address, epoch, self.total_noz, indices_digest(indices))
        if self.receipt is None or self.receipt.body != body:
            self.receipt = Receipt(body, b"", signer.sign(receipt_bytes(genesis_hash, body)))
        return HeldIndices(self.receipt, indices)

    def copy(self) -> "HeldAccount":
        """The same account, to try something on."""
        other = HeldAccount(kind=self.kind, task=self.task)
        other.lengths, other.total_noz, other.receipt = dict(self.lengths), self.total_noz, self.receipt
        return other

    def restore(self, index: int, length: int, receipt: Receipt) -> None:
        """Take one item back from the journal."""
        if index not in self.lengths:
            self.lengths[index] = length
            self.total_noz += length
        self.receipt = receipt


class LedgerLine(Struct, frozen=True):
    """One account as the node's own ledger shows it to the audit."""

    kind: int
    task: bytes
    total_noz: int
    ordered_noz: int
    receipt: Receipt
    session_key: bytes = b""
    """Of downloads: the key the payer signs with."""
