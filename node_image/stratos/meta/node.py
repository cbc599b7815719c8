"""One meta node, put together: store, machine, RPC port, mesh, consensus, bridge, duties, HTTP.

Start-up waits for nobody: open the store, bind two ports, begin. Consensus, follower and submitter find their peers when
they are there. Stopping is the reverse and loses nothing that was ordered.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from stratos.bft.events import BlockTemplate
from stratos.bft.replica import Replica
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keyfile import load_node_key, load_wallet_key
from stratos.crypto.keys import WalletKey, node_address, verify_node
from stratos.meta.application import META_LAYER, MetaApplication
from stratos.meta.chain_follower import ChainFollower
from stratos.meta.challenger import Challenger
from stratos.meta.duties import Duties
from stratos.meta.entries import entry_hash
from stratos.meta.errors import InvariantBroken
from stratos.meta.faucet import Faucet
from stratos.meta.faucet_book import FaucetJournal
from stratos.meta.faucet_chain import ValidatorDoor
from stratos.meta.faucet_http import add_faucet
from stratos.meta.http_reads import add_http_reads
from stratos.meta.intake import Intake
from stratos.meta.machine import get_clock
from stratos.meta.members import mesh_members
from stratos.meta.metrics import read_metrics
from stratos.meta.outbox import authorities
from stratos.meta.reads import MetaReads
from stratos.meta.rooms import AUTHORITY, CHAIN_HEIGHT, HOLDER
from stratos.meta.service import MetaService
from stratos.meta.store import MetaStore
from stratos.meta.submitter import Submitter
from stratos.net.consensus_host import ConsensusHost
from stratos.net.guard import guard, report_failure
from stratos.net.http import HttpServer, build_app, build_metrics_app
from stratos.net.mesh import PeerMesh
from stratos.net.node_metrics import node_registry
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import client_context, server_context
from stratos.state import DurableState
from stratos.wire.block import Block, Commit
from stratos.wire.config import NodeConfig, split_endpoint
from stratos.wire.genesis import Genesis, genesis_hash, load_genesis
from stratos.wire.rpc import CLASS_CLIENT, CLASS_NODE

STALLED_AFTER_BLOCKS = 20

_log = structlog.get_logger("stratos.meta")


class NodeApplication(MetaApplication):
    """The application with threads: entries of a block never seen here are checked ahead of executing it."""

    intake: Intake | None = None

    def propose(self, template: BlockTemplate) -> Block:
        """A block, or a loud end of this node when its own state contradicts itself."""
        try:
            return super().propose(template)
        except InvariantBroken as error:
            report_failure("meta state", error)
            raise

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        """Make a block final, or end this node loudly when a certified block breaks its state."""
        try:
            return super().commit(block, commit)
        except InvariantBroken as error:
            report_failure("meta state", error)
            raise

    def prepare(self, block: Block) -> Awaitable[None] | None:
        """Check unknown entries in threads."""
        unknown = [raw for raw in block.entries if not self.is_checked(entry_hash(raw))]
        return self.intake.check_ahead(unknown) if unknown and self.intake is not None else None


class MetaNode:
    """The parts of one meta node and their life."""

    def __init__(self, home: Path, config: NodeConfig, genesis: Genesis) -> None:
        self.home = home
        self.config = config
        self.genesis = genesis
        self.genesis_hash = genesis_hash(genesis)
        self.key = load_node_key(home / "node.key")
        self.pool = ThreadPoolExecutor(config.limits.signature_threads, thread_name_prefix="signatures")
        self.state = DurableState.open(home / "data" / "meta")
        self.store = MetaStore(self.state, genesis=genesis, genesis_hash=self.genesis_hash)
        self.application = NodeApplication(
            genesis,
            genesis_hash=self.genesis_hash,
            verify=verify_node,
            state=self.state,
            height=self.state.height,
            persist=self.store.persist,
            read_block=self.store.block,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )
        tip = self.store.tip(self.application.genesis_validators())
        self.store.begin(tip.validators)
        self.routes = Routes()
        tls = client_context()
        self.server = RpcServer(
            identity=self.key,
            genesis_hash=self.genesis_hash,
            tls=server_context(self.key),
            routes=self.routes,
            authorise=self._authorise,
            max_connections=config.limits.max_connections,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.mesh = PeerMesh(
            identity=self.key, genesis_hash=self.genesis_hash, server=self.server, routes=self.routes, tls=tls
        )
        self.intake = Intake(
            application=self.application, mesh=self.mesh, pool=self.pool, work_available=self._work_available
        )
        self.application.intake = self.intake
        self.reads = MetaReads(self.application, self.store)
        MetaService(reads=self.reads, intake=self.intake).register(self.routes)
        self.replica = Replica(
            layer=META_LAYER,
            genesis_hash=self.genesis_hash,
            params=genesis.meta_consensus,
            tip=tip,
            address=self.key.address,
            sign=self.key.sign,
            verify=verify_node,
        )
        self.host = ConsensusHost(
            replica=self.replica,
            application=self.application,
            mesh=self.mesh,
            routes=self.routes,
            wal_path=home / "data" / "wal",
            verify=verify_node,
            pool=self.pool,
            on_committed=self._committed,
        )
        consensus_up = self.mesh.on_peer_up

        def peer_up(address: bytes) -> None:
            if consensus_up is not None:
                consensus_up(address)
            self.intake.peer_up(address)

        self.mesh.on_peer_up = peer_up
        validators = list(config.validators)  # one list: what the follower learns, the submitter uses
        self.follower = ChainFollower(
            application=self.application,
            intake=self.intake,
            key=self.key,
            tls=tls,
            validators=validators,
            own_host=split_endpoint(config.network_address)[0],
        )
        self.duties = Duties(
            application=self.application,
            intake=self.intake,
            key=self.key,
            secrets_path=home / "data" / "beacon.json",
        )
        self.submitter = Submitter(
            application=self.application,
            key=self.key,
            wallet=_wallet(home),
            tls=tls,
            validators=validators,
        )
        self.challenger = Challenger(
            application=self.application,
            intake=self.intake,
            key=self.key,
            tls=tls if config.slice_transport == "tls" else None,
        )
        self.faucet_door: ValidatorDoor | None = None
        self.faucet = self._open_faucet(tls)
        self.http: HttpServer | None = None
        self.metrics_http: HttpServer | None = None
        self.blocks = 0
        """Blocks committed by this process."""
        self.entries = 0
        self.extra_rounds = 0
        """Consensus rounds beyond the first that those blocks needed."""
        self._known = {bytes.fromhex(entry.public_key) for entry in (*config.peers, *config.meta, *config.validators)}
        self._known_authorities: tuple[bytes, ...] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started = 0.0

    async def start(self) -> dict[str, int]:
        """Bind, connect, begin; the ports."""
        config = self.config
        p2p = await self.server.start(config.listen, config.ports.p2p)
        self._started = asyncio.get_running_loop().time()
        self._update_mesh()
        await self.host.start()
        registry = node_registry(
            network=self.genesis.network,
            home=self.home,
            health=self.health,
            read=lambda: read_metrics(self),
        )
        apart = config.ports.metrics
        app = build_app(status=self.status, health=self.health, registry=None if apart else registry)
        add_http_reads(app, application=self.application, reads=self.reads)
        add_faucet(app, self.faucet)
        if self.faucet is not None:
            self.faucet.add_metrics(registry)
        self.http = HttpServer(app)
        http = await self.http.start(config.listen, config.ports.http)
        if apart:
            self.metrics_http = HttpServer(build_metrics_app(registry))
            await self.metrics_http.start(config.listen, apart)
        self._tasks = [
            guard("chain follower", self.follower.run()),
            guard("submitter", self.submitter.run()),
            guard("possession challenges", self.challenger.run()),
        ]
        _log.info("meta node started", address=self.key.text, height=self.application.height, p2p=p2p, http=http)
        return {"p2p": p2p, "http": http}

    async def stop(self) -> None:
        """Stop taking part, answer nobody any more, close the store."""
        for task in self._tasks:
            task.cancel()
        self.challenger.close()
        if self.faucet_door is not None:
            await self.faucet_door.close()
        await self.host.stop()
        await self.mesh.close()
        await self.server.close()
        for http in (self.http, self.metrics_http):
            if http is not None:
                await http.close()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.state.close()
        _log.info("meta node stopped", height=self.application.height)

    def status(self) -> dict[str, Any]:
        """The document of /status."""
        clock = get_clock(self.state)
        holders: dict[str, int] = {}
        for _, holder in HOLDER.items(self.state):
            holders[holder.status] = holders.get(holder.status, 0) + 1
        return {
            "role": "meta",
            "name": self.config.name,
            "node": self.key.text,
            "network": self.genesis.network,
            "genesis_hash": self.genesis_hash.hex(),
            "height": str(self.application.height),
            "state_root": self.state.root.hex(),
            "time_ms": str(clock.time_ms),
            "epoch": str(clock.epoch),
            "round": self.replica.round,
            "authorities": len(authorities(self.state)),
            "voting": self.key.address in self.replica.validators,
            "peers": len(self.mesh.up),
            "pool_entries": len(self.application.pool),
            "chain_height": str(CHAIN_HEIGHT.get(self.state)),
            "chain_height_seen": str(self.follower.seen_height),
            "holders": holders,
        }

    def health(self) -> str | None:
        """None while blocks come, else the reason."""
        patience = max(5.0, STALLED_AFTER_BLOCKS * self.genesis.meta_consensus.block_seconds)
        silent = asyncio.get_running_loop().time() - max(self.host.last_commit_at, self._started)
        if silent > patience:
            return (
                f"no block for {silent:.0f} s with {len(self.mesh.up)} of {len(self.mesh.peers)} peers up; "
                "look at the other meta nodes"
            )
        return None

    def _open_faucet(self, tls: ssl.SSLContext) -> Faucet | None:
        """The faucet, on the one node whose config has it; its wallet is a file that no other node is given."""
        settings = self.config.faucet
        if settings is None:
            return None
        self.faucet_door = ValidatorDoor(
            key=self.key, genesis_hash=self.genesis_hash, tls=tls, validators=self.config.validators
        )
        return Faucet(
            settings=settings,
            wallet=load_wallet_key(self.home / "faucet.key"),
            genesis_hash=self.genesis_hash,
            fee_wei=int(self.genesis.ledger.gas_price_wei),
            window_ms=1000 * self.genesis.meta.request_window_seconds,
            journal=FaucetJournal(self.home / "data" / "faucet.jsonl"),
            chain=self.faucet_door,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )

    def _work_available(self) -> None:
        if self.application.has_work():
            self.host.work_available()

    def _committed(self, block: Block, commit: Commit) -> None:
        self.blocks += 1
        self.entries += len(block.entries)
        self.extra_rounds += commit.round
        self._update_mesh()
        self.duties.committed()
        self.submitter.committed()

    def _update_mesh(self) -> None:
        """Members are the configured peers and whoever the log knows, looked at again when that changes."""
        known = tuple(data for _, data in self.state.items(AUTHORITY.prefix))
        if known != self._known_authorities:
            self._known_authorities = known
            own_host, _ = split_endpoint(self.config.network_address)
            self.mesh.set_peers(mesh_members(self.state, self.config.peers, own_host=own_host))

    def _authorise(self, peer_class: str, public_key: bytes) -> bool:
        if peer_class == CLASS_CLIENT:
            return True
        if peer_class != CLASS_NODE:
            return False
        address = node_address(public_key)
        return (
            public_key in self._known
            or self.mesh.is_member(address)
            or HOLDER.get(self.state, address) is not None
            or AUTHORITY.get(self.state, address) is not None
        )


def _wallet(home: Path) -> WalletKey:
    return load_wallet_key(home / "wallet.key")


def open_node(home: Path, config: NodeConfig) -> MetaNode:
    """The node whose home this is, not started yet."""
    return MetaNode(home, config, load_genesis(home / "genesis.json"))
