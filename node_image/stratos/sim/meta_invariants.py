"""What must hold between the two layers, checked at every meta block and at the end.

Ozone: what the log calls sold is exactly what the chain sold up to the height the log has followed, and it is all accounted
for. Reports: a new one is made only when the log knows the chain's word about the last; the chain has each at most
once and with the same volume. Receipts: per (kind, task, earner) the archived payments add up to the highest total
anybody signed, and no receipt is part of two reports that were paid.
"""

from itertools import pairwise

from stratos.ledger import pot
from stratos.ledger.events import OZONE_BOUGHT, REPAIR_CREDITED, attributes
from stratos.meta import outbox
from stratos.meta.ozone import BALANCES, PLACES, REPAIR_RESERVE, REPORTED, RESERVES, SOLD, UNSETTLED, sheet
from stratos.meta.rooms import BALANCE, CHAIN_HEIGHT, EARNER, RECEIPT, REPORT, RESERVED, u64
from stratos.sim.invariants import Violations
from stratos.sim.value_world import ValueLayer, chain_of
from stratos.state import Reader
from stratos.wire.block import Event


class MetaMonitor:
    """Compares the log with the chain."""

    def __init__(self, violations: Violations, value: ValueLayer, genesis_events: list[Event]) -> None:
        self._violations = violations
        self._value = value
        self._sold = {value.genesis.initial_height - 1: _sold(genesis_events)}
        self._reports: dict[int, str] = {}
        self.blocks = 0

    def on_block(self, state: Reader) -> None:
        """The log's newest block was committed first by some honest node."""
        self.blocks += 1
        height = CHAIN_HEIGHT.get(state)
        totals = sheet(state)
        expected = self._chain_sold(height)
        if expected is not None and totals[SOLD] != expected:
            self._violations.add(
                f"meta: {totals[SOLD]} noz are sold in the log, the chain sold {expected} up to {height}"
            )
        if totals[SOLD] != sum(totals[place] for place in PLACES):
            self._violations.add("meta: ozone is not conserved")
        self._check_order(state)

    def _check_order(self, state: Reader) -> None:
        known = {report.epoch: report.outcome for _, report in REPORT.items(state)}
        waiting = [epoch for epoch, outcome in known.items() if outcome == outbox.IN_FLIGHT]
        if len(waiting) > 1:
            self._violations.add(f"meta: reports of epochs {sorted(waiting)} wait for the chain at the same time")
        for epoch, outcome in known.items():
            before = self._reports.get(epoch)
            if before is not None and before not in ("", outcome):
                self._violations.add(f"meta: report {epoch} was {before} and became {outcome or 'unsettled'}")
        self._reports = known

    def _chain_sold(self, height: int) -> int | None:
        """Noz sold on the chain up to a height, None when no honest validator has the block any more."""
        top = max(self._sold)
        for number in range(top + 1, height + 1):
            bridge = chain_of(self._value.best).chain.store.bridge(number)
            if bridge is None:
                return None
            self._sold[number] = self._sold[number - 1] + _sold(bridge.events)
        return self._sold[height]

    def check_end(self, state: Reader) -> None:
        """The rooms behind the totals, the receipts, and the chain's reports."""
        totals = sheet(state)
        rooms = {
            BALANCES: sum(noz for _, noz in BALANCE.items(state)),
            RESERVES: sum(noz for _, noz in RESERVED.items(state)),
            UNSETTLED: sum(earner.unsettled_noz for _, earner in EARNER.items(state))
            + sum(report.total_noz for _, report in REPORT.items(state) if report.outcome == outbox.IN_FLIGHT),
            REPAIR_RESERVE: totals[REPAIR_RESERVE],
            REPORTED: sum(report.total_noz for _, report in REPORT.items(state) if report.outcome == outbox.INCLUDED),
        }
        for name, noz in rooms.items():
            if noz != totals[name]:
                self._violations.add(f"meta: {name.decode()} adds up to {noz} noz, the sheet says {totals[name]}")
        self._check_receipts(state)
        self._check_chain(state)

    def _check_receipts(self, state: Reader) -> None:
        paid: dict[tuple[int, bytes, bytes], int] = {}
        highest: dict[tuple[int, bytes, bytes], int] = {}
        for _, settled in RECEIPT.items(state):
            body = settled.receipt.body
            key = (body.kind, body.task, body.earner)
            paid[key] = paid.get(key, 0) + settled.delta_noz
            highest[key] = max(highest.get(key, 0), body.total_noz)
        for key, noz in paid.items():
            if noz > highest[key]:
                self._violations.add(
                    f"meta: {noz} noz were paid for receipts over {highest[key]} of {key[2].hex()[:8]}"
                )
        taken: dict[bytes, list[tuple[int, int]]] = {}
        for _, report in REPORT.items(state):
            if report.outcome == outbox.INCLUDED:
                for row in report.rows:
                    taken.setdefault(row.node, []).append((row.first_seq, row.end_seq))
        for node, ranges in taken.items():
            ranges.sort()
            for (_, end), (start, _) in pairwise(ranges):
                if start < end:
                    self._violations.add(f"meta: receipts of {node.hex()[:8]} from {start} on were paid in two reports")

    def _check_chain(self, state: Reader) -> None:
        chain = chain_of(self._value.best).state
        for _, report in REPORT.items(state):
            record = pot.REPORTS.get(chain, u64(report.epoch))
            if report.outcome == outbox.INCLUDED and (record is None or int(record.volume_noz) != report.total_noz):
                self._violations.add(f"meta: report {report.epoch} is included in the log but not so on the chain")
        followed = CHAIN_HEIGHT.get(state)
        for key, record in pot.REPORTS.items(chain):
            epoch = int.from_bytes(key, "big")
            logged = REPORT.get(state, u64(epoch))
            if record.height <= followed and (logged is None or logged.outcome != outbox.INCLUDED):
                self._violations.add(f"meta: the chain paid report {epoch}, the log does not know")


def _sold(events: "list[Event] | tuple[Event, ...]") -> int:
    return sum(int(attributes(event)["noz"]) for event in events if event.kind in (OZONE_BOUGHT, REPAIR_CREDITED))
