"""The mempool: order per account, bounds, and nothing accepted is lost without a reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stratos.chain.mempool import CheckedTx, Mempool, MempoolError
from stratos.wire.txs import Send, Tx, TxBody

SENDERS = [bytes([number]) * 20 for number in range(4)]


def tx(sender: int, sequence: int, *, size: int = 100, variant: int = 0) -> CheckedTx:
    """A transaction as admission hands it over; the mempool never looks at signatures."""
    record = Tx(TxBody(Send(b"\0" * 20, "1"), sequence, ""), b"\2" * 33, b"\0" * 64)
    name = bytes([sender, variant]) + sequence.to_bytes(8, "big")
    return CheckedTx(name.ljust(32, b"\0"), name.ljust(size, b"\0"), record, SENDERS[sender])


def reaped(pool: Mempool, *, max_bytes: int = 10**9, max_txs: int = 10**6) -> list[tuple[int, int]]:
    """(sender, sequence) of what a block would get."""
    return [(SENDERS.index(one.sender), one.sequence) for one in pool.reap(max_bytes=max_bytes, max_txs=max_txs)]


@given(st.permutations([(sender, sequence) for sender in range(3) for sequence in range(5)]))
def test_any_order_of_arrival_gives_each_accounts_own_order(order: list[tuple[int, int]]) -> None:
    """Whatever order transactions arrive in, a block gets every account's in sequence without gaps."""
    pool = Mempool()
    for sender, sequence in order:
        pool.add(tx(sender, sequence), account_sequence=0, now=0.0)
    found = reaped(pool)
    assert sorted(found) == sorted(order)
    for sender in range(3):
        assert [sequence for who, sequence in found if who == sender] == list(range(5))


def test_accounts_take_turns_by_arrival() -> None:
    """A flood of one account does not push later accounts behind all of its transactions: arrival decides."""
    pool = Mempool()
    for sequence in range(3):
        pool.add(tx(0, sequence), account_sequence=0, now=0.0)
    pool.add(tx(1, 0), account_sequence=0, now=0.0)
    pool.add(tx(0, 3), account_sequence=0, now=0.0)
    assert reaped(pool) == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3)]
    assert reaped(pool, max_txs=2) == [(0, 0), (0, 1)]
    assert reaped(pool, max_bytes=350) == [(0, 0), (0, 1), (0, 2)]


def test_a_gap_parks_what_is_behind_it() -> None:
    """Parked transactions wait for the missing one and are executable as soon as it comes."""
    pool = Mempool()
    pool.add(tx(0, 1), account_sequence=0, now=0.0)
    assert not pool.has_executable
    assert reaped(pool) == []
    assert pool.next_sequence(SENDERS[0]) == 0
    pool.add(tx(0, 0), account_sequence=0, now=0.0)
    assert pool.has_executable
    assert reaped(pool) == [(0, 0), (0, 1)]
    assert pool.next_sequence(SENDERS[0]) == 2


@pytest.mark.parametrize(
    ("sequence", "code"),
    [(4, "sequence"), (5, "sequence"), (5 + 1 + 1_000 + 1, "sequence")],
    ids=["used", "taken", "far"],
)
def test_sequences_that_cannot_be_used_are_refused(sequence: int, code: str) -> None:
    """Used before, taken by another transaction, or too far ahead."""
    pool = Mempool()
    pool.add(tx(0, 5), account_sequence=5, now=0.0)
    with pytest.raises(MempoolError) as refused:
        pool.add(tx(0, sequence, variant=1), account_sequence=5, now=0.0)
    assert refused.value.code == code


def test_the_same_transaction_twice_is_a_duplicate() -> None:
    """The second one changes nothing."""
    pool = Mempool()
    pool.add(tx(0, 0), account_sequence=0, now=0.0)
    with pytest.raises(MempoolError) as refused:
        pool.add(tx(0, 0), account_sequence=0, now=0.0)
    assert refused.value.code == "duplicate"
    assert len(pool) == 1


