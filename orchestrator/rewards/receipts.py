"""The two ledgers beside the chain's, and the receipts a report rests on.

The load generator's ledger is the JSON lines its clients wrote. A node's ledger is what the node itself tells of its
accounts; the signature it made is checked, and the payer's where it carries one, so a line that was changed on the way is a
finding about that ledger. What a report rests on comes from the meta layer and counts only when its Merkle path leads to
the root that the chain has accepted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from orchestrator.audit.evidence import (
    CHAIN,
    NODES,
    Claim,
    Finding,
    ReceiptLedger,
    ReportedRow,
    Settled,
    WorkKey,
)
from orchestrator.audit.matching import Naming, label
from orchestrator.errors import EnvironmentFault
from orchestrator.node_status import request
from stratos.client.errors import Refused
from stratos.client.ledgerfile import ReceiptLine, read_ledger
from stratos.client.records import ResourceEndpoint
from stratos.crypto.keys import verify_node
from stratos.crypto.merkle import merkle_root, verify_merkle
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import encode
from stratos.wire.metarpc import EpochReceipts, GetEpochReceipts
from stratos.wire.receipts import DOWNLOAD, TAG_RECEIPT, Receipt
from stratos.wire.txs import ReportRow

R = TypeVar("R", bound=Struct)
ANSWER_SECONDS = 10.0
MAX_RECEIPTS_OF_A_ROW = 1_000_000
"""A meta node that lies about how many there are cannot keep its reader busy for ever."""


class MetaNodes(Protocol):
    """Who answers about the meta log (`stratos.client.observer.Observer`)."""

    def ask_meta(self, request: Struct, kind: type[R]) -> R: ...


class NodeLine(Struct, frozen=True):
    """One account of a node's own ledger: its last receipt of a session, upload or repair."""

    kind: int
    task: bytes
    total_noz: int
    ordered_noz: int
    receipt: Receipt
    session_key: bytes = b""
    """Of downloads: the key the payer signs with."""


class _Told(Struct):
    node: str
    lines: list[NodeLine]


def node_lines(endpoint: ResourceEndpoint) -> list[NodeLine]:
    """What a running node tells of its accounts (loopback only); raises EnvironmentFault."""
    parts = urlsplit(endpoint.http)
    answer = request(
        parts.hostname or "", parts.port or 80, "/receipts", method="GET", body=None, timeout_seconds=ANSWER_SECONDS
    )
    if answer is None or answer.status != 200:
        why = "did not answer" if answer is None else f"answered HTTP {answer.status}"
        raise EnvironmentFault(f"the receipts of {endpoint.name} cannot be read: {endpoint.http} {why}; start the node")
    return lines_of(endpoint.name, answer.body)


def lines_of(name: str, body: bytes) -> list[NodeLine]:
    """What a node's answer says; raises EnvironmentFault when it says nothing that can be read."""
    try:
        return msgspec.json.decode(body, type=_Told).lines
    except msgspec.DecodeError as error:
        raise EnvironmentFault(f"the receipts of {name} are malformed: {error}") from error


def load_ledger(folder: Path) -> ReceiptLedger:
    """What clients signed, from the ledger files in a folder; raises EnvironmentFault for a damaged line."""
    signed: defaultdict[WorkKey, set[tuple[int, bytes]]] = defaultdict(set)
    try:
        for line in read_ledger(folder):
            if isinstance(line, ReceiptLine):
                key = WorkKey(line.kind, bytes.fromhex(line.task), bytes.fromhex(line.earner))
                signed[key].add((line.total_noz, bytes.fromhex(line.digest)))
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"the load generator's ledger cannot be read: {error}; restore the file") from error
    return ReceiptLedger(
        {
            key: Claim(total_noz=max(totals)[0], digest=max(totals)[1], history=frozenset(totals))
            for key, totals in signed.items()
        }
    )


def nodes_ledger(
    lines: Mapping[bytes, Sequence[NodeLine]], *, keys: Mapping[bytes, bytes], genesis_hash: bytes, name: Naming
) -> tuple[ReceiptLedger, list[Finding]]:
    """The nodes' ledger from each node's lines (by address; `keys` are their public keys), and lines that do not hold."""
    claims: dict[WorkKey, Claim] = {}
    findings: list[Finding] = []
    for address, told in lines.items():
        for line in told:
            key = WorkKey(line.kind, line.task, address)
            reason = line_defect(line, key, public_key=keys.get(address, b""), genesis_hash=genesis_hash)
            if reason:
                findings.append(
                    Finding(
                        node=name(address),
                        epoch=line.receipt.body.epoch,
                        expected=str(line.receipt.body.total_noz),
                        found=str(line.total_noz),
                        ledger=NODES,
                        what=f"{reason} in {label(key)}",
                    )
                )
            # A line that does not hold says nothing about the payer either; checked lines carry the payer's signature.
            by_payer = bool(line.session_key) and not reason
            claims[key] = Claim(
                total_noz=line.total_noz,
                digest=line.receipt.body.digest,
                confirmed_noz=line.receipt.body.total_noz if by_payer else 0,
            )
    return ReceiptLedger(claims, frozenset(lines)), findings


