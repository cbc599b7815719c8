"""Transactions that wait for a block: pure, bounded, fair between accounts.

Every account has its own queue by sequence; a transaction is executable when all before it are here too, later ones are
parked. Bounds: count and bytes overall, count per account, and how far ahead a parked one may be. A full pool
evicts parked transactions, newest first, before it refuses an executable one; it never evicts executable
ones, so what was accepted is only lost by expiry. Signatures were checked before `add` and are never checked again: a hash
found here, or in `seen`, has a good signature.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from msgspec import Struct

from stratos.wire.txs import Tx


class CheckedTx(Struct, frozen=True):
    """A transaction whose signature this node has checked: hash, bytes as received, record, sender."""

    hash: bytes
    raw: bytes
    tx: Tx
    sender: bytes

    @property
    def sequence(self) -> int:
        """The sequence the sender gave it."""
        return self.tx.body.sequence


class MempoolError(Exception):
    """A transaction was not admitted: `code` (`duplicate`, `sequence`, `full`) and one sentence."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class _Account:
    """One sender's transactions by sequence. `next` is the committed sequence, `ready_end` the first missing one."""

    __slots__ = ("next", "ready_end", "txs")

    def __init__(self, next_sequence: int) -> None:
        self.next = next_sequence
        self.ready_end = next_sequence
        self.txs: dict[int, CheckedTx] = {}

    def extend(self) -> None:
        """Move `ready_end` over what is here."""
        while self.ready_end in self.txs:
            self.ready_end += 1


