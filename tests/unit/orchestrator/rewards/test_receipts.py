"""Reading the ledgers beside the chain's: what is believed, and what is a finding about whom."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.audit.evidence import CHAIN, NODES, Claim, WorkKey
from orchestrator.errors import EnvironmentFault
from orchestrator.rewards.receipts import (
    NodeLine,
    load_ledger,
    nodes_ledger,
    receipts_defect,
    reported_rows,
    row_receipts,
)
from stratos.client.errors import Refused
from stratos.crypto.keys import NodeKey
from stratos.crypto.merkle import MerkleTree, merkle_root
from stratos.crypto.signing import sign_bytes
from stratos.meta import reads
from stratos.meta.reads import MetaReads
from stratos.meta.rehearsal import Rehearsal
from stratos.meta.rooms import REPORT, u64
from stratos.meta.store import MetaStore
from stratos.wire.codec import encode
from stratos.wire.limits import MAX_CLIENT_FRAME_BYTES
from stratos.wire.metarpc import EpochReceipts, GetEpochReceipts, NodeLeaf, SettledReceipt, Stamp
from stratos.wire.receipts import DOWNLOAD, TAG_RECEIPT, UPLOAD, Receipt, ReceiptBody
from stratos.wire.txs import ReportRow

GENESIS = b"g" * 32
NODE, PAYER, OTHER = (NodeKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
DIGEST = b"d" * 32
STAMP = Stamp(1, b"s" * 32, 0, 1)


def receipt(kind: int = DOWNLOAD, *, total: int = 100, task: bytes = b"t" * 16, earner: NodeKey = NODE) -> Receipt:
    body = ReceiptBody(kind, task, earner.address, 3, total, DIGEST)
    signed = sign_bytes(TAG_RECEIPT, GENESIS, encode(body))
    mine, theirs = earner.sign(signed), PAYER.sign(signed)
    return Receipt(body, mine, theirs) if kind == DOWNLOAD else Receipt(body, theirs, mine)


def line(of: Receipt, **changes: Any) -> NodeLine:
    body = of.body
    key = PAYER.public_key if body.kind == DOWNLOAD else b""
    return msgspec.structs.replace(NodeLine(body.kind, body.task, body.total_noz, 0, of, key), **changes)


def read(*lines: NodeLine) -> tuple[dict[WorkKey, Claim], list[str]]:
    ledger, findings = nodes_ledger(
        {NODE.address: lines}, keys={NODE.address: NODE.public_key}, genesis_hash=GENESIS, name=lambda _: "r1"
    )
    assert {finding.ledger for finding in findings} <= {NODES} and ledger.read == {NODE.address}
    return dict(ledger.claims), [finding.what for finding in findings]


def test_a_download_is_confirmed_by_the_payers_signature() -> None:
    """A node holds the payer's word for downloads and only its own for uploads."""
    claims, defects = read(line(receipt()), line(receipt(UPLOAD, total=7)))
    assert defects == []
    assert claims[WorkKey(DOWNLOAD, b"t" * 16, NODE.address)] == Claim(100, DIGEST, 100)
    assert claims[WorkKey(UPLOAD, b"t" * 16, NODE.address)] == Claim(7, DIGEST, 0)


def test_the_nodes_own_signature_may_come_with_the_submission() -> None:
    """Until it hands a download receipt in, a node has signed nothing; that is no defect."""
    unsigned = Receipt(receipt().body, b"", receipt().taker_signature)
    assert read(line(unsigned))[1] == []


@pytest.mark.parametrize(
    ("changed", "defect"),
    [
        (line(receipt(), total_noz=101), "a total that is not the receipt's"),
        (line(receipt(), task=b"x" * 16), "a receipt of other work"),
        (line(receipt(earner=OTHER)), "a receipt of other work"),
        (line(Receipt(receipt().body, b"", bytes(64))), "a signature that is not the payer's"),
        (line(Receipt(receipt().body, bytes(64), receipt().taker_signature)), "a signature that is not the node's"),
        (line(Receipt(receipt(UPLOAD).body, b"", bytes(64))), "a signature that is not the node's"),
    ],
)
def test_a_changed_line_is_a_finding_about_the_nodes(changed: NodeLine, defect: str) -> None:
    """Whatever of a line was changed, its signatures or figures contradict it, and it blames nobody else."""
    claims, defects = read(changed)
    assert len(defects) == 1 and defects[0].startswith(defect)
    assert all(claim.confirmed_noz == 0 for claim in claims.values())


