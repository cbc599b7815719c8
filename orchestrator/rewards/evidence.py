"""The audit of a running testnet: three ledgers read from where they lie, then judged by `orchestrator.audit`.

What cannot be read is told as a reason, not skipped: an unreachable node that has a row in a report makes the audit an
error. Nodes that are not ours are in the chain's reports like any other, and without their receipts nothing can be
said about them either.
"""

from collections.abc import Callable
from pathlib import Path

from orchestrator.audit.book import UnreadableHistoryError
from orchestrator.audit.evidence import ERROR, AuditReport, Finding, SettledEpoch
from orchestrator.audit.history import Oracle
from orchestrator.audit.verdict import judge
from orchestrator.chain_api import ChainApi
from orchestrator.errors import EnvironmentFault, StratosctlError
from orchestrator.rewards.chain import ChainLedger
from orchestrator.rewards.receipts import NodeLine, load_ledger, node_lines, nodes_ledger, reported_rows
from stratos.client.errors import ClientError
from stratos.client.observer import Observer
from stratos.client.records import ResourceEndpoint
from stratos.client.testnet import Testnet
from stratos.crypto.keys import node_address

ReadLines = Callable[[ResourceEndpoint], list[NodeLine]]
"""How a node's own ledger is read; raises EnvironmentFault when it cannot be."""


def audit_testnet(
    testnet: Testnet,
    *,
    read_lines: ReadLines = node_lines,
    ledger_folder: Path | None = None,
    observer: Observer | None = None,
    chain: ChainLedger | None = None,
) -> AuditReport:
    """Recompute every epoch's payout of a running testnet; never raises for missing evidence.

    `chain` is history read before, for a verdict about that moment; without it the newest is read.
    """
    own = observer or Observer(testnet.genesis, testnet.endpoints)
    try:
        chain = chain or ChainLedger(testnet.genesis, own, ChainApi(testnet.endpoints))
        return _audit(testnet, own, chain, read_lines, ledger_folder or testnet.ledger_dir)
    except (StratosctlError, ClientError, UnreadableHistoryError) as error:
        return AuditReport(ERROR, 0, reason=str(error))
    finally:
        if observer is None:
            own.close()


def _audit(
    testnet: Testnet, observer: Observer, chain: ChainLedger, read_lines: ReadLines, ledger_folder: Path
) -> AuditReport:
    epochs, findings = settled_epochs(chain, observer)
    lines = _node_lines(testnet, read_lines, needed={row.node for epoch in epochs.values() for row in epoch.rows})
    nodes, defects = nodes_ledger(lines, keys=chain.keys, genesis_hash=observer.genesis_hash, name=chain.name)
    return judge(
        Oracle(testnet.genesis, name=chain.name),
        chain.history(epochs),
        load=load_ledger(ledger_folder),
        nodes=nodes,
        name=chain.name,
        extra=(*findings, *defects),
    )


def settled_epochs(chain: ChainLedger, observer: Observer) -> tuple[dict[int, SettledEpoch], list[Finding]]:
    """Every report with the receipts proven to be behind its rows, and where they are not."""
    epochs: dict[int, SettledEpoch] = {}
    findings: list[Finding] = []
    for epoch, report in sorted(chain.reports.items()):
        rows, leaves, defects = reported_rows(
            observer, epoch, report.message.rows, receipts_root=report.message.receipts_root, name=chain.name
        )
        findings += defects
        epochs[epoch] = chain.settled(epoch, rows=rows, leaves=leaves)
    return epochs, findings


def _node_lines(testnet: Testnet, read_lines: ReadLines, *, needed: set[bytes]) -> dict[bytes, list[NodeLine]]:
    lines: dict[bytes, list[NodeLine]] = {}
    for endpoint in testnet.endpoints.resource:
        address = node_address(bytes.fromhex(endpoint.public_key))
        try:
            lines[address] = read_lines(endpoint)
        except EnvironmentFault:
            if address in needed:
                raise
    return lines
