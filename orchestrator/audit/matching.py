"""Three ledgers side by side: who signed what, and which of them stands alone when they differ.

The chain's ledger says, receipt by receipt, what was paid for. Each such total has to be covered by the earner's own
ledger and by the payer's. When one of the two falls short, that one differs; when both do, the chain paid for something
that nobody else knows. Totals not paid for yet are held against each other by signatures: a ledger that admits less
than its own key signed for, in the other side's hands, differs. Repairs have no client; there the nodes' ledger is held
against the chain's alone. Inside the chain's ledger the totals of a key grow by exactly their deltas, so a byte is paid
for once, and each row is the sum of its receipts.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator.audit.evidence import CHAIN, LOAD, NODES, Finding, ReceiptLedger, Settled, SettledEpoch, WorkKey
from stratos.wire.receipts import DOWNLOAD, REPAIR, UPLOAD

Naming = Callable[[bytes], str]
"""Node address -> the name people use."""
_KINDS = {UPLOAD: "upload", DOWNLOAD: "download", REPAIR: "repair"}


def match_receipts(
    epochs: Sequence[SettledEpoch], *, load: ReceiptLedger, nodes: ReceiptLedger, name: Naming
) -> Iterator[Finding]:
    """Every disagreement about receipts, epochs in order."""
    paid: defaultdict[WorkKey, int] = defaultdict(int)
    last_epoch: dict[WorkKey, int] = {}
    differing: set[WorkKey] = set()
    for epoch in sorted(epochs, key=lambda item: item.epoch):
        yield from _match_rows(epoch, name)
        for settled in sorted(_receipts(epoch), key=lambda item: (item.key, item.total_noz)):
            key = settled.key
            if key not in differing:
                for finding in _match_one(settled, load=load, nodes=nodes, name=name):
                    differing.add(key)
                    yield finding
            if settled.total_noz != paid[key] + settled.delta_noz:
                wanted = settled.total_noz - paid[key]
                what = f"noz added by receipt {label(key)}"
                yield _finding(name(key.earner), epoch.epoch, wanted, settled.delta_noz, CHAIN, what)
            paid[key] = max(paid[key], settled.total_noz)
            last_epoch[key] = epoch.epoch
    for key in sorted((load.claims.keys() | nodes.claims.keys()) - differing):
        yield from _match_signatures(key, last_epoch.get(key, 0), load=load, nodes=nodes, name=name)


def pending(epochs: Iterable[SettledEpoch], nodes: ReceiptLedger) -> int:
    """noz that nodes hold receipts for and no report has contained yet."""
    settled: defaultdict[WorkKey, int] = defaultdict(int)
    for epoch in epochs:
        for receipt in _receipts(epoch):
            settled[receipt.key] = max(settled[receipt.key], receipt.total_noz)
    return sum(max(0, claim.total_noz - settled[key]) for key, claim in nodes.claims.items())


def label(key: WorkKey) -> str:
    """A receipt's key for people."""
    return f"{_KINDS.get(key.kind, str(key.kind))} {key.task.hex()[:12]}"


def _receipts(epoch: SettledEpoch) -> Iterator[Settled]:
    for row in epoch.rows:
        yield from row.receipts


def _match_rows(epoch: SettledEpoch, name: Naming) -> Iterator[Finding]:
    for row in epoch.rows:
        receipted = sum(receipt.delta_noz for receipt in row.receipts)
        if receipted != row.volume_noz:
            yield _finding(name(row.node), epoch.epoch, receipted, row.volume_noz, CHAIN, "noz in the report's row")
    if epoch.leaves != len(epoch.rows):
        yield _finding("report", epoch.epoch, epoch.leaves, len(epoch.rows), CHAIN, "rows of the report")


def _match_one(settled: Settled, *, load: ReceiptLedger, nodes: ReceiptLedger, name: Naming) -> Iterator[Finding]:
    """One paid total against the two other ledgers."""
    key, total = settled.key, settled.total_noz
    by_nodes, by_load = nodes.claim(key), load.claim(key)
    in_nodes = by_nodes.covers(total, settled.digest)
    in_load = in_nodes if key.kind == REPAIR else by_load.covers(total, settled.digest)
    if in_nodes and in_load:
        return
    what = f"total of receipt {label(key)}"
    if in_nodes:
        yield _finding(name(key.earner), settled.epoch, total, by_load.total_noz, LOAD, what)
    elif in_load:
        yield _finding(name(key.earner), settled.epoch, total, by_nodes.total_noz, NODES, what)
    else:
        known = max(by_nodes.total_noz, by_load.total_noz)
        yield _finding(name(key.earner), settled.epoch, known, total, CHAIN, what)


def _match_signatures(
    key: WorkKey, epoch: int, *, load: ReceiptLedger, nodes: ReceiptLedger, name: Naming
) -> Iterator[Finding]:
    """What one side signed, in the other side's hands, against what it admits itself."""
    if key.kind == REPAIR:
        return
    in_load, in_nodes = load.claim(key), nodes.claim(key)
    what = f"signed total of receipt {label(key)}"
    if in_nodes.confirmed_noz and not in_load.covers(in_nodes.confirmed_noz, in_nodes.digest):
        yield _finding(name(key.earner), epoch, in_nodes.confirmed_noz, in_load.total_noz, LOAD, what)
    if in_load.confirmed_noz > in_nodes.total_noz:
        yield _finding(name(key.earner), epoch, in_load.confirmed_noz, in_nodes.total_noz, NODES, what)


def _finding(node: str, epoch: int, expected: int, found: int, ledger: str, what: str) -> Finding:
    return Finding(node=node, epoch=epoch, expected=str(expected), found=str(found), ledger=ledger, what=what)
