"""The audit of a real testnet: it agrees, and names each ledger that is corrupted in turn."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from msgspec import Struct

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import Tool, eventually

from orchestrator.audit.evidence import CHAIN, DISAGREE, ERROR, LOAD, NODES, AuditReport, Paid
from orchestrator.errors import BadInput, EnvironmentFault, VerdictFailed
from orchestrator.rewards.chain import ChainLedger
from orchestrator.rewards.evidence import audit_testnet
from orchestrator.rewards.proof import prove_payout
from orchestrator.rewards.receipts import NodeLine, node_lines
from stratos.client import Client
from stratos.client.observer import Observer
from stratos.client.records import ResourceEndpoint
from stratos.client.testnet import Testnet as Net
from stratos.client.testnet import load_testnet
from stratos.wire.chainrpc import GetBlock, GetBridge, GetProof
from stratos.wire.codec import decode, encode
from stratos.wire.metarpc import GetEpochReceipts
from stratos.wire.receipts import DOWNLOAD, UPLOAD
from stratos.wire.txs import Tx, VolumeReport

R = TypeVar("R", bound=Struct)
EPOCHS = 2


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """A testnet in which both nodes were paid for uploads and downloads, in at least two epochs, and nothing is unpaid.

    Which node is given a file is a lottery, and in which epoch its receipts are settled a matter of time: tests that change a
    node's ledger, or the last thing a client signed, need all nodes to have one and all of it to be settled.
    """
    tool = Tool(tmp_path_factory.mktemp("audit"))
    assert tool.json("up")["started"] == 4
    try:
        with Client.from_testnet(tool.root / "net") as client:

            def more_traffic_and_enough_epochs() -> bool:
                stored = client.put(os.urandom(300_000), name="file")
                client.read(stored.handle)
                return all_have_both_kinds(tool) and len(tool.json("rewards")["flows"]) >= EPOCHS

            eventually(more_traffic_and_enough_epochs)
        eventually(lambda: tool.json("audit")["pending_noz"] == 0)
        yield tool
    finally:
        assert tool.run("down", "--purge").returncode == 0


def all_have_both_kinds(tool: Tool) -> bool:
    """Whether every node's own ledger has an upload and a download."""
    nodes = load_testnet(tool.root / "net").endpoints.resource
    return all({line.kind for line in node_lines(node)} >= {UPLOAD, DOWNLOAD} for node in nodes)


@pytest.fixture
def testnet(tool: Tool) -> Net:
    return load_testnet(tool.root / "net")


def findings(report: AuditReport) -> set[str]:
    assert report.verdict == DISAGREE, report
    return {finding.ledger for finding in report.findings}


def test_an_honest_testnet_agrees(tool: Tool) -> None:
    """All three ledgers tell the same story, and the audit says over how many epochs and receipts."""
    report = tool.json("audit")
    assert report["verdict"] == "agree" and report["findings"] == []
    assert report["epochs"] >= EPOCHS and report["receipts_checked"] >= 2


@pytest.mark.parametrize("field", ["total_noz", "digest"])
def test_a_corrupted_load_ledger_is_named(tool: Tool, tmp_path: Path, field: str) -> None:
    """One changed figure in what the load generator signed last: exit 1, that ledger, node, expected and found."""
    ledger = {
        file.name: [json.loads(line) for line in file.read_text().splitlines()]
        for file in (tool.root / "net" / "ledger").glob("*.jsonl")
    }
    signed = [
        line for lines in ledger.values() for line in lines if line["type"] == "receipt" and line["kind"] == DOWNLOAD
    ]
    # Totals are cumulative: only the last one of a session and holder says something that no later one says.
    last = max(signed, key=lambda line: int(line["total_noz"]))
    last[field] = 7 if field == "total_noz" else "00" * 32
    for name, lines in ledger.items():
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = tool.run("audit", "--json", "--load-ledger", str(tmp_path))
    report = json.loads(done.stdout)
    assert done.returncode == 1 and {finding["ledger"] for finding in report["findings"]} == {LOAD}
    assert all(finding["node"] in ("r1", "r2") and finding["epoch"] > 0 for finding in report["findings"])


def test_a_corrupted_node_ledger_is_named(testnet: Net) -> None:
    """A node whose own ledger lost an account, or says another total than it signed, is the one that differs."""

    def forgetful(endpoint: ResourceEndpoint) -> list[NodeLine]:
        lines = node_lines(endpoint)
        return [line for line in lines if line.kind == DOWNLOAD] if endpoint.name == "r1" else lines

    def boastful(endpoint: ResourceEndpoint) -> list[NodeLine]:
        lines = node_lines(endpoint)
        return [msgspec.structs.replace(lines[0], total_noz=lines[0].total_noz + 1), *lines[1:]]

    for read_lines in (forgetful, boastful):
        assert findings(audit_testnet(testnet, read_lines=read_lines)) == {NODES}