class Mempool:
    """See the module note. `now` is monotonic seconds, passed in."""

    def __init__(
        self,
        *,
        max_txs: int = 20_000,
        max_bytes: int = 64 * 1024 * 1024,
        max_ahead: int = 1_000,
        lifetime_seconds: float = 600.0,
        remember: int = 100_000,
    ) -> None:
        self._max_txs = max_txs
        self._max_bytes = max_bytes
        self._max_per_account = max(64, max_txs // 4)
        self._max_ahead = max_ahead
        self._lifetime = lifetime_seconds
        self._remember = remember
        self._accounts: dict[bytes, _Account] = {}
        self._by_hash: dict[bytes, tuple[CheckedTx, float]] = {}
        """Everything here, oldest first."""
        self._parked: OrderedDict[bytes, CheckedTx] = OrderedDict()
        """Not executable yet, oldest first."""
        self._seen: set[bytes] = set()
        """Hashes of transactions committed lately: gossip of them is no news. Two generations bound it cheaply."""
        self._seen_before: set[bytes] = set()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._by_hash

    @property
    def has_executable(self) -> bool:
        """Whether a block could be made of what is here."""
        return len(self._by_hash) > len(self._parked)

    def seen(self, tx_hash: bytes) -> bool:
        """Whether this transaction is here or was lately: its signature needs no second check."""
        return tx_hash in self._by_hash or tx_hash in self._seen or tx_hash in self._seen_before

    def get(self, tx_hash: bytes) -> CheckedTx | None:
        """A waiting transaction."""
        entry = self._by_hash.get(tx_hash)
        return None if entry is None else entry[0]

    def next_sequence(self, sender: bytes) -> int | None:
        """The sequence after the sender's executable transactions; None when nothing of it waits."""
        account = self._accounts.get(sender)
        return None if account is None else account.ready_end

    def waiting(self) -> list[CheckedTx]:
        """Everything here, oldest first (for a peer that has just come up)."""
        return [entry[0] for entry in self._by_hash.values()]

    def add(self, checked: CheckedTx, *, account_sequence: int, now: float) -> None:
        """Admit one; raises MempoolError. `account_sequence` is the sender's committed next sequence."""
        if checked.hash in self._by_hash:
            raise MempoolError("duplicate", f"transaction {checked.hash.hex()} is already waiting; wait for it")
        account = self._accounts.get(checked.sender) or _Account(account_sequence)
        sequence = checked.sequence
        if sequence < account.next:
            raise MempoolError(
                "sequence", f"sequence {sequence} was already used, the account's next is {account.next}; sign again"
            )
        if sequence in account.txs:
            raise MempoolError(
                "sequence",
                f"another transaction with sequence {sequence} of this account waits already; use {account.ready_end}",
            )
        parked = sequence != account.ready_end
        if sequence - account.ready_end > self._max_ahead:
            raise MempoolError(
                "sequence", f"sequence {sequence} is too far ahead of {account.ready_end}; send the missing ones first"
            )
        if len(account.txs) >= self._max_per_account:
            raise MempoolError(
                "full", f"{len(account.txs)} transactions of this account wait already; wait until some are in a block"
            )
        self._make_room(len(checked.raw), parked=parked)
        self._accounts[checked.sender] = account
        account.txs[sequence] = checked
        self._by_hash[checked.hash] = (checked, now)
        self.bytes += len(checked.raw)
        if parked:
            self._parked[checked.hash] = checked
        else:
            self._extend(account)

    def reap(self, *, max_bytes: int, max_txs: int) -> list[CheckedTx]:
        """Executable transactions in order of arrival, each account's in sequence, within the bounds. They stay here."""
        chosen: list[CheckedTx] = []
        total = 0
        position: dict[bytes, int] = {}
        held: dict[bytes, dict[int, CheckedTx]] = {}
        full = False
        for checked, _ in self._by_hash.values():
            if full or len(chosen) >= max_txs:
                break
            if checked.hash in self._parked:
                continue
            sender = checked.sender
            wanted = position.get(sender)
            if wanted is None:
                wanted = self._accounts[sender].next
            if checked.sequence != wanted:
                # Arrived before its predecessor: it follows as soon as that one is chosen.
                held.setdefault(sender, {})[checked.sequence] = checked
                continue
            follower: CheckedTx | None = checked
            while follower is not None:
                if total + len(follower.raw) > max_bytes or len(chosen) >= max_txs:
                    full = True
                    break
                chosen.append(follower)
                total += len(follower.raw)
                wanted += 1
                follower = held[sender].pop(wanted, None) if sender in held else None
            position[sender] = wanted
        return chosen

    def committed(self, hashes: Iterable[bytes], sequences: Mapping[bytes, int]) -> None:
        """A block was committed: forget its transactions and whatever the accounts' new sequences made void."""
        for tx_hash in hashes:
            self._remember_hash(tx_hash)
        for sender, sequence in sequences.items():
            account = self._accounts.get(sender)
            if account is None:
                continue
            for used in range(account.next, min(sequence, account.next + self._max_per_account + self._max_ahead + 1)):
                checked = account.txs.pop(used, None)
                if checked is not None:
                    self._forget(checked)
            account.next = sequence
            if account.ready_end < sequence:
                account.ready_end = sequence
                self._extend(account)
            if not account.txs:
                del self._accounts[sender]

    def drop(self, tx_hash: bytes) -> None:
        """Remove one that turned out not to be executable (no money for its fee); later ones of its account are parked."""
        entry = self._by_hash.get(tx_hash)
        if entry is None:
            return
        checked = entry[0]
        account = self._accounts[checked.sender]
        del account.txs[checked.sequence]
        self._forget(checked)
        if checked.sequence < account.ready_end:
            for later in range(checked.sequence + 1, account.ready_end):
                parked = account.txs.get(later)
                if parked is not None:
                    self._parked[parked.hash] = parked
            account.ready_end = checked.sequence
        if not account.txs:
            del self._accounts[checked.sender]

    def expire(self, now: float) -> list[bytes]:
        """Remove what waited longer than the lifetime; returns the hashes."""
        old = []
        for tx_hash, (_, since) in self._by_hash.items():
            if now - since <= self._lifetime:
                break
            old.append(tx_hash)
        for tx_hash in old:
            self.drop(tx_hash)
        return old

    def _extend(self, account: _Account) -> None:
        before = account.ready_end
        account.extend()
        if self._parked:
            for sequence in range(before, account.ready_end):
                self._parked.pop(account.txs[sequence].hash, None)

    def _make_room(self, size: int, *, parked: bool) -> None:
        while len(self._by_hash) >= self._max_txs or self.bytes + size > self._max_bytes:
            if parked or not self._parked:
                raise MempoolError(
                    "full",
                    f"the mempool holds {len(self._by_hash)} transactions of {self.bytes} bytes; try again later",
                )
            self.drop(next(reversed(self._parked)))

    def _forget(self, checked: CheckedTx) -> None:
        del self._by_hash[checked.hash]
        self._parked.pop(checked.hash, None)
        self.bytes -= len(checked.raw)

    def _remember_hash(self, tx_hash: bytes) -> None:
        self._seen.add(tx_hash)
        if len(self._seen) * 2 > self._remember:
            self._seen_before, self._seen = self._seen, set()
