"""The books, added up again from the records: what tests and the simulator hold the running totals against.

`ozone.check_conserved` compares totals with each other; this walks every balance, session, allotment, upload, earner and
receipt instead, and shares no arithmetic with the handlers. It is linear in the state, so nodes never run it.
"""

from stratos.meta import ozone
from stratos.meta.rooms import (
    ALLOTMENT,
    BALANCE,
    EARNER,
    IN_FLIGHT,
    LOCKED,
    RECEIPT,
    REPORT,
    RESERVED,
    SESSION,
    SLICE,
    UPLOAD,
    held_room,
    u64,
)
from stratos.state import Reader


def recount(reader: Reader) -> dict[bytes, int]:
    """Every total of the ozone sheet, from the records. Balances and the repair reserve have no parts beside themselves."""
    reserved = sum(session.pool_noz for _, session in SESSION.items(reader))
    reserved += sum(a.allotted_noz - a.charged_noz for _, a in ALLOTMENT.items(reader))
    reserved += sum(upload.reserved_noz for _, upload in UPLOAD.items(reader))
    reserved += sum(noz for _, (_, noz) in LOCKED.items(reader))
    unsettled = sum(earner.unsettled_noz for _, earner in EARNER.items(reader))
    flying = REPORT.get(reader, u64(IN_FLIGHT.get(reader)))
    if flying is not None and not flying.outcome:
        unsettled += sum(row.volume_noz for row in flying.rows)
    return {
        ozone.BALANCES: sum(noz for _, noz in BALANCE.items(reader)),
        ozone.RESERVES: reserved,
        ozone.UNSETTLED: unsettled,
        ozone.REPORTED: sum(
            sum(row.volume_noz for row in report.rows)
            for _, report in REPORT.items(reader)
            if report.outcome == "included"
        ),
    }


def check_books(reader: Reader) -> None:
    """AssertionError with the figures when records and totals disagree, or a receipt was paid twice."""
    totals = ozone.sheet(reader)
    for name, found in recount(reader).items():
        assert totals[name] == found, f"{name.decode()}: records add up to {found}, the total says {totals[name]}"
    assert totals[ozone.SOLD] == sum(totals[name] for name in ozone.PLACES)
    assert totals[ozone.RESERVES] == sum(noz for _, noz in RESERVED.items(reader)), "reserved per wallet"
    check_receipts(reader)
    check_index(reader)


def check_receipts(reader: Reader) -> None:
    """What every archived receipt added is within its total, and no receipt is in two paid reports."""
    added: dict[tuple[int, bytes, bytes], int] = {}
    highest: dict[tuple[int, bytes, bytes], int] = {}
    per_node: dict[bytes, int] = {}
    for key, settled in RECEIPT.items(reader):
        body = settled.receipt.body
        task = (body.kind, body.task, body.earner)
        assert body.total_noz > highest.get(task, 0), f"receipt {key.hex()} does not grow its total"
        highest[task] = body.total_noz
        added[task] = added.get(task, 0) + settled.delta_noz
        assert added[task] <= body.total_noz, f"task {body.task.hex()} was paid {added[task]} of {body.total_noz}"
        per_node[body.earner] = per_node.get(body.earner, 0) + settled.delta_noz
    paid: set[tuple[bytes, int]] = set()
    settled_noz: dict[bytes, int] = {}
    for _, report in REPORT.items(reader):
        if report.outcome not in ("", "included"):
            continue
        for row in report.rows:
            volume = 0
            for sequence in range(row.first_seq, row.end_seq):
                assert (row.node, sequence) not in paid, f"receipt {sequence} of {row.node.hex()} is in two reports"
                paid.add((row.node, sequence))
                receipt = RECEIPT.get(reader, row.node + u64(sequence))
                volume += receipt.delta_noz if receipt is not None else 0
            assert volume == row.volume_noz, f"row of {row.node.hex()} says {row.volume_noz}, its receipts {volume}"
            settled_noz[row.node] = settled_noz.get(row.node, 0) + row.volume_noz
    for node, noz in per_node.items():
        earner = EARNER.get(reader, node)
        waiting = earner.unsettled_noz if earner is not None else 0
        assert noz == waiting + settled_noz.get(node, 0), f"{node.hex()} earned {noz}, waiting {waiting}"


def check_index(reader: Reader) -> None:
    """Slices list the holders whose rooms list the slices, and nothing is kept without a reference."""
    for digest, record in SLICE.items(reader):
        assert record.references > 0, f"slice {digest.hex()} has no reference"
        for holder in record.holders:
            assert reader.get(held_room(holder) + digest) is not None, f"{holder.hex()} does not know {digest.hex()}"
