"""How fast the ledger applies transfers, against the signature check that every transfer costs anyway.

    python benchmarks/ledger_apply.py [--json] [--accounts N] [--block N] [--rounds N]

One run interleaves, A B B A: applying blocks of transfers (deliver_tx in a block branch, end of block, root of the
authenticated map, commit in memory) and verifying as many secp256k1 signatures on one core. The figure is their ratio:
above 1 the signature is the dearer part, and the ledger is not what limits a validator. A calibration loop before and
after voids the run when the machine moved by more than 15 %.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node_image"))

from blake3 import blake3

from stratos.crypto.keys import WalletKey
from stratos.ledger.context import BlockContext
from stratos.ledger.machine import Ledger
from stratos.ledger.signing import sign_tx, verify_tx
from stratos.state import State
from stratos.wire.genesis import Genesis, GenesisAccount
from stratos.wire.txs import Send, Tx

MIN_PAIRS = 5
MAX_DRIFT = 0.15


def _keys(count: int) -> list[WalletKey]:
    return [WalletKey(blake3(b"benchmark account %d" % number).digest()) for number in range(count)]


class Chain:
    """A ledger in memory that blocks are applied to."""

    def __init__(self, keys: list[WalletKey]) -> None:
        self._keys = keys
        accounts = tuple(GenesisAccount(address=key.address, balance_wei=str(10**21)) for key in keys)
        self.ledger = Ledger(Genesis(network="benchmark", time_ms=0, accounts=accounts))
        self._state = State()
        branch = self._state.fork()
        self.ledger.init_genesis(branch)
        self._state.commit(branch, 0)
        self._sequences = [0] * len(keys)
        self._random = random.Random(7)

    def make_block(self, size: int) -> list[Tx]:
        """Signed transfers between random accounts."""
        txs = []
        for _ in range(size):
            sender = self._random.randrange(len(self._keys))
            recipient = self._keys[self._random.randrange(len(self._keys))].address
            message = Send(recipient, str(self._random.randrange(1, 10**15)))
            sequence = self._sequences[sender]
            self._sequences[sender] += 1
            key = self._keys[sender]
            txs.append(sign_tx(key, message, sequence=sequence, genesis_hash=self.ledger.genesis_hash))
        return txs

    def apply(self, txs: list[Tx]) -> tuple[float, float]:
        """(seconds of execution, seconds of root and commit) of one block."""
        height = self._state.height + 1
        context = BlockContext(height=height, time_ms=height * 1000)
        started = time.perf_counter()
        branch = self._state.fork()
        self.ledger.begin_block(branch, context)
        codes = {self.ledger.deliver_tx(branch, tx, context).code for tx in txs}
        self.ledger.end_block(branch, context)
        executed = time.perf_counter()
        self._state.preview(branch)
        self._state.commit(branch, height)
        ended = time.perf_counter()
        if codes != {"ok"}:
            raise SystemExit(f"a transfer failed with {codes}; the benchmark is wrong")
        return executed - started, ended - executed


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _calibrate(tx: Tx, genesis_hash: bytes) -> float:
    return _timed(lambda: [verify_tx(tx, genesis_hash) for _ in range(2000)])


def measure(*, accounts: int, block: int, rounds: int) -> dict[str, object]:
    """One run of the benchmark."""
    chain = Chain(_keys(accounts))
    genesis_hash = chain.ledger.genesis_hash
    chain.apply(chain.make_block(block))
    probe = chain.make_block(1)
    chain.apply(probe)
    before = _calibrate(probe[0], genesis_hash)
    ratios, applied, executions, roots, verified = [], [], [], [], []
    for number in range(max(rounds, MIN_PAIRS)):
        txs = chain.make_block(block)

        def verify(txs: list[Tx] = txs) -> float:
            return _timed(lambda: [verify_tx(tx, genesis_hash) for tx in txs])

        first = verify() if number % 2 else 0.0
        execution, root = chain.apply(txs)
        check = first or verify()
        executions.append(execution / block * 1e6)
        roots.append(root / block * 1e6)
        applied.append(block / (execution + root))
        verified.append(check / block * 1e6)
        ratios.append(check / (execution + root))
    after = _calibrate(probe[0], genesis_hash)
    drift = abs(after - before) / before
    return {
        "accounts": accounts,
        "block": block,
        "pairs": len(ratios),
        "transfers_per_second": round(statistics.median(applied)),
        "execute_us": round(statistics.median(executions), 1),
        "root_and_commit_us": round(statistics.median(roots), 1),
        "verify_us": round(statistics.median(verified), 1),
        "verify_over_apply": {
            "median": round(statistics.median(ratios), 2),
            "min": round(min(ratios), 2),
            "max": round(max(ratios), 2),
        },
        "drift": round(drift, 3),
        "void": drift > MAX_DRIFT,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Transfers per second through the ledger, against signature checks.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--block", type=int, default=2_000, help="transfers per block")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    result = measure(accounts=options.accounts, block=options.block, rounds=options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<22} {value}")


if __name__ == "__main__":
    main()
