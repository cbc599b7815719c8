"""The host around the consensus core, on real sockets and files: a chain of counters on four nodes in one process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stratos.bft.blocks import header_hash, seal
from stratos.bft.events import BlockTemplate, Halt
from stratos.bft.height import Tip, genesis_tip
from stratos.bft.replica import Replica
from stratos.bft.validator_set import ValidatorSet
from stratos.bft.wal import VoteRecord, read_log
from stratos.crypto.keys import NodeKey, verify_node
from stratos.net import consensus_host as host_module
from stratos.net.consensus_host import ConsensusHost
from stratos.net.guard import _sinks, set_failure_sink
from stratos.net.mesh import MeshPeer, PeerMesh
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import client_context, server_context
from stratos.net.wal_file import WAL_HEAD, WalFile
from stratos.wire.block import Block, Commit, CommittedBlock, Validator
from stratos.wire.genesis import ConsensusParams

GENESIS = b"g" * 32
PARAMS = ConsensusParams(block_seconds=0.02, propose_timeout_seconds=1.0, vote_timeout_seconds=0.3)
START_MS = 1_700_000_000_000


class Counter:
    """A state machine that counts entries; its blocks live in memory (the "disk" of these tests)."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.validators = validators
        self.blocks: dict[int, CommittedBlock] = {}
        self.height = 0
        self.total = 0
        self.waiting: list[bytes] = []
        self.prepared = 0

    @property
    def durable_height(self) -> int:
        return self.height

    def has_work(self) -> bool:
        return bool(self.waiting)

    def prepare(self, block: Block) -> Awaitable[None] | None:
        return self._prepare() if block.header.height % 2 else None

    async def _prepare(self) -> None:
        await asyncio.sleep(0)
        self.prepared += 1

    def _root(self, entries: tuple[bytes, ...]) -> bytes:
        return (self.total + len(entries)).to_bytes(32, "big")

    def propose(self, template: BlockTemplate) -> Block:
        entries = tuple(self.waiting)
        return seal(
            template, entries=entries, state_root=self._root(entries), results_root=GENESIS, bridge_root=GENESIS
        )

    def verify(self, block: Block) -> str | None:
        return None if block.header.state_root == self._root(block.entries) else "the count is wrong"

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        assert block.header.height == self.height + 1
        self.total += len(block.entries)
        self.height = block.header.height
        self.blocks[self.height] = CommittedBlock(block, commit)
        self.waiting = [entry for entry in self.waiting if entry not in block.entries]
        return self.validators

    def read_block(self, height: int) -> CommittedBlock | None:
        return self.blocks.get(height)

    def tip(self) -> Tip:
        if not self.height:
            return genesis_tip(time_ms=START_MS, initial_height=1, validators=self.validators)
        newest = self.blocks[self.height]
        return Tip(
            height=self.height,
            block_hash=header_hash(newest.block.header),
            time_ms=newest.block.header.time_ms,
            commit=newest.commit,
            voters=self.validators,
            validators=self.validators,
            next_validators=self.validators,
        )


class Node:
    """One node: its application and log outlive `stop`, like a disk."""

    def __init__(self, key: NodeKey, validators: ValidatorSet, folder: Path) -> None:
        self.key = key
        self.folder = folder
        self.application = Counter(validators)
        self.port = 0
        self.running = False

    async def start(self) -> None:
        routes = Routes()
        self.pool = ThreadPoolExecutor(1)
        self.server = RpcServer(
            identity=self.key,
            genesis_hash=GENESIS,
            tls=server_context(self.key),
            routes=routes,
            authorise=lambda _class, _key: True,
        )
        self.mesh = PeerMesh(
            identity=self.key, genesis_hash=GENESIS, server=self.server, routes=routes, tls=client_context()
        )
        self.replica = Replica(
            layer="value",
            genesis_hash=GENESIS,
            params=PARAMS,
            tip=self.application.tip(),
            address=self.key.address,
            sign=self.key.sign,
            verify=verify_node,
        )
        self.host = ConsensusHost(
            replica=self.replica,
            application=self.application,
            mesh=self.mesh,
            routes=routes,
            wal_path=self.folder / self.key.address.hex() / "wal",
            verify=verify_node,
            pool=self.pool,
        )
        self.port = await self.server.start("127.0.0.1", self.port)
        self.running = True

    async def join(self, nodes: "list[Node]") -> None:
        self.mesh.set_peers([MeshPeer(node.key.public_key, "127.0.0.1", node.port) for node in nodes])
        await self.host.start()

    async def stop(self) -> None:
        if not self.running:
            return
        self.running = False
        await self.host.stop()
        await self.mesh.close()
        await self.server.close()
        self.pool.shutdown()


Network = Callable[..., Awaitable[list[Node]]]


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    """`await network(count)` starts a layer; whatever still runs at the end of the test is stopped."""
    started: list[Node] = []

    async def start(count: int = 4) -> list[Node]:
        started.extend(await _network(tmp_path, count))
        return started

    yield start
    for node in started:
        await node.stop()


async def _network(tmp_path: Path, count: int) -> list[Node]:
    keys = [NodeKey.from_seed(bytes([index + 1]) * 32) for index in range(count)]
    validators = ValidatorSet(Validator(key.address, key.public_key, 1) for key in keys)
    nodes = [Node(key, validators, tmp_path) for key in keys]
    for node in nodes:
        await node.start()
    for node in nodes:
        await node.join(nodes)
    return nodes


def agree(nodes: list[Node], height: int) -> bool:
    """All nodes have the same block at this height."""
    hashes = {
        node.application.blocks[height].commit.block_hash if height in node.application.blocks else None
        for node in nodes
    }
    return len(hashes) == 1 and None not in hashes


