"""The demo's verdict: every condition of a run is a check, and one that does not hold is named."""

from typing import Any

import msgspec
import pytest

from orchestrator.audit.evidence import Finding
from orchestrator.demo.document import (
    Counted,
    DemoAudit,
    DemoDocument,
    DemoReward,
    Prepaid,
    Proven,
    VideoPlayed,
    Withdrawn,
    checks,
)

NODES = {"validator": 4, "meta": 4, "resource": 6}
GOOD = DemoDocument(
    up_seconds=1.0,
    nodes=NODES,
    height=80,
    state_roots_equal=True,
    uploads=Counted(10, 0, 1000),
    downloads=Counted(10, 0, 1000),
    streams=Counted(10, 0, 1000),
    hash_mismatches=0,
    copies_min=4,
    copies_challenged=80,
    slices_challenged=20,
    epochs_settled=4,
    rewards=(DemoReward("resource-1", "resource", 10, 5, 1), DemoReward("resource-2", "resource", 0, 0, 0)),
    audit=DemoAudit("agree", 4),
    video=VideoPlayed("sdm://x", 6, 12.0, 12.1, "h264", "aac", 5),
    prepaid=Prepaid(10**18, 9, 30),
    withdrawn=Withdrawn("resource-1", "st1", 5, "ab", 70),
    proof=Proven("resource-1", 4, 3, 5, 1),
    report="r.html",
)


def failed(document: DemoDocument) -> list[str]:
    return [check.name for check in checks(document, wanted_nodes=NODES) if not check.ok]


def test_a_good_run_has_no_failed_check() -> None:
    """The document of a run in which everything held passes every check."""
    assert failed(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"nodes": NODES | {"resource": 5}}, "nodes up"),
        ({"state_roots_equal": False}, "state roots of all validators"),
        ({"streams": Counted(0, 0, 0)}, "work was done and verified"),
        ({"downloads": Counted(9, 1, 900)}, "failed operations"),
        ({"hash_mismatches": 1}, "wrong bytes"),
        ({"copies_min": 3}, "copies of every slice, by fresh challenges"),
        ({"copies_min": 4, "slices_challenged": 0}, "copies of every slice, by fresh challenges"),
        ({"epochs_settled": 3}, "epochs settled on the chain"),
        ({"rewards": (DemoReward("resource-1", "resource", 0, 0, 0),)}, "resource nodes were paid for traffic"),
        ({"audit": DemoAudit("error", 0, reason="no line")}, "three ledgers and every recomputed payout"),
        ({"audit": DemoAudit("agree", 3)}, "three ledgers and every recomputed payout"),
        ({"video": msgspec.structs.replace(GOOD.video, played_seconds=3.0)}, "video played through the gateway"),
        (
            {"video": msgspec.structs.replace(GOOD.video, early_segments=0)},
            "playback started before the upload was whole",
        ),
        ({"withdrawn": Withdrawn("resource-1", "st1", 0, "ab", 70)}, "a matured reward was withdrawn"),
        ({"proof": Proven("resource-1", 4, 0, 5, 1)}, "a payout was proven from receipts to state"),
        ({"prepaid": Prepaid(10**18, 0, 30)}, "ozone was bought meanwhile"),
    ],
)
def test_each_condition_fails_alone(changes: dict[str, Any], name: str) -> None:
    """One thing wrong fails exactly its own check."""
    assert failed(msgspec.structs.replace(GOOD, **changes)) == [name]


def test_the_audits_reason_is_in_the_check() -> None:
    """A reader of the failed check learns why: the reason of an error, the number of findings of a disagreement."""
    finding = Finding(node="r1", epoch=1, expected="1", found="2", ledger="chain", what="traffic wei")
    for audit, words in (
        (DemoAudit("error", 0, reason="no client line"), "no client line"),
        (DemoAudit("disagree", 4, (finding,)), "1 findings"),
    ):
        document = msgspec.structs.replace(GOOD, audit=audit)
        assert any(words in check.found for check in checks(document, wanted_nodes=NODES))
