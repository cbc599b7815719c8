"""A value layer of real processes on loopback, for benchmarks and end-to-end tests that need nothing but validators.

Homes are written into a given folder (deterministic throw-away keys, ports outside the ephemeral range that no other
testnet takes), `stratosd run` is spawned per node, waiting is on conditions with deadlines. Only processes started here are
ever signalled, by pid.
"""

import atexit
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec

from orchestrator.plan.ports import LOWEST_PORT
from orchestrator.testnet.ports_in_use import PortClaims
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger.signing import sign_tx
from stratos.net.blocking import BlockingRpcClient
from stratos.wire.codec import encode
from stratos.wire.config import NodeConfig, PeerEntry, Ports, dump_config
from stratos.wire.genesis import ConsensusParams, Genesis, GenesisAccount, GenesisValidator, genesis_hash
from stratos.wire.rpc import CLASS_CLIENT
from stratos.wire.txs import Message

STOS = 10**18
START_SECONDS = 120.0


FIRST_PORT = 5_000
PORTS = LOWEST_PORT - FIRST_PORT
"""Below the blocks that `stratosctl up` plans with: the ports of a testnet that is down for a moment are not taken either."""
_CLAIMS = PortClaims()
atexit.register(_CLAIMS.__exit__)


class NotInTime(AssertionError):
    """A condition was not met before its deadline."""


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return as soon as `condition()`; NotInTime after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now and which are ours until this process ends, also while a node of ours is down."""
    ports: list[int] = []
    start = random.randrange(PORTS - count)
    while len(ports) < count:
        candidate = FIRST_PORT + start % PORTS
        start += 1
        if _CLAIMS.claim(candidate):
            ports.append(candidate)
    return ports


class ValidatorNet:
    """`size` validators with homes under `folder`. Use as a context manager: leaving it stops every process."""

    def __init__(
        self,
        folder: Path,
        *,
        size: int = 4,
        accounts: int = 16,
        consensus: ConsensusParams | None = None,
        log_level: str = "info",
        environments: Mapping[int, Mapping[str, str]] | None = None,
        **genesis: Any,
    ) -> None:
        """`environments` are added to what a node's program sees, by index; `genesis` are further fields of the genesis."""
        self.size = size
        self.wallets = [WalletKey.from_secret((1_000_000 + index).to_bytes(32, "big")) for index in range(accounts)]
        self.node_keys = [NodeKey.from_seed(bytes([index + 1]) * 32) for index in range(size)]
        self.environments = dict(environments or {})
        self.owners = owners = [WalletKey.from_secret((2_000_000 + index).to_bytes(32, "big")) for index in range(size)]
        self.genesis = Genesis(
            network="benchnet",
            time_ms=time.time_ns() // 1_000_000,
            accounts=tuple(
                GenesisAccount(address=wallet.address, balance_wei=str(10_000 * STOS))
                for wallet in [*self.wallets, *owners]
            ),
            validators=tuple(
                GenesisValidator(
                    operator=owner.address, node_public_key=key.public_key, stake_wei=str(1000 * STOS), name=f"v{index}"
                )
                for index, (owner, key) in enumerate(zip(owners, self.node_keys, strict=True))
            ),
            value_consensus=consensus or ConsensusParams(block_seconds=1.0),
            **genesis,
        )
        self.genesis_hash = genesis_hash(self.genesis)
        ports = free_ports(2 * size)
        self.p2p_ports, self.http_ports = ports[:size], ports[size:]
        entries = [
            PeerEntry(
                name=f"v{index}",
                role="validator",
                public_key=key.public_key.hex(),
                endpoint=f"127.0.0.1:{self.p2p_ports[index]}",
            )
            for index, key in enumerate(self.node_keys)
        ]
        self.homes = [folder / f"v{index}" for index in range(size)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * size
        for index, home in enumerate(self.homes):
            home.mkdir(parents=True)
            (home / "genesis.json").write_text(json.dumps(msgspec.to_builtins(self.genesis), indent=2, sort_keys=True))
            config = NodeConfig(
                name=f"v{index}",
                role="validator",
                network_address=entries[index].endpoint,
                ports=Ports(p2p=self.p2p_ports[index], http=self.http_ports[index]),
                peers=tuple(entry for other, entry in enumerate(entries) if other != index),
                log_level=log_level,
            )
            (home / "config.json").write_bytes(dump_config(config))
            save_key(home / "node.key", self.node_keys[index])
            save_key(home / "wallet.key", owners[index])

    def __enter__(self) -> "ValidatorNet":
        try:
            for index in range(self.size):
                self.spawn(index)
            for index in range(self.size):
                self.wait_ready(index)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def spawn(self, index: int) -> None:
        """Start one node."""
        with (self.homes[index] / "node.log").open("ab") as log:
            self.processes[index] = subprocess.Popen(
                [sys.executable, "-m", "stratos.node", "run", "--home", str(self.homes[index])],
                env={**os.environ, **self.environments.get(index, {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, index: int) -> None:
        """Until the node has written its ready.json."""

        def ready() -> bool:
            process = self.processes[index]
            assert process is not None
            if process.poll() is not None:
                raise NotInTime(f"v{index} ended with {process.returncode}: {self.log(index)[-2000:]}")
            try:
                return json.loads((self.homes[index] / "ready.json").read_text())["pid"] == process.pid
            except (FileNotFoundError, json.JSONDecodeError):
                return False

        wait_until(ready, seconds=START_SECONDS, what=f"v{index} ready")

    def kill(self, index: int) -> None:
        """SIGKILL one node and reap it."""
        process = self.processes[index]
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> list[int]:
        """SIGTERM everything still running; the exit codes (SIGKILL after a grace)."""
        for process in self.processes:
            if process is not None and process.poll() is None:
                process.terminate()
        codes = []
        for process in self.processes:
            if process is None:
                continue
            try:
                codes.append(process.wait(timeout=60))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        return codes

    def log(self, index: int) -> str:
        """The node's log."""
        return (self.homes[index] / "node.log").read_text()

    def get(self, index: int, path: str) -> Any:
        """A JSON document of a node's HTTP surface; raises OSError when it does not answer."""
        with urlopen(f"http://127.0.0.1:{self.http_ports[index]}{path}", timeout=30) as answer:
            return json.load(answer)

    def height(self, index: int) -> int:
        """Height of a node, -1 when it does not answer."""
        try:
            return int(self.get(index, "/status")["height"])
        except OSError:
            return -1

    def client(self, index: int) -> BlockingRpcClient:
        """A client connection to a node."""
        return BlockingRpcClient(
            "127.0.0.1",
            self.p2p_ports[index],
            expected_key=self.node_keys[index].public_key,
            identity=NodeKey.generate(),
            peer_class=CLASS_CLIENT,
            genesis_hash=self.genesis_hash,
        )

    def sign(self, account: int, message: Message, sequence: int) -> bytes:
        """Bytes of a transaction of one of the wallets."""
        return encode(sign_tx(self.wallets[account], message, sequence=sequence, genesis_hash=self.genesis_hash))

    def memory_pss_kib(self, index: int) -> int:
        """Proportional memory of a node in KiB."""
        process = self.processes[index]
        assert process is not None
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        return 0

    def cpu_seconds(self, index: int) -> float:
        """Processor time a node has used."""
        process = self.processes[index]
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
