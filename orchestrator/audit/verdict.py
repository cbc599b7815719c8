"""From evidence to a verdict: `agree`, `disagree` with findings, or `error` with the reason.

Pure. The rule of the house is that a verdict is never stronger than its evidence: no report on the chain, a report
without rows, a ledger with no line in it or a node of a report whose journal was not read is an error, because
silence proves nothing.
"""

from collections.abc import Callable, Sequence

from orchestrator.audit.evidence import (
    AGREE,
    DISAGREE,
    ERROR,
    AuditReport,
    Finding,
    ReceiptLedger,
    SettledEpoch,
)
from orchestrator.audit.history import Oracle, Reported, Step
from orchestrator.audit.matching import match_receipts, pending


def judge(
    oracle: Oracle,
    history: Sequence[Step],
    *,
    load: ReceiptLedger,
    nodes: ReceiptLedger,
    name: Callable[[bytes], str],
    extra: Sequence[Finding] = (),
) -> AuditReport:
    """The verdict about a run; `extra` are findings made while reading (a ledger line with a wrong signature)."""
    epochs = [step.epoch for step in history if isinstance(step, Reported)]
    reason = missing_evidence(epochs, load=load, nodes=nodes, name=name)
    if reason:
        return AuditReport(ERROR, 0, reason=reason)
    findings = [*extra, *match_receipts(epochs, load=load, nodes=nodes, name=name), *oracle.walk(history)]
    return AuditReport(
        DISAGREE if findings else AGREE,
        len(epochs),
        tuple(findings),
        receipts_checked=sum(len(row.receipts) for epoch in epochs for row in epoch.rows),
        volume_noz=sum(row.volume_noz for epoch in epochs for row in epoch.rows),
        pending_noz=pending(epochs, nodes),
    )


def missing_evidence(
    epochs: Sequence[SettledEpoch], *, load: ReceiptLedger, nodes: ReceiptLedger, name: Callable[[bytes], str]
) -> str:
    """Why nothing can be said, or "" when there is enough to judge."""
    if not epochs:
        return "no epoch has been settled on the chain yet; send traffic, wait for a report and audit again"
    if not load.claims:
        return "the load generator's ledger holds no receipt; point --load-ledger at the folder its clients wrote to"
    if not nodes.claims:
        return "no resource node's journal holds a receipt; start the nodes (or point --journals at their exports)"
    unread = sorted({name(row.node) for epoch in epochs for row in epoch.rows if row.node not in nodes.read})
    if unread:
        return f"the receipts of {', '.join(unread)} could not be read; start the node or export its journal"
    return ""
