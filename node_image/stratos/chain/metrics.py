"""Numbers of one validator for Prometheus: events move the counters, gauges are read when somebody scrapes."""

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric

from stratos.chain.admission import Admission
from stratos.chain.application import ChainApplication
from stratos.ledger import bank, pot, queries, rulebook, sds
from stratos.net.consensus_host import ConsensusHost
from stratos.net.mesh import PeerMesh
from stratos.net.node_metrics import counters, gauges
from stratos.net.rpc import RpcServer

PREFIX = "stratos_chain"


class ChainMetrics:
    """Counts what is committed; `read` is what a scrape is answered with."""

    def __init__(
        self,
        *,
        application: ChainApplication,
        host: ConsensusHost,
        mesh: PeerMesh,
        admission: Admission,
        server: RpcServer,
        is_voting: Callable[[], bool],
        newest_rules: int,
    ) -> None:
        self._application = application
        self._host = host
        self._mesh = mesh
        self._admission = admission
        self._server = server
        self._is_voting = is_voting
        self._newest_rules = newest_rules
        self._blocks = 0
        self._txs = 0
        self._extra_rounds = 0

    def committed(self, *, txs: int, round_number: int) -> None:
        """A block was committed in this round of its height."""
        self._blocks += 1
        self._txs += txs
        self._extra_rounds += round_number

    def read(self) -> Iterator[Metric]:
        """All numbers now."""
        application, replica, state = self._application, self._host.replica, self._application.state
        planned = rulebook.plan(state)
        yield from counters(
            PREFIX,
            (
                ("blocks", "Blocks committed by this process", self._blocks),
                ("transactions", "Transactions committed by this process", self._txs),
                ("extra_rounds", "Consensus rounds beyond the first that blocks needed", self._extra_rounds),
                ("refused_messages", "Consensus messages that broke a rule", self._host.refused),
            ),
        )
        yield from gauges(
            PREFIX,
            (
                ("height", "Height of the newest block", application.height),
                ("block_time_seconds", "Unix time written in the newest block", application.time_ms / 1000),
                ("round", "Consensus round of the next height", replica.round),
                ("validators", "Validators that vote on the next height", len(replica.validators)),
                ("voting", "1 when this validator is one of them, else 0", self._is_voting()),
                ("peers", "Validators connected", len(self._mesh.up)),
                ("peers_configured", "Validators that should be connected", len(self._mesh.peers)),
                ("mempool_transactions", "Transactions waiting", len(application.mempool)),
                ("mempool_bytes", "Bytes of transactions waiting", application.mempool.bytes),
                ("signatures_pending", "Transactions waiting for their signature check", self._admission.pending),
                ("state_keys", "Keys in the committed state", len(state)),
                ("connections_open", "Open RPC connections", self._server.connections),
                ("report_epoch", "Epoch of the newest volume report on the chain", queries.last_epoch(state)),
                ("ozone_outstanding_noz", "Ozone bought and not settled yet", sds.OUTSTANDING.get(state)),
                ("ozone_remaining_noz", "Ozone that can still be bought", sds.REMAINING_LIMIT.get(state)),
                ("supply_wei", "Tokens in existence, reward pools included", bank.supply(state)),
                (
                    "total_reward_pool_wei",
                    "Tokens in the pool traffic rewards are paid from",
                    bank.balance(state, bank.TOTAL_REWARD),
                ),
                ("mined_wei", "Mining reward paid since genesis", pot.MINED.get(state)),
                ("rules_version", "Version of the ledger's rules that holds", rulebook.rules(state).version),
                ("rules_known", "Newest version of the ledger's rules that this program applies", self._newest_rules),
                (
                    "rules_planned",
                    "Version that was voted and has not begun, 0 without one",
                    planned.version if planned else 0,
                ),
                ("rules_planned_height", "Height at which it begins, 0 without one", planned.height if planned else 0),
            ),
        )