def test_every_total_a_client_signed_is_its_history(tmp_path: Path) -> None:
    """Lines of all files are joined; the highest total stands for the key; other lines are left alone."""
    base = {
        "type": "receipt",
        "time_ms": 1,
        "wallet": "00" * 20,
        "kind": DOWNLOAD,
        "task": "74" * 16,
        "earner": NODE.address.hex(),
        "epoch": 1,
        "digest": "0a" * 32,
    }
    operation = {"type": "operation", "time_ms": 1, "op": "get", "wallet": "00" * 20, "ok": True}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (base | {"total_noz": 5}, operation)))
    (tmp_path / "b.jsonl").write_text(json.dumps(base | {"total_noz": 9}) + "\n" + '{"torn')
    claim = load_ledger(tmp_path).claim(WorkKey(DOWNLOAD, b"t" * 16, NODE.address))
    assert claim.total_noz == 9 and claim.history == {(5, b"\n" * 32), (9, b"\n" * 32)}


def test_a_damaged_line_of_the_load_ledger_is_an_error(tmp_path: Path) -> None:
    """A whole line that is no ledger line cannot be skipped: it might have been a receipt."""
    (tmp_path / "a.jsonl").write_text('{"type":"receipt"}\n')
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        load_ledger(tmp_path)


def answer(*receipts: SettledReceipt, others: tuple[NodeLeaf, ...] = ()) -> tuple[EpochReceipts, bytes]:
    """An answer of the meta layer and the receipts root its report would carry."""
    volume = sum(one.delta_noz for one in receipts)
    leaf = NodeLeaf(NODE.address, volume, merkle_root([encode(one) for one in receipts]))
    tree = MerkleTree([encode(one) for one in (leaf, *others)])
    return EpochReceipts(STAMP, leaf, 0, 1 + len(others), tree.proof(0), receipts), tree.root


TWO = (SettledReceipt(receipt(total=100), 100, 3), SettledReceipt(receipt(UPLOAD, total=7), 7, 3))
NEIGHBOUR = NodeLeaf(OTHER.address, 1, b"o" * 32)


def test_receipts_under_the_reports_root_are_taken() -> None:
    """An honest answer has no defect, alone or beside other nodes."""
    for others in ((), (NEIGHBOUR,), (NEIGHBOUR, NEIGHBOUR)):
        told, root = answer(*TWO, others=others)
        assert receipts_defect(told, node=NODE.address, receipts_root=root) == ""


def test_every_tampered_part_of_an_answer_is_a_defect() -> None:
    """Left-out, changed, inflated and foreign receipts, a wrong path and a wrong root each break a link."""
    told, root = answer(*TWO, others=(NEIGHBOUR,))
    more = msgspec.structs.replace(TWO[0], delta_noz=101)
    replace = msgspec.structs.replace
    tampered = [
        replace(told, receipts=TWO[:1]),
        replace(told, receipts=(more, TWO[1])),
        replace(told, leaf=replace(told.leaf, volume_noz=108)),
        replace(told, path=(b"x" * 32,)),
        replace(told, count=3),
        replace(told, leaf=replace(told.leaf, node=OTHER.address)),
    ]
    for one in tampered:
        assert receipts_defect(one, node=NODE.address, receipts_root=root)
    assert receipts_defect(told, node=NODE.address, receipts_root=b"r" * 32)
    inflated, root = answer(SettledReceipt(receipt(), 100, 3))
    inflated = replace(inflated, leaf=replace(inflated.leaf, volume_noz=200))
    root = MerkleTree([encode(inflated.leaf)]).root
    assert "add up" in receipts_defect(inflated, node=NODE.address, receipts_root=root)


class OneMetaNode:
    """Answers as told, or refuses."""

    def __init__(self, told: EpochReceipts | None) -> None:
        self.told = told

    def ask_meta(self, request: Any, kind: Any) -> Any:
        if self.told is None:
            raise Refused("no such row", "epoch")
        return self.told