def test_a_corrupted_payout_of_the_chain_is_named(testnet: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wei more to one wallet than the rules give."""
    honest = ChainLedger.paid

    def generous(self: ChainLedger, epoch: int) -> tuple[Paid, ...]:
        first, *others = honest(self, epoch)
        return (msgspec.structs.replace(first, traffic_wei=first.traffic_wei + 1), *others)

    monkeypatch.setattr(ChainLedger, "paid", generous)
    report = audit_testnet(testnet)
    assert findings(report) == {CHAIN}
    assert all(int(one.found) - int(one.expected) == 1 for one in report.findings)


def test_a_corrupted_report_of_the_chain_is_named(testnet: Net) -> None:
    """A validator that shows a report with one noz more in a row is caught by the receipts behind it."""

    class Tampered(Observer):
        def ask_validator(self, request: Struct, kind: type[R]) -> R:
            answer: Any = super().ask_validator(request, kind)
            if isinstance(request, GetBlock):
                entries = tuple(_with_larger_row(entry) for entry in answer.block.entries)
                block = msgspec.structs.replace(answer.block, entries=entries)
                answer = msgspec.structs.replace(answer, block=block)
            return answer  # type: ignore[no-any-return]

    with Tampered(testnet.genesis, testnet.endpoints) as observer:
        report = audit_testnet(testnet, observer=observer)
    assert findings(report) == {CHAIN}
    assert any(finding.what == "noz in the report's row" for finding in report.findings)


def test_without_evidence_there_is_no_verdict(tool: Tool, testnet: Net, tmp_path: Path) -> None:
    """An empty client ledger or an unreadable node is an error with its reason, exit code 3."""
    done = tool.run("audit", "--load-ledger", str(tmp_path))
    assert done.returncode == 3 and "load generator's ledger" in done.stderr

    def silent(endpoint: ResourceEndpoint) -> list[NodeLine]:
        raise EnvironmentFault(f"{endpoint.name} does not answer")

    report = audit_testnet(testnet, read_lines=silent)
    assert report.verdict == ERROR and "does not answer" in report.reason


def test_a_payout_is_proven_with_only_the_genesis_file(tool: Tool) -> None:
    """From receipts to state, for a resource node and a meta node; an epoch without a report is refused."""
    table = tool.json("rewards")
    epoch = str(table["flows"][-1]["epoch"])
    names = [node["node"] for node in table["nodes"] if node["role"] == "resource" and node["traffic_noz"]]
    proofs = [done for name in names if (done := tool.run("rewards", "--prove", name, epoch, "--json")).returncode == 0]
    assert proofs
    proof = json.loads(proofs[0].stdout)
    assert proof["proven"] and proof["receipts"] > 0 and proof["mining_wei"] > 0
    assert [link["name"] for link in proof["links"]] == ["headers", "report", "receipts", "state", "payout"]
    assert tool.json("rewards", "--prove", "m1", epoch)["traffic_wei"] > 0
    refused = tool.run("rewards", "--prove", "r1", "999999")
    assert refused.returncode == 2 and "no report of epoch 999999" in refused.stderr


@pytest.mark.parametrize("link", ["certificate", "report", "receipts", "state"])
def test_a_broken_link_of_the_evidence_is_refused(tool: Tool, testnet: Net, link: str) -> None:
    """A payout is not proven when a certificate, the report's signatures, its receipts or the state value is forged."""
    table = tool.json("rewards")
    epoch = table["flows"][-1]["epoch"]

    def forge(request: Struct, answer: Any) -> Any:
        replace = msgspec.structs.replace
        if link == "certificate" and isinstance(request, GetBridge) and answer.blocks:
            signatures = tuple(replace(one, signature=bytes(64)) for one in answer.blocks[0].commit.signatures)
            forged = replace(answer.blocks[0], commit=replace(answer.blocks[0].commit, signatures=signatures))
            return replace(answer, blocks=(forged, *answer.blocks[1:]))
        if link == "report" and isinstance(request, GetBlock):
            return replace(answer, block=replace(answer.block, entries=answer.block.entries * 2))
        if link == "receipts" and isinstance(request, GetEpochReceipts):
            return replace(answer, receipts=answer.receipts[1:])
        if link == "state" and isinstance(request, GetProof) and answer.value is not None:
            return replace(answer, value=answer.value + b"\0")
        return answer

    class Forger(Observer):
        def ask_validator(self, request: Struct, kind: type[R]) -> R:
            return forge(request, super().ask_validator(request, kind))  # type: ignore[no-any-return]

        def ask_meta(self, request: Struct, kind: type[R]) -> R:
            return forge(request, super().ask_meta(request, kind))  # type: ignore[no-any-return]

    paid = {node["node"] for node in table["nodes"] if node["role"] == "resource" and node["traffic_noz"]}
    refusals = []
    with Forger(testnet.genesis, testnet.endpoints) as network:
        for node in sorted(paid):
            try:
                prove_payout(testnet.genesis, network, node=node, epoch=epoch)
            except (VerdictFailed, BadInput) as error:
                refusals.append(error)
            else:
                pytest.fail(f"the forged {link} was believed")
    assert any(isinstance(error, VerdictFailed) for error in refusals)


def _with_larger_row(entry: bytes) -> bytes:
    tx = decode(entry, Tx)
    message = tx.body.message
    if not isinstance(message, VolumeReport):
        return entry
    first, *others = message.rows
    larger = msgspec.structs.replace(first, volume_noz=str(int(first.volume_noz) + 1))
    body = msgspec.structs.replace(tx.body, message=msgspec.structs.replace(message, rows=(larger, *others)))
    return encode(msgspec.structs.replace(tx, body=body))
