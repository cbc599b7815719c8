"""Committed transfers per second of four validators on this machine, against the physical limit of the same run.

Every transfer is signed beforehand and every signature is checked by every validator; TLS between peers, every vote and every
block synced to disk. The limit is cores / (n x one secp256k1 check), measured before and after; a run whose calibration
moved more than 15 % is reported as void. Then the latency of single transfers on the idle chain. Bounded: at most
`--txs` transactions and `--seconds` per run.

    python benchmarks/chain_throughput.py [--json] [--txs 30000] [--runs 1]
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop
from blake3 import blake3
from validator_net import ValidatorNet

from stratos.crypto.keys import NodeKey, WalletKey, verify_wallet
from stratos.net.peers import RpcRefused
from stratos.net.rpc import RpcClient
from stratos.net.tls import client_context
from stratos.wire.chainrpc import Account, GetAccount, SubmitTxs, TxRecord, TxVerdicts, WaitTx
from stratos.wire.genesis import ConsensusParams
from stratos.wire.rpc import CLASS_CLIENT
from stratos.wire.txs import Send

BATCH = 200
WINDOW = 4
"""Batches in flight per connection."""


def verify_seconds(rounds: int = 2_000) -> float:
    """One secp256k1 check on one core, in seconds."""
    key = WalletKey.from_secret(b"\7" * 32)
    digest = b"\1" * 32
    signature = key.sign(digest)
    began = time.perf_counter()
    for _ in range(rounds):
        assert verify_wallet(key.public_key, digest, signature)
    return (time.perf_counter() - began) / rounds


def signed_transfers(net: ValidatorNet, count: int) -> list[list[list[bytes]]]:
    """Per connection, batches of transfers: account a's all go to node a mod n, in sequence."""
    accounts = len(net.wallets)
    per_account = count // accounts
    sends = [Send(net.wallets[(index + 1) % accounts].address, "1") for index in range(accounts)]
    streams: list[list[bytes]] = [[] for _ in range(net.size)]
    for sequence in range(per_account):
        for account in range(accounts):
            streams[account % net.size].append(net.sign(account, sends[account], sequence))
    return [[stream[start : start + BATCH] for start in range(0, len(stream), BATCH)] for stream in streams]


