"""The three ledgers after reading, and the verdict about them: typed, frozen, no IO.

A receipt is cumulative, so a ledger is a running total per (kind, task, earner) - the `WorkKey` on which the ledgers
are joined. The load generator's ledger and the nodes' say how far each total went, and how far the other side's
signature confirms it; the chain's ledger has the rows of each report, what was paid for them, and the receipts each
row rests on. A receipt of the chain's ledger carries the noz it added, which gives each byte its epoch.
"""

from collections.abc import Mapping

from msgspec import Struct

LOAD = "load"
NODES = "nodes"
CHAIN = "chain"

AGREE = "agree"
DISAGREE = "disagree"
ERROR = "error"


class WorkKey(Struct, frozen=True, order=True):
    """What a cumulative receipt is about: kind of work, task id, earner's node address."""

    kind: int
    task: bytes
    earner: bytes


class Claim(Struct, frozen=True):
    """What one side's ledger says about a key: the highest total it signed for or was signed, and the highest one that
    carries the other side's valid signature (0: the protocol gives this side none). A ledger that keeps every total
    it ever signed lists them in `history` as (total, digest)."""

    total_noz: int
    digest: bytes = b""
    confirmed_noz: int = 0
    history: frozenset[tuple[int, bytes]] | None = None

    def covers(self, total_noz: int, digest: bytes) -> bool:
        """Whether a receipt of this total, made of this digest, can be a part of what this side says."""
        if self.history is not None:
            return (total_noz, digest) in self.history
        return total_noz < self.total_noz or (total_noz == self.total_noz and digest == self.digest)


NOTHING = Claim(0)


class ReceiptLedger(Struct, frozen=True):
    """Claims of one side by key. `read` are the nodes whose records were really read."""

    claims: Mapping[WorkKey, Claim]
    read: frozenset[bytes] = frozenset()

    def claim(self, key: WorkKey) -> Claim:
        """What this ledger says about a key."""
        return self.claims.get(key, NOTHING)


class Settled(Struct, frozen=True):
    """A receipt as the chain paid it: in the report of `epoch`, adding `delta_noz`."""

    epoch: int
    key: WorkKey
    total_noz: int
    delta_noz: int
    digest: bytes = b""


class ReportedRow(Struct, frozen=True):
    """One row of a report as the chain shows it, with the volume of the proven receipts behind it."""

    node: bytes
    wallet: bytes
    volume_noz: int
    receipts: tuple[Settled, ...]


class Paid(Struct, frozen=True):
    """What the chain says it paid to a wallet in one epoch."""

    wallet: bytes
    mining_wei: int
    traffic_wei: int


class SettledEpoch(Struct, frozen=True):
    """One report on the chain and what it moved. `leaves` = providers in its receipts tree."""

    epoch: int
    height: int
    rows: tuple[ReportedRow, ...]
    leaves: int
    paid: tuple[Paid, ...]


class Finding(Struct, frozen=True):
    """One disagreement: in which ledger, about which node and epoch, what was expected and what was found."""

    node: str
    epoch: int
    expected: str
    found: str
    ledger: str
    what: str


class AuditReport(Struct, frozen=True):
    """verdict: agree | disagree | error. `reason` is given for error only."""

    verdict: str
    epochs: int
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    receipts_checked: int = 0
    volume_noz: int = 0
    pending_noz: int = 0
    """Receipted by nodes and not in a report yet."""