def line_defect(line: NodeLine, key: WorkKey, *, public_key: bytes, genesis_hash: bytes) -> str:
    """What is wrong with a line of a node's ledger, "" when it holds."""
    body = line.receipt.body
    if (body.kind, body.task, body.earner) != (key.kind, key.task, key.earner):
        return "a receipt of other work"
    if body.total_noz != line.total_noz:
        return "a total that is not the receipt's"
    is_giver = body.kind == DOWNLOAD
    own = line.receipt.giver_signature if is_giver else line.receipt.taker_signature
    # A download's receipt is the payer's signature; the node adds its own when it hands it in.
    if (own or not is_giver) and not _signed(public_key, line.receipt, own, genesis_hash):
        return "a signature that is not the node's"
    payer = line.session_key if is_giver else b""
    if payer and not _signed(payer, line.receipt, line.receipt.taker_signature, genesis_hash):
        return "a signature that is not the payer's"
    return ""


def reported_rows(
    meta: MetaNodes, epoch: int, rows: Sequence[ReportRow], *, receipts_root: bytes, name: Naming
) -> tuple[tuple[ReportedRow, ...], int, list[Finding]]:
    """(rows with the receipts proven to be behind them, leaves of the receipts tree, findings)."""
    found: list[ReportedRow] = []
    findings: list[Finding] = []
    leaves = len(rows)
    for row in rows:
        try:
            answer = row_receipts(meta, epoch, row.node)
        except Refused as error:
            raise EnvironmentFault(
                f"the receipts of {name(row.node)} in epoch {epoch} cannot be had: {error.sentence}"
            ) from error
        reason = receipts_defect(answer, node=row.node, receipts_root=receipts_root)
        if reason:
            findings.append(
                Finding(
                    node=name(row.node),
                    epoch=epoch,
                    expected=receipts_root.hex(),
                    found=answer.leaf.receipts_root.hex(),
                    ledger=CHAIN,
                    what=reason,
                )
            )
        leaves = answer.count
        found.append(ReportedRow(row.node, row.wallet, int(row.volume_noz), tuple(_settled(epoch, answer))))
    return tuple(found), leaves, findings


def row_receipts(meta: MetaNodes, epoch: int, node: bytes) -> EpochReceipts:
    """All receipts of a node's row in one answer, whose pages are asked for one after the other.

    Reading ends where the pages stop to fit together; what is missing then is for `receipts_defect` to tell.
    """
    answer = meta.ask_meta(GetEpochReceipts(epoch, node), EpochReceipts)
    receipts = list(answer.receipts)
    while len(receipts) < min(answer.total, MAX_RECEIPTS_OF_A_ROW):
        page = meta.ask_meta(GetEpochReceipts(epoch, node, len(receipts)), EpochReceipts)
        if not page.receipts or (page.leaf, page.total) != (answer.leaf, answer.total):
            break
        receipts.extend(page.receipts)
    return msgspec.structs.replace(answer, receipts=tuple(receipts))


def receipts_defect(answer: EpochReceipts, *, node: bytes, receipts_root: bytes) -> str:
    """Why these receipts are not what the report's root commits to, "" when they are."""
    if answer.leaf.node != node or any(one.receipt.body.earner != node for one in answer.receipts):
        return "receipts of another node"
    if len(answer.receipts) < answer.total:
        return f"only {len(answer.receipts)} of {answer.total} receipts"
    if merkle_root([encode(one) for one in answer.receipts]) != answer.leaf.receipts_root:
        return "receipts that do not make their root"
    if not verify_merkle(receipts_root, encode(answer.leaf), answer.index, answer.count, answer.path):
        return "a leaf that is not under the report's root"
    if sum(one.delta_noz for one in answer.receipts) != answer.leaf.volume_noz:
        return "receipts that do not add up to their leaf"
    return ""


def _settled(epoch: int, answer: EpochReceipts) -> Iterable[Settled]:
    for one in answer.receipts:
        body = one.receipt.body
        yield Settled(epoch, WorkKey(body.kind, body.task, body.earner), body.total_noz, one.delta_noz, body.digest)


def _signed(public_key: bytes, receipt: Receipt, signature: bytes, genesis_hash: bytes) -> bool:
    return verify_node(public_key, sign_bytes(TAG_RECEIPT, genesis_hash, encode(receipt.body)), signature)
