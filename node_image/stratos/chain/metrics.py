"""Numbers of one validator for Prometheus: counters moved by events, gauges read when somebody scrapes."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from stratos.chain.admission import Admission
from stratos.chain.application import ChainApplication
from stratos.net.consensus_host import ConsensusHost
from stratos.net.mesh import PeerMesh
from stratos.net.rpc import RpcServer


class ChainMetrics:
    """The registry behind /metrics."""

    def __init__(
        self,
        *,
        application: ChainApplication,
        host: ConsensusHost,
        mesh: PeerMesh,
        admission: Admission,
        server: RpcServer,
    ) -> None:
        self.registry = CollectorRegistry()
        self._blocks = Counter("stratos_chain_blocks", "Blocks committed by this process", registry=self.registry)
        self._txs = Counter("stratos_chain_transactions", "Transactions committed", registry=self.registry)
        for name, about, value in (
            ("height", "Height of the newest block", lambda: application.height),
            ("round", "Consensus round of the next height", lambda: host.replica.round),
            ("peers", "Validators connected", lambda: len(mesh.up)),
            ("mempool_transactions", "Transactions waiting", lambda: len(application.mempool)),
            ("mempool_bytes", "Bytes of transactions waiting", lambda: application.mempool.bytes),
            ("signatures_pending", "Transactions waiting for their signature check", lambda: admission.pending),
            ("state_keys", "Keys in the committed state", lambda: len(application.state)),
            ("refused_messages", "Consensus messages that broke a rule", lambda: host.refused),
            ("connections", "Open RPC connections", lambda: server.connections),
        ):
            Gauge(f"stratos_chain_{name}", about, registry=self.registry).set_function(value)

    def committed(self, txs: int) -> None:
        """A block was committed."""
        self._blocks.inc()
        self._txs.inc(txs)