def _last_of_each(stream: list[list[bytes]], accounts: int) -> list[bytes]:
    """The last transfer of every account in a connection's stream (they take turns)."""
    return [raw for batch in stream[-1 - accounts // BATCH :] for raw in batch][-accounts:]


async def connect(net: ValidatorNet, index: int) -> RpcClient:
    """A client connection to one validator."""
    return await RpcClient.connect(
        "127.0.0.1",
        net.p2p_ports[index],
        tls=client_context(),
        expected_key=net.node_keys[index].public_key,
        identity=NodeKey.generate(),
        peer_class=CLASS_CLIENT,
        genesis_hash=net.genesis_hash,
    )


async def pump(client: RpcClient, batches: list[list[bytes]]) -> int:
    """Submit all batches with a bounded window; a full mempool is waited for. Number of refused ones."""
    gate = asyncio.Semaphore(WINDOW)
    refused = 0

    async def one(batch: list[bytes]) -> None:
        nonlocal refused
        async with gate:
            todo = tuple(batch)
            while todo:
                answer = await client.call(SubmitTxs(todo), TxVerdicts, timeout_seconds=120)
                again = []
                for raw, verdict in zip(todo, answer.verdicts, strict=True):
                    if verdict.code == "full":
                        again.append(raw)
                    elif verdict.code not in ("ok", "duplicate"):
                        refused += 1
                todo = tuple(again)
                if todo:
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(one(batch) for batch in batches))
    return refused


async def committed_all(
    client: RpcClient, net: ValidatorNet, last: list[bytes], per_account: int, *, seconds: float
) -> tuple[float, int]:
    """(time when the last transfer of every account was committed at this node, transfers committed by then)."""
    deadline = time.perf_counter() + seconds

    async def one(raw: bytes) -> None:
        while time.perf_counter() < deadline:
            try:
                await client.call(WaitTx(blake3(raw).digest(), 30_000), TxRecord, timeout_seconds=40)
            except RpcRefused:
                continue
            return

    # The class allows 256 requests in flight on a connection; the waits must leave room.
    gate = asyncio.Semaphore(200)

    async def gated(raw: bytes) -> None:
        async with gate:
            await one(raw)

    await asyncio.gather(*(gated(raw) for raw in last))
    finished = time.perf_counter()
    accounts = [await client.call(GetAccount(wallet.address), Account) for wallet in net.wallets]
    return finished, sum(min(account.sequence, per_account) for account in accounts)


async def latency(net: ValidatorNet, *, samples: int, first_sequence: int) -> list[float]:
    """Seconds from submit to the answered commit of single transfers, one after the other."""
    client = await connect(net, 0)
    found = []
    for number in range(samples):
        raw = net.sign(0, Send(net.wallets[1].address, "1"), first_sequence + number)
        began = time.perf_counter()
        answer = await client.call(SubmitTxs((raw,)), TxVerdicts)
        assert answer.verdicts[0].code == "ok", answer
        await client.call(WaitTx(answer.verdicts[0].tx_hash, 30_000), TxRecord, timeout_seconds=40)
        found.append(time.perf_counter() - began)
    await client.close()
    return found


def run(txs: int, seconds: float, accounts: int) -> dict[str, Any]:
    """One measured run."""
    before = verify_seconds()
    consensus = ConsensusParams(block_seconds=5.0, min_block_seconds=0.0, propose_timeout_seconds=5.0)
    with tempfile.TemporaryDirectory(prefix="stratos-bench-") as folder:
        net = ValidatorNet(Path(folder), accounts=accounts, consensus=consensus, log_level="warning")
        per_account = txs // accounts
        streams = signed_transfers(net, txs)
        last = [raw for stream in streams for raw in _last_of_each(stream, accounts // net.size)]
        with net:

            async def load() -> tuple[float, int, int]:
                clients = [await connect(net, index) for index in range(net.size)]
                began = time.perf_counter()
                pumps = asyncio.gather(
                    *(pump(client, batches) for client, batches in zip(clients, streams, strict=True))
                )
                watcher = await connect(net, 0)
                finished, done = await committed_all(watcher, net, last, per_account, seconds=seconds)
                took = finished - began
                refused = sum(await asyncio.wait_for(pumps, timeout=60))
                for client in (*clients, watcher):
                    await client.close()
                return took, done, refused

            idle_kib = max(net.memory_pss_kib(index) for index in range(net.size))
            cpu_before = sum(net.cpu_seconds(index) for index in range(net.size))
            took, done, refused = uvloop.run(load())
            cpu = sum(net.cpu_seconds(index) for index in range(net.size)) - cpu_before
            singles = uvloop.run(latency(net, samples=50, first_sequence=per_account))
            heights = [net.get(index, "/status") for index in range(net.size)]
    after = verify_seconds()
    cores = os.cpu_count() or 1
    verify = (before + after) / 2
    ceiling = cores / (net.size * verify)
    rate = done / took
    drift = abs(after - before) / before
    singles.sort()
    return {
        "void": drift > 0.15,
        "txs_committed": done,
        "txs_refused": refused,
        "seconds": round(took, 3),
        "tx_per_second": round(rate, 1),
        "verify_us": round(verify * 1e6, 2),
        "calibration_drift": round(drift, 3),
        "ceiling_tx_per_second": round(ceiling, 1),
        "ratio_to_ceiling": round(rate / ceiling, 3),
        "validator_cpu_us_per_tx": round(cpu / max(done, 1) / net.size * 1e6, 1),
        "single_tx_ms": {
            "p50": round(statistics.median(singles) * 1000, 2),
            "min": round(singles[0] * 1000, 2),
            "max": round(singles[-1] * 1000, 2),
        },
        "idle_pss_mib": round(idle_kib / 1024, 1),
        "validators": net.size,
        "cores": cores,
        "blocks": max(int(status["height"]) for status in heights),
    }


def main() -> int:
    """Print one JSON document (--json) or a few lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--txs", type=int, default=30_000)
    parser.add_argument("--accounts", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    runs = [run(options.txs, options.seconds, options.accounts) for _ in range(options.runs)]
    rates = sorted(one["tx_per_second"] for one in runs if not one["void"])
    document = {
        "benchmark": "chain_throughput",
        "runs": runs,
        "tx_per_second": {"median": statistics.median(rates), "min": rates[0], "max": rates[-1]} if rates else None,
        "void_runs": sum(1 for one in runs if one["void"]),
        "limited_by": "processor: signature checks, execution and hashing of all validators share the cores",
    }
    if options.json:
        print(json.dumps(document))
    else:
        for one in runs:
            print(
                f"{one['tx_per_second']:.0f} tx/s committed ({one['txs_committed']} in {one['seconds']} s, {one['blocks']} blocks), "
                f"{one['ratio_to_ceiling']:.2f} of the ceiling {one['ceiling_tx_per_second']:.0f}; "
                f"{one['validator_cpu_us_per_tx']} us of processor per tx and validator; single tx p50 {one['single_tx_ms']['p50']} ms; "
                f"idle {one['idle_pss_mib']} MiB" + (" [void: the machine moved]" if one["void"] else "")
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