async def test_four_hosts_order_entries_and_agree(network: Network, until: Any) -> None:
    """Entries given to every node are counted once everywhere; the application was prepared where it asked for it."""
    nodes = await network()
    for number in range(10):
        for node in nodes:
            node.application.waiting.append(b"entry %d" % number)
    for node in nodes:
        node.host.work_available()
    await until(lambda: all(node.application.total == 10 for node in nodes))
    reached = nodes[0].application.height + 3
    await until(lambda: all(node.application.height >= reached for node in nodes))
    assert all(agree(nodes, height) for height in range(1, reached + 1))
    assert all(node.application.prepared > 0 for node in nodes)


async def test_a_node_that_was_away_catches_up_and_votes_again(network: Network, until: Any) -> None:
    """It gets the blocks it missed from its peers, and with another one gone its vote is needed and there."""
    nodes = await network()
    await until(lambda: all(node.application.height >= 2 for node in nodes))
    away = nodes[3]
    await away.stop()
    behind = away.application.height
    await until(lambda: nodes[0].application.height >= behind + 5)
    await away.start()
    await away.join(nodes)
    target = nodes[0].application.height
    await until(lambda: away.application.height >= target)
    await nodes[0].stop()
    target = away.application.height + 3
    await until(lambda: all(node.application.height >= target for node in nodes[1:]))
    assert all(agree(nodes[1:], height) for height in range(1, target + 1))


async def test_no_vote_leaves_before_it_is_in_the_synced_log(
    network: Network, tmp_path: Path, until: Any, monkeypatch: Any
) -> None:
    """Whatever the replica of node 0 broadcast is already synced in its log, and no (height, round, kind) twice."""
    synced: dict[Path, int] = {}
    real_sync = WalFile.sync

    def sync(self: WalFile) -> None:
        size = self.path.stat().st_size
        real_sync(self)
        synced[self.path] = size

    monkeypatch.setattr(WalFile, "sync", sync)
    sent: list[Any] = []
    real_notify = PeerMesh.notify

    def notify(self: PeerMesh, message: Any, *, to: bytes | None = None) -> None:
        if to is None and hasattr(message, "kind") and self.address == watched:
            path = tmp_path / watched.hex() / "wal"
            records, _ = read_log(path.read_bytes()[: synced.get(path, 0)].removeprefix(WAL_HEAD))
            assert any(isinstance(record, VoteRecord) and record.vote == message for record in records)
            sent.append((message.height, message.round, message.kind))
        real_notify(self, message, to=to)

    monkeypatch.setattr(PeerMesh, "notify", notify)
    watched = NodeKey.from_seed(b"\1" * 32).address
    await network()
    await until(lambda: len(sent) >= 12)
    assert len(sent) == len(set(sent))


async def test_votes_checked_in_threads_decide_as_well(network: Network, until: Any, monkeypatch: Any) -> None:
    """The batch path of large layers, forced on four nodes."""
    monkeypatch.setattr(host_module, "THREADED_CHECKS_FROM", 1)
    nodes = await network()
    await until(lambda: all(node.application.height >= 5 for node in nodes))
    assert all(agree(nodes, height) for height in range(1, 6))
    assert all(node.host.refused == 0 for node in nodes)


async def test_a_dying_log_stops_the_node(network: Network, until: Any, monkeypatch: Any) -> None:
    """A failed sync is reported, and from then on the node sends nothing it could forget."""
    failures: list[tuple[str, BaseException]] = []
    set_failure_sink(lambda name, error: failures.append((name, error)))

    def full(self: WalFile) -> None:
        raise OSError(28, "No space left on device")

    nodes = await network()
    await until(lambda: nodes[0].application.height >= 1)
    monkeypatch.setattr(WalFile, "sync", full)
    await until(lambda: len(failures) >= 2)
    assert {name for name, _ in failures} == {"write-ahead log"}
    assert sum(node.host._stopped for node in nodes) == len(failures)
    _sinks.clear()


async def test_a_store_that_cannot_be_written_stops_the_node(network: Network, until: Any) -> None:
    """A commit that fails (full disk) is reported once, and nothing is done after it."""
    failures: list[tuple[str, BaseException]] = []
    set_failure_sink(lambda name, error: failures.append((name, error)))
    nodes = await network()
    await until(lambda: nodes[0].application.height >= 1)

    def full(block: Block, commit: Commit) -> ValidatorSet:
        raise OSError(28, "No space left on device")

    nodes[0].application.commit = full  # type: ignore[method-assign]
    await until(lambda: len(failures) == 1)
    assert failures[0][0] == "consensus"
    assert nodes[0].host._stopped
    reached = nodes[1].application.height
    await until(lambda: nodes[1].application.height >= reached + 2)
    assert len(failures) == 1
    _sinks.clear()


async def test_a_halted_core_is_a_failure_of_the_node(network: Network) -> None:
    """Halt is loud."""
    failures: list[tuple[str, BaseException]] = []
    set_failure_sink(lambda name, error: failures.append((name, error)))
    [node] = await network(1)
    node.host._do(Halt("the state is wrong"))
    assert [(name, str(error)) for name, error in failures] == [("consensus", "the state is wrong")]
    _sinks.clear()


@pytest.mark.parametrize("count", [1, 2])
async def test_small_layers_work(network: Network, until: Any, count: int) -> None:
    """One node decides alone, two decide together."""
    nodes = await network(count)
    await until(lambda: all(node.application.height >= 3 for node in nodes))
