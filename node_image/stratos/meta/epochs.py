"""Epochs and their volume reports (protocol 3, 5): which receipts are settled when, and exactly once.

Epoch e ends in the first meta block whose time is at least genesis + e * epoch_seconds. Then, unless a report still
waits for the chain, the nodes whose turn it is (`select_settlement`) are taken into the report of e with everything they
have unsettled and the receipts behind it; the Merkle root over those receipts goes into the report. At most one report
is in flight: the next one is made only after the log holds the chain's word about it, and a refused report's rows
return to where they were. So no receipt is ever paid twice.
"""

from collections.abc import Iterator

from msgspec import structs

from stratos.crypto.merkle import merkle_root
from stratos.ledger.settlement import select_settlement
from stratos.meta import beacon, outbox, ozone
from stratos.meta.context import BlockContext, milliseconds
from stratos.meta.rooms import (
    EARNER,
    HOLDER,
    IN_FLIGHT,
    LAST_REPORT,
    RECEIPT,
    REPORT,
    Earner,
    EpochReport,
    ReportedNode,
    u64,
)
from stratos.state import Branch, Reader
from stratos.wire import limits
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis
from stratos.wire.metarpc import NodeLeaf, SettledReceipt
from stratos.wire.txs import ReportRow, VolumeReport


def epoch_at(genesis: Genesis, time_ms: int) -> int:
    """The epoch a block of this time belongs to (the first one is 1)."""
    return max(0, time_ms - genesis.time_ms) // milliseconds(genesis.meta.epoch_seconds) + 1


def close_epoch(branch: Branch, context: BlockContext, epoch: int) -> None:
    """Make the report of the epoch that has just ended, when there is something to report and nothing in flight."""
    if IN_FLIGHT.get(branch):
        return
    volumes = [(address, earner.unsettled_noz) for address, earner in EARNER.items(branch)]
    settled = select_settlement(volumes, context.genesis.ledger.sds.settlement)[: limits.MAX_SETTLED_ROWS]
    if not settled:
        return
    rows = []
    for address, noz in settled:
        earner = EARNER.get(branch, address) or ozone.NEW_EARNER
        receipts = receipt_bytes(branch, address, earner.first_seq, earner.next_seq)
        holder = HOLDER.get(branch, address)
        wallet = holder.beneficiary if holder is not None else address
        rows.append(ReportedNode(address, wallet, noz, earner.first_seq, earner.next_seq, merkle_root(receipts)))
        EARNER.set(branch, address, Earner(0, earner.next_seq, earner.next_seq))
    root = merkle_root(leaf_bytes(tuple(rows)))
    withheld = beacon.withheld(branch, epoch)
    message = VolumeReport(
        epoch,
        tuple(ReportRow(row.wallet, row.node, str(row.volume_noz)) for row in rows),
        root,
        withheld,
        (),
    )
    action_id = outbox.decide(branch, context, message, node=b"")
    total = sum(row.volume_noz for row in rows)
    REPORT.set(
        branch,
        u64(epoch),
        EpochReport(epoch, tuple(rows), root, withheld, total, action_id, "", context.time_ms, 0),
    )
    IN_FLIGHT.set(branch, b"", epoch)


def report_included(branch: Branch, context: BlockContext, epoch: int) -> None:
    """The chain has paid a report: its volume is reported for good."""
    report = _in_flight(branch, epoch)
    if report is None:
        return
    ozone.report(branch, report.total_noz)
    LAST_REPORT.set(branch, b"", epoch)
    _resolve(branch, context, report, outbox.INCLUDED)


def report_refused(branch: Branch, context: BlockContext, epoch: int, code: str) -> None:
    """The chain has refused a report: its rows return to unsettled."""
    report = _in_flight(branch, epoch)
    if report is None:
        return
    for row in report.rows:
        earner = EARNER.get(branch, row.node) or ozone.NEW_EARNER
        EARNER.set(
            branch,
            row.node,
            Earner(earner.unsettled_noz + row.volume_noz, row.first_seq, max(earner.next_seq, row.end_seq)),
        )
    _resolve(branch, context, report, code)


def _resolve(branch: Branch, context: BlockContext, report: EpochReport, outcome: str) -> None:
    REPORT.set(branch, u64(report.epoch), structs.replace(report, outcome=outcome[:64], resolved_ms=context.time_ms))
    IN_FLIGHT.set(branch, b"", 0)
    outbox.resolve(branch, context, report.action_id, outcome)


def _in_flight(reader: Reader, epoch: int) -> EpochReport | None:
    return REPORT.get(reader, u64(epoch)) if IN_FLIGHT.get(reader) == epoch else None


def receipt_bytes(reader: Reader, node: bytes, first_seq: int, end_seq: int) -> list[bytes]:
    """Canonical receipts [first_seq, end_seq) of a node, the leaves of its tree."""
    return [encode(receipt) for receipt in receipts_between(reader, node, first_seq, end_seq)]


def receipts_between(reader: Reader, node: bytes, first_seq: int, end_seq: int) -> Iterator[SettledReceipt]:
    """Archived receipts of a node by sequence."""
    for sequence in range(first_seq, end_seq):
        receipt = RECEIPT.get(reader, node + u64(sequence))
        if receipt is not None:
            yield receipt


def leaf_bytes(rows: tuple[ReportedNode, ...]) -> list[bytes]:
    """The leaves of a report's receipts tree, in row order."""
    return [encode(NodeLeaf(row.node, row.volume_noz, row.receipts_root)) for row in rows]