def test_a_row_carries_its_receipts_and_a_broken_proof_is_the_chains(tmp_path: Path) -> None:
    """The volume is the chain's, the receipts are the meta layer's; what does not fit the root is a finding."""
    told, root = answer(*TWO, others=(NEIGHBOUR,))
    rows = [ReportRow(b"w" * 20, NODE.address, "107")]
    found, leaves, findings = reported_rows(OneMetaNode(told), 3, rows, receipts_root=root, name=lambda _: "r1")
    assert (found[0].volume_noz, [one.delta_noz for one in found[0].receipts], leaves) == (107, [100, 7], 2)
    assert findings == []
    _, _, findings = reported_rows(OneMetaNode(told), 3, rows, receipts_root=b"r" * 32, name=lambda _: "r1")
    assert [(one.ledger, one.node, one.epoch) for one in findings] == [(CHAIN, "r1", 3)]
    with pytest.raises(EnvironmentFault, match="cannot be had"):
        reported_rows(OneMetaNode(None), 3, rows, receipts_root=root, name=lambda _: "r1")


class MetaLayer:
    """A real meta layer whose epoch 1 was reported with several receipts per node, and what may go wrong on the way."""

    def __init__(self) -> None:
        net = Rehearsal()
        store = MetaStore(net.app.state, genesis=net.genesis, genesis_hash=net.genesis_hash)
        store.begin(net.validators)
        net.app._persist = store.persist
        self._reads = MetaReads(net.app, store)
        net.heartbeat()
        net.to_epoch(1)
        session, key = net.open(max_noz=10**8)
        for number in range(7):
            net.heartbeat()
            net.put(session, key, 1_000 + number, name=f"f{number}")
        net.to_epoch(2)
        report = REPORT.get(net.state, u64(1))
        assert report is not None
        self.report = report
        self.asked: list[int] = []
        self.forge = lambda _first, told: told

    def ask_meta(self, request: Any, kind: Any) -> Any:
        self.asked.append(request.first)
        return self.forge(request.first, self._reads.epoch_receipts(request.epoch, request.node, request.first))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> MetaLayer:
    monkeypatch.setattr(reads, "RECEIPTS_PER_ANSWER", 2)
    return MetaLayer()


def test_a_row_of_more_receipts_than_one_answer_holds_is_read_whole(layer: MetaLayer) -> None:
    """Page by page, all receipts of the row are put together, make its root and add up to its volume."""
    long = [row for row in layer.report.rows if row.end_seq - row.first_seq > 4]
    assert long
    for row in long:
        layer.asked.clear()
        count = row.end_seq - row.first_seq
        whole = row_receipts(layer, 1, row.node)
        assert len(whole.receipts) == count and layer.asked == list(range(0, count, 2))
        assert receipts_defect(whole, node=row.node, receipts_root=layer.report.receipts_root) == ""
    rows = [ReportRow(row.wallet, row.node, str(row.volume_noz)) for row in layer.report.rows]
    found, _, findings = reported_rows(
        layer, 1, rows, receipts_root=layer.report.receipts_root, name=lambda node: node.hex()
    )
    assert not findings
    assert all(sum(one.delta_noz for one in row.receipts) == row.volume_noz for row in found)


@pytest.mark.parametrize("lie", ["no more", "another row", "the first page again", "a larger total"])
def test_pages_that_do_not_fit_together_are_a_defect(layer: MetaLayer, lie: str) -> None:
    """A later page that is withheld, of another row, or repeated leaves receipts that prove nothing, and reading ends."""
    row = max(layer.report.rows, key=lambda row: row.end_seq - row.first_seq)
    replace = msgspec.structs.replace
    honest = layer.ask_meta
    pages = {0: honest(GetEpochReceipts(1, row.node), EpochReceipts)}

    def forge(first: int, told: EpochReceipts) -> EpochReceipts:
        if lie == "a larger total":
            return replace(told, total=2**31 - 1)
        if first == 0:
            return told
        if lie == "no more":
            return replace(told, receipts=())
        if lie == "another row":
            return replace(told, leaf=replace(told.leaf, volume_noz=1))
        return pages[0]

    layer.forge = forge
    assert receipts_defect(row_receipts(layer, 1, row.node), node=row.node, receipts_root=layer.report.receipts_root)


def test_a_full_answer_fits_into_a_frame() -> None:
    """As many of the largest receipts as one answer holds stay below what a client's connection carries."""
    big = 2**63 - 1
    body = ReceiptBody(DOWNLOAD, b"t" * 16, NODE.address, big, big, DIGEST)
    largest = SettledReceipt(Receipt(body, bytes(64), bytes(64)), big, big)
    leaf = NodeLeaf(NODE.address, big, DIGEST)
    count = reads.RECEIPTS_PER_ANSWER
    full = EpochReceipts(STAMP, leaf, 0, 1, (DIGEST,) * 64, (largest,) * count, count)
    assert len(encode(full)) < MAX_CLIENT_FRAME_BYTES // 2
