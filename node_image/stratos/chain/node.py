"""One validator, put together: store, ledger, mempool, RPC port, mesh, consensus, REST.

Start-up is lean on purpose: open the store, bind two ports, begin. Nothing waits for peers; the consensus core does.
Stopping is the reverse, and never loses what was signed or committed: the log and the store are synced as they go.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from stratos.bft.events import Evidence
from stratos.bft.height import Tip, genesis_tip
from stratos.bft.replica import Replica
from stratos.bft.validator_set import ValidatorSet
from stratos.chain.admission import Admission
from stratos.chain.application import ChainApplication
from stratos.chain.gossip import Gossip
from stratos.chain.members import MEMBERSHIP_MESSAGES, mesh_members
from stratos.chain.mempool import CheckedTx, Mempool
from stratos.chain.metrics import ChainMetrics
from stratos.chain.rest import add_rest
from stratos.chain.service import ChainService
from stratos.chain.store import ChainStore
from stratos.crypto.keyfile import load_node_key, load_wallet_key
from stratos.crypto.keys import node_address, verify_node
from stratos.ledger import bank, queries, register, rulebook, staking
from stratos.ledger.machine import Ledger
from stratos.ledger.signing import sign_tx
from stratos.net.consensus_host import ConsensusHost
from stratos.net.guard import guard
from stratos.net.http import HttpServer, build_app, build_metrics_app
from stratos.net.mesh import PeerMesh
from stratos.net.node_metrics import node_registry
from stratos.net.peers import CLIENTS
from stratos.net.routes import Routes
from stratos.net.rpc import RpcServer
from stratos.net.tls import client_context, server_context
from stratos.state import DurableState
from stratos.wire.block import Block, Commit
from stratos.wire.codec import encode
from stratos.wire.config import NodeConfig, join_endpoint, split_endpoint
from stratos.wire.genesis import Genesis, load_genesis
from stratos.wire.peersrpc import GetPeers, Peer, Peers
from stratos.wire.rpc import CLASS_CLIENT, CLASS_NODE
from stratos.wire.txs import DoubleSignEvidence

LAYER = "value"
MEMPOOL_SWEEP_SECONDS = 30.0
STALLED_AFTER_BLOCKS = 20
"""Unhealthy when this many block times passed without a block."""

_log = structlog.get_logger("stratos.chain")


def open_store(path: Path, ledger: Ledger) -> tuple[DurableState, ChainStore, Tip]:
    """The durable state with its tip; a new one is brought to genesis first. UnknownRules when this program is too old."""
    genesis = ledger.genesis
    state = DurableState.open(path)
    rulebook.require_known(state, state.height + 1, ledger.newest_rules)
    store = ChainStore(state, genesis_hash=ledger.genesis_hash)
    if store.is_new:
        branch = state.fork()
        events = ledger.init_genesis(branch)
        validators = ValidatorSet(staking.voters(branch))
        height = genesis.initial_height - 1
        state.commit(branch, height, store.genesis_records(validators, events, height))
    tip = store.tip() or genesis_tip(
        time_ms=genesis.time_ms,
        initial_height=genesis.initial_height,
        validators=ValidatorSet(staking.voters(state)),
    )
    return state, store, tip


class ValidatorNode:
    """The parts of one validator and their life."""

    def __init__(self, home: Path, config: NodeConfig, genesis: Genesis) -> None:
        self.home = home
        self.config = config
        self.key = load_node_key(home / "node.key")
        self.ledger = Ledger(genesis, newest_rules=rulebook.known_rules(os.environ))
        self.pool = ThreadPoolExecutor(config.limits.signature_threads, thread_name_prefix="signatures")
        self.state, self.store, tip = open_store(home / "data" / "chain", self.ledger)
        self.mempool = Mempool(max_txs=config.limits.mempool_txs, max_bytes=config.limits.mempool_bytes)
        self.application = ChainApplication(
            ledger=self.ledger,
            state=self.state,
            store=self.store,
            tip=tip,
            mempool=self.mempool,
            max_block_bytes=genesis.value_consensus.max_block_bytes,
        )
        self.admission = Admission(
            mempool=self.mempool,
            genesis_hash=self.ledger.genesis_hash,
            pool=self.pool,
            precheck=self._precheck,
            account_sequence=lambda address: bank.sequence(self.state, address),
            on_admitted=self._admitted,
        )
        self.application.admission = self.admission
        self.routes = Routes()
        self.server = RpcServer(
            identity=self.key,
            genesis_hash=self.ledger.genesis_hash,
            tls=server_context(self.key),
            routes=self.routes,
            authorise=self._authorise,
            max_connections=config.limits.max_connections,
            wall_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.mesh = PeerMesh(
            identity=self.key,
            genesis_hash=self.ledger.genesis_hash,
            server=self.server,
            routes=self.routes,
            tls=client_context(),
        )
        self.gossip = Gossip(mesh=self.mesh, mempool=self.mempool)
        self.service = ChainService(
            application=self.application, admission=self.admission, peers_up=lambda: len(self.mesh.up)
        )
        self.service.register(self.routes)
        self.routes.on_request(GetPeers, lambda _peer, _request: self._peers(), allow=CLIENTS)
        self.replica = Replica(
            layer=LAYER,
            genesis_hash=self.ledger.genesis_hash,
            params=genesis.value_consensus,
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
            on_evidence=self._evidence,
        )
        self.mesh.on_peer_up = _both(self.mesh.on_peer_up, self.gossip.peer_up)
        self.metrics = ChainMetrics(
            application=self.application,
            host=self.host,
            mesh=self.mesh,
            admission=self.admission,
            server=self.server,
            is_voting=lambda: self.key.address in self.replica.validators,
            newest_rules=self.ledger.newest_rules,
        )
        self.http: HttpServer | None = None
        self.metrics_http: HttpServer | None = None
        self._known_nodes = {
            bytes.fromhex(entry.public_key) for entry in (*config.peers, *config.meta, *config.validators)
        }
        self._planned: rulebook.Plan | None = None
        self._started = 0.0
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, int]:
        """Bind, connect, begin; the ports."""
        config = self.config
        p2p = await self.server.start(config.listen, config.ports.p2p)
        self._started = asyncio.get_running_loop().time()
        self._update_mesh()
        await self.host.start()
        registry = node_registry(
            network=self.ledger.genesis.network,
            home=self.home,
            health=self.health,
            read=self.metrics.read,
        )
        apart = config.ports.metrics
        app = build_app(status=self.status, health=self.health, registry=None if apart else registry)
        add_rest(app, service=self.service, application=self.application, ledger=self.ledger, admission=self.admission)
        self.http = HttpServer(app)
        http = await self.http.start(config.listen, config.ports.http)
        if apart:
            self.metrics_http = HttpServer(build_metrics_app(registry))
            await self.metrics_http.start(config.listen, apart)
        self._sweeper = guard("mempool sweep", self._sweep())
        _log.info("validator started", address=self.key.text, height=self.application.height, p2p=p2p, http=http)
        return {"p2p": p2p, "http": http}

    async def stop(self) -> None:
        """Stop taking part, answer nobody any more, close the store."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.gossip.close()
        await self.host.stop()
        await self.mesh.close()
        await self.server.close()
        for http in (self.http, self.metrics_http):
            if http is not None:
                await http.close()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.state.close()
        _log.info("validator stopped", height=self.application.height)

    def status(self) -> dict[str, Any]:
        """The document of /status."""
        status = self.service.status()
        return {
            "role": "validator",
            "name": self.config.name,
            "node": self.key.text,
            "network": self.ledger.genesis.network,
            "genesis_hash": self.ledger.genesis_hash.hex(),
            "height": str(status.height),
            "block_hash": status.block_hash.hex(),
            "state_root": status.state_root.hex(),
            "time_ms": str(status.time_ms),
            "round": self.replica.round,
            "validators": len(self.replica.validators),
            "voting": self.key.address in self.replica.validators,
            "peers": status.peers,
            "mempool_txs": status.mempool_txs,
            "mempool_bytes": self.mempool.bytes,
            "rules_version": rulebook.rules(self.state).version,
            "newest_rules": self.ledger.newest_rules,
            "upgrade_plan": queries.planned_upgrade(self.state),
        }

    def health(self) -> str | None:
        """None while blocks come, else the reason."""
        params = self.ledger.genesis.value_consensus
        patience = max(5.0, STALLED_AFTER_BLOCKS * params.block_seconds)
        silent = asyncio.get_running_loop().time() - max(self.host.last_commit_at, self._started)
        if silent > patience:
            return (
                f"no block for {silent:.0f} s with {len(self.mesh.up)} of {len(self.mesh.peers)} peers up; "
                "look at the other validators"
            )
        return None

    def _precheck(self, checked: CheckedTx, waiting: int | None) -> None:
        expected = bank.sequence(self.state, checked.sender) if waiting is None else waiting
        self.ledger.check_tx(self.state, checked.tx, max(expected, checked.sequence))
        if checked.sequence < expected:
            self.ledger.check_tx(self.state, checked.tx, expected)

    def _admitted(self, txs: list[CheckedTx], gossip: bool) -> None:
        if gossip:
            self.gossip.announce(txs)
        self.host.work_available()

    def _authorise(self, peer_class: str, public_key: bytes) -> bool:
        if peer_class == CLASS_CLIENT:
            return True
        if peer_class != CLASS_NODE:
            return False
        address = node_address(public_key)
        return (
            public_key in self._known_nodes
            or self.mesh.is_member(address)
            or register.META.get(self.state, address) is not None
            or register.RESOURCE.get(self.state, address) is not None
        )

    def _peers(self) -> Peers:
        """The voters, where this node dials them; itself where its config says."""
        known = {peer.public_key: join_endpoint(peer.host, peer.port) for peer in self.mesh.endpoints}
        known[self.key.public_key] = self.config.network_address
        voters = staking.voters(self.state)
        return Peers(tuple(Peer(one.public_key, known[one.public_key]) for one in voters if one.public_key in known))

    def _update_mesh(self) -> None:
        own_host, _ = split_endpoint(self.config.network_address)
        self.mesh.set_peers(mesh_members(self.state, self.config.peers, own_host=own_host))

    def _committed(self, block: Block, commit: Commit) -> None:
        self.service.committed(self.application.last_hashes)
        if any(isinstance(checked.tx.body.message, MEMBERSHIP_MESSAGES) for checked in self.application.last_executed):
            self._update_mesh()
        self.metrics.committed(txs=len(block.entries), round_number=commit.round)
        self._look_at_plan()

    def _look_at_plan(self) -> None:
        """Say once, when it is voted, that a change of rules will stop this program."""
        planned = rulebook.plan(self.state)
        if planned != self._planned:
            self._planned = planned
            if planned is not None:
                known = planned.version <= self.ledger.newest_rules
                say = _log.info if known else _log.warning
                say(
                    "rules change is planned" if known else "rules change is planned that this program does not know",
                    rules_version=planned.version,
                    height=planned.height,
                    newest_rules=self.ledger.newest_rules,
                )

    def _evidence(self, proof: Evidence) -> None:
        guard("submit evidence", self._submit_evidence(proof), may_end=True)

    async def _submit_evidence(self, proof: Evidence) -> None:
        wallet = load_wallet_key(self.home / "wallet.key")
        message = DoubleSignEvidence(proof.validator, encode(proof.vote_a), encode(proof.vote_b))
        sequence = self.service.account(wallet.address).next_sequence
        tx = sign_tx(wallet, message, sequence=sequence, genesis_hash=self.ledger.genesis_hash)
        [verdict] = await self.admission.submit([encode(tx)])
        _log.warning("evidence submitted", validator=proof.validator.hex(), code=verdict.code, error=verdict.error)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(MEMPOOL_SWEEP_SECONDS)
            expired = self.mempool.expire(loop.time())
            if expired:
                _log.info("transactions expired", count=len(expired))


def _both(first: Callable[[bytes], None] | None, second: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def call(address: bytes) -> None:
        if first is not None:
            first(address)
        second(address)

    return call


def open_node(home: Path, config: NodeConfig) -> ValidatorNode:
    """The node whose home this is, not started yet."""
    return ValidatorNode(home, config, load_genesis(home / "genesis.json"))