def test_a_full_pool_gives_up_parked_transactions_for_executable_ones_and_never_the_reverse() -> None:
    """Eviction takes the newest parked one; when only executable ones are left, the newcomer is refused."""
    pool = Mempool(max_txs=3)
    for sequence in (5, 6):
        pool.add(tx(0, sequence), account_sequence=0, now=0.0)
    pool.add(tx(1, 0), account_sequence=0, now=0.0)
    pool.add(tx(2, 0), account_sequence=0, now=0.0)
    assert tx(0, 6).hash not in pool
    assert tx(0, 5).hash in pool
    with pytest.raises(MempoolError):
        pool.add(tx(0, 7), account_sequence=0, now=0.0)
    pool.add(tx(3, 0), account_sequence=0, now=0.0)
    assert reaped(pool) == [(1, 0), (2, 0), (3, 0)]
    with pytest.raises(MempoolError) as refused:
        pool.add(tx(1, 1), account_sequence=0, now=0.0)
    assert refused.value.code == "full"


def test_what_waits_too_long_expires_oldest_first() -> None:
    """Only transactions older than the lifetime go; followers of an expired one are parked."""
    pool = Mempool(lifetime_seconds=10)
    pool.add(tx(0, 0), account_sequence=0, now=0.0)
    pool.add(tx(0, 1), account_sequence=0, now=8.0)
    assert pool.expire(9.0) == []
    assert pool.expire(11.0) == [tx(0, 0).hash]
    assert not pool.has_executable
    assert len(pool) == 1


def test_a_committed_transaction_is_remembered_as_seen() -> None:
    """Gossip of a transaction that is already in a block costs no second check; the memory is bounded."""
    pool = Mempool(remember=10)
    hashes = []
    for sequence in range(30):
        one = tx(0, sequence)
        pool.add(one, account_sequence=sequence, now=0.0)
        pool.committed([one.hash], {one.sender: sequence + 1})
        hashes.append(one.hash)
    assert len(pool) == 0
    assert pool.seen(hashes[-1])
    assert not pool.seen(hashes[0])


class Pool(RuleBasedStateMachine):
    """Random traffic against a model: per account the committed sequence and what was accepted and not yet committed."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Mempool(max_txs=12, max_bytes=1_500, max_ahead=6, lifetime_seconds=20)
        self.next = dict.fromkeys(range(4), 0)
        self.now = 0.0

    @rule(sender=st.integers(0, 3), ahead=st.integers(-1, 8), variant=st.integers(0, 1), size=st.integers(20, 400))
    def add(self, sender: int, ahead: int, variant: int, size: int) -> None:
        sequence = max(0, self.next[sender] + ahead)
        one = tx(sender, sequence, size=size, variant=variant)
        try:
            self.pool.add(one, account_sequence=self.next[sender], now=self.now)
        except MempoolError:
            return
        assert self.pool.get(one.hash) is one

    @rule(max_txs=st.integers(1, 12), max_bytes=st.integers(100, 1_500))
    def commit(self, max_txs: int, max_bytes: int) -> None:
        chosen = self.pool.reap(max_bytes=max_bytes, max_txs=max_txs)
        assert len(chosen) <= max_txs
        assert sum(len(one.raw) for one in chosen) <= max_bytes
        for one in chosen:
            sender = SENDERS.index(one.sender)
            assert one.sequence == self.next[sender]
            self.next[sender] += 1
        self.pool.committed(
            [one.hash for one in chosen], {one.sender: self.next[SENDERS.index(one.sender)] for one in chosen}
        )
        assert all(one.hash not in self.pool for one in chosen)

    @rule(sender=st.integers(0, 3), count=st.integers(1, 4))
    def committed_elsewhere(self, sender: int, count: int) -> None:
        self.next[sender] += count
        self.pool.committed([], {SENDERS[sender]: self.next[sender]})

    @precondition(lambda self: len(self.pool) > 0)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        self.pool.drop(data.draw(st.sampled_from([one.hash for one in self.pool.waiting()])))

    @rule(seconds=st.floats(0, 15))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.pool.expire(self.now)

    @invariant()
    def bounded_and_consistent(self) -> None:
        waiting = self.pool.waiting()
        assert len(self.pool) == len(waiting) <= 12
        assert self.pool.bytes == sum(len(one.raw) for one in waiting) <= 1_500
        for sender in range(4):
            mine = {one.sequence for one in waiting if one.sender == SENDERS[sender]}
            assert all(sequence >= self.next[sender] for sequence in mine)
            ready = self.next[sender]
            while ready in mine:
                ready += 1
            assert self.pool.next_sequence(SENDERS[sender]) in ({ready} if mine else {None})
        executable = [one for one in waiting if one.sequence < (self.pool.next_sequence(one.sender) or 0)]
        assert self.pool.has_executable == bool(executable)
        assert len(self.pool.reap(max_bytes=10**9, max_txs=10**6)) == len(executable)


TestPool = Pool.TestCase
