"""One resource node, put together: slice store, books, bulk port, reporter, repair worker, HTTP.

The event loop does next to nothing here (HTTP and the stop event): slices move on blocking sockets in threads, and so do
the node's own requests to the meta layer. Each duty is a daemon thread whose death is reported to the guard, so it is as
loud as that of any task. Stopping: no new transfers, those under way are finished within `DRAIN_SECONDS`, later ones break
off, what was served is handed in, the journal is synced.

Maintenance is a file in the home, `maintenance`: while it is there the node says so in its status, gets no tasks, and may be
silent for a while without its copies being made again. It goes on serving what it has. A file survives the restarts that
maintenance is for, and every runtime can make and remove one.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from stratos.crypto.keyfile import load_node_key, load_wallet_key
from stratos.net.guard import guard, report_failure
from stratos.net.http import HttpServer, build_app, json_response
from stratos.net.node_metrics import node_registry
from stratos.net.tls import server_context
from stratos.resource.books import Books
from stratos.resource.entry_points import keep_entry_points
from stratos.resource.link import LinkPool
from stratos.resource.metalink import MetaEndpoint, MetaLink
from stratos.resource.metrics import read_metrics
from stratos.resource.registration import register
from stratos.resource.repair import RepairWorker
from stratos.resource.reporter import Reporter
from stratos.resource.server import BulkServer
from stratos.resource.services import Buffers, Counters, Placements, Services
from stratos.resource.store import SliceStore
from stratos.resource.tokens import AuthorityTrust, TokenVerifier
from stratos.wire.config import ConfigError, NodeConfig, split_endpoint
from stratos.wire.genesis import Genesis, genesis_hash, load_genesis

SPARES = 2
SPARES_LOOK_SECONDS = 1.0
DRAIN_SECONDS = 4.0
"""How long transfers under way may go on after the order to stop; supervisors kill after twice as long."""
MAINTENANCE_FILE = "maintenance"

_log = structlog.get_logger("stratos.resource")


def wall_ms() -> int:
    """The wall clock, milliseconds."""
    return time.time_ns() // 1_000_000


class ResourceNode:
    """The parts of one holder and their life."""

    def __init__(self, home: Path, config: NodeConfig, genesis: Genesis) -> None:
        if not config.meta:
            raise ConfigError(
                f"config.json of {config.name} names no meta nodes; a resource node works for the meta layer"
            )
        self.home = home
        self.config = config
        self.genesis = genesis
        self.genesis_hash = genesis_hash(genesis)
        self.key = load_node_key(home / "node.key")
        data = home / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.store = SliceStore(data / "slices", limit_bytes=config.limits.disk_bytes, on_corrupt=self._damaged)
        self.books = Books(data / "receipts.journal", key=self.key, genesis_hash=self.genesis_hash, epoch=self.epoch)
        self.meta = MetaLink(
            [MetaEndpoint(peer.name, peer.endpoint, bytes.fromhex(peer.public_key)) for peer in config.meta],
            identity=self.key,
            genesis_hash=self.genesis_hash,
        )
        self.trust = trust = AuthorityTrust(genesis, self.genesis_hash, self.meta.set_changes)
        max_age_ms = round(genesis.meta.epoch_seconds * 1000)
        verifier = TokenVerifier(trust, now_ms=wall_ms, max_age_ms=max_age_ms)
        self.services = Services(
            key=self.key,
            genesis_hash=self.genesis_hash,
            store=self.store,
            books=self.books,
            verifier=verifier,
            placements=Placements(verifier),
            links=LinkPool(
                identity=self.key,
                genesis_hash=self.genesis_hash,
                transport=config.slice_transport,
                now=time.monotonic,
            ),
            buffers=Buffers(),
            counters=Counters(),
            epoch=self.epoch,
            now_ms=wall_ms,
        )
        self.server = BulkServer(
            self.services,
            tls=server_context(self.key) if config.slice_transport == "tls" else None,
            max_connections=config.limits.max_connections,
            on_failure=self._port_lost,
        )
        self.stopping = threading.Event()
        self.reporter = Reporter(
            meta=self.meta,
            key=self.key,
            books=self.books,
            store=self.store,
            params=genesis.meta,
            network_address=self.network_address,
            stop=self.stopping,
            maintenance=self.maintenance,
        )
        self.repair = RepairWorker(
            services=self.services, meta=self.meta, key=self.key, stop=self.stopping, dropped=self.reporter.dropped
        )
        self.http: HttpServer | None = None
        self.started = 0.0
        """Monotonic time of `start`."""
        self._loop: asyncio.AbstractEventLoop
        self._duties: list[threading.Thread] = []

    def epoch(self) -> int:
        """The meta layer's epoch, by its rule (protocol 3) and our clock."""
        passed_ms = max(0, wall_ms() - self.genesis.time_ms)
        return passed_ms // round(self.genesis.meta.epoch_seconds * 1000) + 1

    def network_address(self) -> str:
        """host:port where others reach the bulk port."""
        host, _ = split_endpoint(self.config.network_address)
        return f"[{host}]:{self.server.port}" if ":" in host else f"{host}:{self.server.port}"

    def maintenance(self) -> bool:
        """Whether the operator has put this node into maintenance."""
        return (self.home / MAINTENANCE_FILE).exists()

    async def start(self) -> dict[str, Any]:
        """Bind, begin, and return the ports."""
        config = self.config
        self._loop = asyncio.get_running_loop()
        self.server.start(config.listen, config.ports.bulk)
        self.started = time.monotonic()
        registry = node_registry(
            network=self.genesis.network,
            home=self.home,
            health=self.health,
            read=lambda: read_metrics(self),
        )
        app = build_app(status=self.status, health=self.health, registry=registry)
        app.router.add_get("/receipts", self._receipts)
        self.http = HttpServer(app)
        http_port = await self.http.start(config.listen, config.ports.http)
        self._duty("reporter", self.reporter.run)
        self._duty("repair", self.repair.run)
        self._duty("spares", self._keep_spares)
        self._duty("entry points", self._keep_entry_points)
        if int(config.deposit_wei) > 0:
            self._duty("registration", self._register)
        _log.info(
            "serving", bulk=self.server.port, http=http_port, slices=len(self.store), transport=config.slice_transport
        )
        return {"bulk": self.server.port, "p2p": self.server.port, "http": http_port}

    async def stop(self) -> None:
        """Finish what is under way, stop serving, hand in what was earned, sync the books."""
        if not await asyncio.to_thread(self.server.drain, DRAIN_SECONDS):
            _log.warning("transfers broken off", connections=self.server.connections, after_seconds=DRAIN_SECONDS)
        self.stopping.set()
        if self.http is not None:
            await self.http.close()
        await asyncio.to_thread(self._stop_threads)

    def status(self) -> dict[str, Any]:
        """For /status."""
        counters = self.services.counters
        return {
            "name": self.config.name,
            "role": "resource",
            "address": self.key.text,
            "slices": len(self.store),
            "disk_used": self.store.used_bytes,
            "disk_free": self.store.free_bytes,
            "connections": self.server.connections,
            "received_bytes": counters.received_bytes,
            "served_bytes": counters.served_bytes,
            "forwarded_bytes": counters.forwarded_bytes,
            "repaired_bytes": counters.repaired_bytes,
            "unsubmitted_noz": self.books.unsubmitted_noz(),
            "epoch": self.epoch(),
            "meta_height": self.meta.seen_height,
            "maintenance": self.maintenance(),
            "reporting": self.reporter.last_status > 0 and not self.reporter.refusal,
            "status_refused": self.reporter.refusal,
        }

    def health(self) -> str | None:
        """None when healthy."""
        if self.reporter.refusal:
            return f"the meta layer refuses this node's status: {self.reporter.refusal}"
        since = time.monotonic() - self.reporter.last_status
        if self.reporter.last_status and since > 2 * self.genesis.meta.status_seconds + 10:
            return f"no meta node has taken a status for {since:.0f} s"
        return None

    async def _receipts(self, request: web.Request) -> web.Response:
        """This node's own ledger, for the audit: loopback only, it names every payer's session."""
        if request.remote not in ("127.0.0.1", "::1"):
            raise web.HTTPForbidden
        lines = await asyncio.to_thread(self.books.lines)
        return json_response({"node": self.key.address.hex(), "lines": msgspec.to_builtins(lines)})

    def _port_lost(self, error: BaseException) -> None:
        """The bulk port takes no connection any more: as loud as any duty that has died."""
        self._loop.call_soon_threadsafe(report_failure, "bulk port", error)

    def _damaged(self, digest: bytes, sentence: str) -> None:
        self.reporter.damaged(digest, sentence)

    def _register(self) -> None:
        register(
            key=self.key,
            wallet=load_wallet_key(self.home / "wallet.key"),
            config=self.config,
            network_address=self.network_address(),
            genesis_hash=self.genesis_hash,
            meta=self.meta,
            stop=self.stopping,
        )

    def _keep_entry_points(self) -> None:
        own_host, _ = split_endpoint(self.config.network_address)
        keep_entry_points(self.meta, self.trust, own_host=own_host, stop=self.stopping)

    def _keep_spares(self) -> None:
        """Where large slices come in, write spare files for the next ones while nothing else is going on."""
        before = -1
        while not self.stopping.wait(SPARES_LOOK_SECONDS):
            counters = self.services.counters
            moved = counters.received_bytes + counters.served_bytes + counters.forwarded_bytes
            idle, before = moved == before, moved
            if idle and self.store.took_large and self.store.spares < SPARES:
                self.store.add_spare()

    def _duty(self, name: str, body: Callable[[], None]) -> None:
        """A daemon thread whose failure is a guarded task's failure."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not ended.done():
                if error is None:
                    ended.set_result(None)
                else:
                    ended.set_exception(error)

        def run() -> None:
            failure: BaseException | None = None
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - a dead duty must stop the node, whatever killed it
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, failure)

        async def watch() -> None:
            await ended

        guard(name, watch(), may_end=True)
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._duties.append(thread)
        thread.start()

    def _stop_threads(self) -> None:
        self.server.close()
        for thread in self._duties:
            if thread.name not in ("repair", "entry points"):  # they may sit in a poll, and hold nothing to be saved
                thread.join(timeout=5.0)
        self.services.links.close()
        self.meta.close()
        self.books.close()
        self.store.close()


def open_node(home: Path, config: NodeConfig) -> ResourceNode:
    """The node whose home this is, not started yet."""
    return ResourceNode(home, config, load_genesis(home / "genesis.json"))
