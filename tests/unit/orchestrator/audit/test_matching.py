"""Three ledgers kept apart: each is corrupted in turn and has to be named."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from orchestrator.audit.evidence import (
    AGREE,
    CHAIN,
    DISAGREE,
    ERROR,
    LOAD,
    NODES,
    AuditReport,
    Claim,
    Paid,
    ReceiptLedger,
    ReportedRow,
    Settled,
    SettledEpoch,
    WorkKey,
)
from orchestrator.audit.history import Bought, Oracle, Reported, Step
from orchestrator.audit.verdict import judge
from stratos.wire.genesis import Genesis, GenesisNode
from stratos.wire.receipts import DOWNLOAD, REPAIR, UPLOAD

NODE, OTHER, META, USER = (bytes([n]) * 20 for n in range(1, 5))
GENESIS = Genesis(
    network="test",
    time_ms=0,
    meta_nodes=(GenesisNode(owner=META, beneficiary=META, node_public_key=b"m" * 32, deposit_wei=str(400 * 10**18)),),
)
UP = WorkKey(UPLOAD, b"u" * 16, NODE)
DOWN = WorkKey(DOWNLOAD, b"s" * 16, NODE)
FIX = WorkKey(REPAIR, b"r" * 16, OTHER)


def ledger(*entries: tuple[WorkKey, int, int], read: frozenset[bytes] = frozenset()) -> ReceiptLedger:
    return ReceiptLedger(
        {key: Claim(total_noz=total, confirmed_noz=confirmed) for key, total, confirmed in entries}, read
    )


@dataclass
class Run:
    """A run of two epochs in which everything agrees."""

    history: list[Step]
    load: ReceiptLedger
    nodes: ReceiptLedger

    def audit(self) -> AuditReport:
        oracle = Oracle(GENESIS, name=lambda address: f"n{address[0]}")
        return judge(oracle, self.history, load=self.load, nodes=self.nodes, name=lambda address: f"n{address[0]}")

    def edit_epoch(self, epoch: int, edit: Callable[[SettledEpoch], SettledEpoch]) -> None:
        for index, step in enumerate(self.history):
            if isinstance(step, Reported) and step.epoch.epoch == epoch:
                self.history[index] = msgspec.structs.replace(step, epoch=edit(step.epoch))


def settled(epoch: int, *rows: tuple[bytes, tuple[tuple[WorkKey, int, int], ...]]) -> SettledEpoch:
    return SettledEpoch(
        epoch=epoch,
        height=10 * epoch,
        rows=tuple(
            ReportedRow(
                node,
                node,
                sum(delta for _, _, delta in receipts),
                tuple(Settled(epoch, key, noz, delta) for key, noz, delta in receipts),
            )
            for node, receipts in rows
        ),
        leaves=len(rows),
        paid=(),
    )


@pytest.fixture
def run() -> Run:
    first = settled(1, (NODE, ((UP, 600, 600), (DOWN, 100, 100))))
    second = settled(2, (NODE, ((DOWN, 350, 250),)), (OTHER, ((FIX, 400, 400),)))
    history: list[Step] = [
        Bought(0, USER, 10 * 10**18, 9_756_097_560_975),
        Reported(first, frozenset()),
        Reported(second, frozenset()),
    ]
    oracle = Oracle(GENESIS, name=bytes.hex)
    list(oracle.walk(history))
    for index, payout in enumerate(oracle.payouts):
        paid = tuple(Paid(share.wallet, share.mining_wei, share.traffic_wei) for share in payout.shares)
        step = history[1 + index]
        assert isinstance(step, Reported)
        history[1 + index] = msgspec.structs.replace(step, epoch=msgspec.structs.replace(step.epoch, paid=paid))
    everyone = frozenset({NODE, OTHER})
    return Run(
        history,
        ledger((UP, 600, 600), (DOWN, 360, 350)),
        ledger((UP, 600, 0), (DOWN, 360, 360), (FIX, 400, 400), read=everyone),
    )


def test_an_honest_run_agrees_and_says_how_much_it_looked_at(run: Run) -> None:
    """Agreement carries the number of epochs and receipts, and what is still unpaid."""
    report = run.audit()
    assert (report.verdict, report.epochs, report.receipts_checked) == (AGREE, 2, 4)
    assert (report.volume_noz, report.pending_noz) == (1350, 10)


def only_finding(report: AuditReport) -> tuple[str, int, str, str, str]:
    assert report.verdict == DISAGREE and len(report.findings) == 1, report
    finding = report.findings[0]
    return finding.node, finding.epoch, finding.expected, finding.found, finding.ledger


def test_a_changed_load_generator_ledger_is_named(run: Run) -> None:
    """When node and chain agree and the client's record differs, the client's ledger differs."""
    run.load = ledger((UP, 600, 600), (DOWN, 340, 340))
    assert only_finding(run.audit()) == ("n1", 2, "350", "340", LOAD)


def test_a_changed_node_journal_is_named(run: Run) -> None:
    """When client and chain agree and the node's journal differs, the nodes' ledger differs."""
    run.nodes = with_claim(run.nodes, UP, 599)
    assert only_finding(run.audit()) == ("n1", 1, "600", "599", NODES)


def test_a_receipt_that_only_the_chain_knows_is_the_chains_error(run: Run) -> None:
    """When neither side signed the total that was paid for, the chain's ledger differs."""
    run.load = ledger((UP, 500, 500), (DOWN, 360, 350))
    run.nodes = with_claim(run.nodes, UP, 500)
    assert only_finding(run.audit()) == ("n1", 1, "500", "600", CHAIN)


