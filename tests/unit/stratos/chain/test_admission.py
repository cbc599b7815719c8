"""Admission: each signature checked once, in threads, and every refusal named."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.chain import admission as module
from stratos.chain.admission import Admission, Rejected, check_tx
from stratos.chain.mempool import CheckedTx, Mempool
from stratos.ledger.signing import verify_tx
from stratos.wire.chainrpc import TxVerdict
from stratos.wire.txs import FileUpload, Send


class Desk:
    """An admission whose admitted transactions are recorded."""

    def __init__(self, builders: Any, threads: int = 2) -> None:
        self.mempool = Mempool()
        self.told: list[CheckedTx] = []
        self.quiet: list[CheckedTx] = []
        self.pool = ThreadPoolExecutor(threads)
        self.admission = Admission(
            mempool=self.mempool,
            genesis_hash=builders.LEDGER.genesis_hash,
            pool=self.pool,
            precheck=lambda _checked, _waiting: None,
            account_sequence=lambda _address: 0,
            on_admitted=lambda txs, gossip: (self.told if gossip else self.quiet).extend(txs),
        )


def test_the_signed_body_is_found_in_the_bytes_whatever_the_message(builders: Any) -> None:
    """Checking the slice of the bytes agrees with encoding the body again."""
    for message in (Send(b"\1" * 20, "5"), FileUpload(b"\1" * 24), Send(b"\2" * 20, "9" * 30)):
        for sequence in (0, 127, 128, 2**31, 2**62):
            checked = builders.checked(0, message, sequence)
            assert verify_tx(checked.tx, builders.LEDGER.genesis_hash)
            assert checked.sender == builders.WALLETS[0].address


@given(st.data())
def test_any_flipped_bit_is_refused(builders: Any, data: Any) -> None:
    """No other byte string passes for a signed transaction."""
    raw = bytearray(builders.checked(0, Send(b"\1" * 20, "5"), 3).raw)
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    found = check_tx(bytes(raw), builders.LEDGER.genesis_hash)
    assert isinstance(found, Rejected)
    assert found.code in {"invalid", "signature"}


@given(st.binary(max_size=400))
def test_junk_is_refused_with_a_sentence(builders: Any, junk: bytes) -> None:
    """Random bytes never raise."""
    found = check_tx(junk, builders.LEDGER.genesis_hash)
    assert isinstance(found, Rejected)
    assert found.sentence


def test_a_signature_for_another_network_is_refused(builders: Any) -> None:
    """The genesis hash is part of what is signed."""
    found = check_tx(builders.checked(0, Send(b"\1" * 20, "5"), 0).raw, b"\1" * 32)
    assert isinstance(found, Rejected)
    assert found.code == "signature"


async def test_verdicts_come_in_the_order_of_the_submission(builders: Any) -> None:
    """Good, forged, repeated and junk in one batch each get their own verdict; only good ones are announced."""
    desk = Desk(builders)
    good = [builders.checked(wallet, Send(b"\1" * 20, "5"), 0) for wallet in range(3)]
    forged = good[0].raw[:-1] + bytes([good[0].raw[-1] ^ 1])
    verdicts = await desk.admission.submit([good[0].raw, forged, good[1].raw, b"junk", good[2].raw, good[1].raw])
    assert [verdict.code for verdict in verdicts] == ["ok", "signature", "ok", "invalid", "ok", "duplicate"]
    assert [tx.hash for tx in desk.told] == [tx.hash for tx in good]
    assert desk.quiet == []
    assert desk.admission.pending == 0
    desk.pool.shutdown()


async def test_gossiped_transactions_are_admitted_once_and_not_passed_on(builders: Any, monkeypatch: Any) -> None:
    """A transaction seen before is not even checked again."""
    desk = Desk(builders, threads=1)
    checks: list[int] = []
    real = module.check_txs

    def counting(raws: Any, genesis_hash: bytes) -> Any:
        checks.append(len(raws))
        return real(raws, genesis_hash)

    monkeypatch.setattr(module, "check_txs", counting)
    txs = [builders.checked(wallet, Send(b"\1" * 20, "5"), 0) for wallet in range(4)]
    desk.admission.gossiped([tx.raw for tx in txs])
    async with asyncio.timeout(120):
        while len(desk.mempool) < 4:  # noqa: ASYNC110 - gossip has no answer to wait for
            await asyncio.sleep(0.005)
    desk.admission.gossiped([tx.raw for tx in txs])
    assert desk.admission.pending == 0
    assert desk.told == []
    assert len(desk.quiet) == 4
    assert sum(checks) == 4
    desk.pool.shutdown()


async def test_many_single_submissions_share_thread_jobs(builders: Any, monkeypatch: Any) -> None:
    """A hundred callers at once cost a few jobs, not a hundred."""
    desk = Desk(builders)
    jobs: list[int] = []
    real = module.check_txs

    def counting(raws: Any, genesis_hash: bytes) -> Any:
        jobs.append(len(raws))
        return real(raws, genesis_hash)

    monkeypatch.setattr(module, "check_txs", counting)
    txs = [builders.checked(0, Send(b"\1" * 20, "5"), sequence) for sequence in range(100)]
    found = await asyncio.gather(*(desk.admission.submit([tx.raw]) for tx in txs))
    assert all(verdicts[0].code == "ok" for verdicts in found)
    assert jobs == [100]
    desk.pool.shutdown()


async def test_more_than_can_be_checked_is_refused_as_full(builders: Any, monkeypatch: Any) -> None:
    """The queue before the signature check is bounded too."""
    desk = Desk(builders)
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    raws = [builders.checked(0, Send(b"\1" * 20, "5"), sequence).raw for sequence in range(4)]
    verdicts = await desk.admission.submit(raws)
    assert {verdict.code for verdict in verdicts} == {"full"}
    assert all(isinstance(verdict, TxVerdict) for verdict in verdicts)
    desk.pool.shutdown()


def test_refusals_fit_their_record(builders: Any) -> None:
    """However odd the bytes, the verdict can be encoded."""
    found = check_tx(b"\xdd\xff\xff\xff\xff" + b"x" * 1000, builders.LEDGER.genesis_hash)
    assert isinstance(found, Rejected)
    assert len(found.sentence) <= 1024


@pytest.mark.parametrize("size", [65_537, 100_000])
def test_an_oversized_transaction_is_refused(builders: Any, size: int) -> None:
    """MAX_TX_BYTES holds."""
    found = check_tx(bytes(size), builders.LEDGER.genesis_hash)
    assert isinstance(found, Rejected)
    assert "over the limit" in found.sentence