def test_a_changed_row_of_the_report_is_named(run: Run) -> None:
    """A row that is not the sum of its receipts is the chain's error, before any payout is looked at."""

    def more(epoch: SettledEpoch) -> SettledEpoch:
        row = msgspec.structs.replace(epoch.rows[0], volume_noz=701)
        return msgspec.structs.replace(epoch, rows=(row,))

    run.edit_epoch(1, more)
    report = run.audit()
    first = report.findings[0]
    assert (first.node, first.epoch, first.expected, first.found, first.ledger) == ("n1", 1, "700", "701", CHAIN)


def test_a_dropped_row_of_the_report_is_named(run: Run) -> None:
    """A report with fewer rows than its receipts tree has leaves is the chain's error."""
    run.edit_epoch(2, lambda epoch: msgspec.structs.replace(epoch, rows=epoch.rows[:1]))
    assert run.audit().findings[0].what == "rows of the report"


def test_a_changed_payout_is_named_to_the_wei(run: Run) -> None:
    """One wei too much to one wallet is found, with node, epoch, expected and found."""

    def bribe(epoch: SettledEpoch) -> SettledEpoch:
        first, *others = epoch.paid
        more = msgspec.structs.replace(first, traffic_wei=first.traffic_wei + 1)
        return msgspec.structs.replace(epoch, paid=(more, *others))

    run.edit_epoch(2, bribe)
    node, epoch, expected, found, which = only_finding(run.audit())
    assert (node, epoch, int(found) - int(expected), which) == ("n1", 2, 1, CHAIN)


def test_a_byte_paid_twice_is_the_chains_error(run: Run) -> None:
    """Deltas of one key have to add up to its totals."""
    run.edit_epoch(2, lambda _: settled(2, (NODE, ((DOWN, 350, 350),)), (OTHER, ((FIX, 400, 400),))))
    assert ("noz added" in run.audit().findings[0].what) and run.audit().findings[0].ledger == CHAIN


def test_a_wrong_sale_of_ozone_is_named(run: Run) -> None:
    """A prepay that bought one noz too much is found."""
    run.history[0] = Bought(0, USER, 10 * 10**18, 9_756_097_560_976)
    assert only_finding(run.audit())[2:] == ("9756097560975", "9756097560976", CHAIN)


def test_no_evidence_is_an_error_with_a_reason(run: Run) -> None:
    """Silence is never agreement: no report, no client ledger, no journal, an unread journal."""
    silent = [
        Run(run.history[:1], run.load, run.nodes),
        Run(run.history, ledger(), run.nodes),
        Run(run.history, run.load, ledger()),
        Run(run.history, run.load, ReceiptLedger(run.nodes.claims, frozenset({NODE}))),
    ]
    for one in silent:
        report = one.audit()
        assert report.verdict == ERROR and report.epochs == 0 and report.reason
    assert "n2" in silent[3].audit().reason


def test_a_client_that_admits_less_than_it_signed_is_named(run: Run) -> None:
    """A total that is not paid yet counts too: the node holds the client's own signature for it."""
    run.load = ledger((UP, 600, 600), (DOWN, 355, 350))
    assert only_finding(run.audit()) == ("n1", 2, "360", "355", LOAD)


def test_a_node_that_admits_less_than_it_signed_is_named(run: Run) -> None:
    """The client holds the node's signature for more than the node's journal says."""
    run.load = ledger((UP, 700, 700), (DOWN, 360, 350))
    assert only_finding(run.audit()) == ("n1", 1, "700", "600", NODES)


def test_a_client_that_keeps_every_total_is_held_to_each(run: Run) -> None:
    """A total that was paid and is not among those the client lists is the client ledger's difference."""
    claims = dict(run.load.claims) | {
        DOWN: Claim(total_noz=360, history=frozenset({(100, b""), (351, b""), (360, b"")}))
    }
    run.load = ReceiptLedger(claims)
    assert only_finding(run.audit()) == ("n1", 2, "350", "360", LOAD)


def test_equal_totals_of_other_bytes_differ(run: Run) -> None:
    """A digest commits to what a total is made of: the node's last receipt has to have the digest that was paid."""
    claims = dict(run.nodes.claims) | {UP: Claim(total_noz=600, digest=b"x" * 32)}
    run.nodes = ReceiptLedger(claims, run.nodes.read)
    assert only_finding(run.audit())[4] == NODES


def with_claim(nodes: ReceiptLedger, key: WorkKey, total: int) -> ReceiptLedger:
    return ReceiptLedger(dict(nodes.claims) | {key: Claim(total_noz=total)}, nodes.read)
