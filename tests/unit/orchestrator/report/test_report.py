"""The page and the JSON of a run: complete, exact, self-contained."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from orchestrator.audit.evidence import Finding
from orchestrator.report.amounts import data_size, money
from orchestrator.report.data import (
    Check,
    Environment,
    EpochFlow,
    NodeReward,
    Operations,
    PricePoint,
    RunData,
    Sample,
    dump,
    load,
    read_samples,
)
from orchestrator.report.page import render, write_report

STOS = 10**18


def run_data(**changes: object) -> RunData:
    """A run with a bit of everything."""
    kinds = ("upload", "download", "stream")
    samples = tuple(
        Sample(n * 0.1, kinds[n % 3], 0.02 + (n % 7) * 0.011, 200_000 + 9_000 * n, ok=n != 17) for n in range(200)
    )
    rewards = tuple(
        NodeReward(
            node=f"{role}{number}",
            role=role,
            wallet="st1" + "q" * 38,
            traffic_noz=traffic,
            share=f"{traffic / 1e6:.1f} %",
            mining_wei=(60 + 7 * number) * STOS,
            traffic_wei=310_883_354_243_201 * (number + 1),
            immature_wei=20 * STOS,
            mature_wei=40 * STOS + 1,
        )
        for role, count in (("resource", 6), ("meta", 4), ("validator", 4))
        for number in range(count)
        for traffic in ((10_000_000 * (6 - number),) if role == "resource" else (0,))
    )
    flows = tuple(
        EpochFlow(
            epoch=epoch,
            height=20 + 12 * epoch,
            volume_noz=60_000_000 + epoch * 10**6,
            resource_wei=48 * STOS,
            meta_wei=16 * STOS,
            chain_wei=16 * STOS,
            chain_mining_wei=15 * STOS,
            tax_wei=8_404_989_231_107,
            mining_wei=80 * STOS,
            traffic_wei=525_311_826_944_220,
        )
        for epoch in range(1, 6)
    )
    base = RunData(
        title="Stratos testnet demo",
        network="demo",
        started="2026-11-21 10:00:00 UTC",
        seconds=48.2,
        up_seconds=1.4,
        nodes={"validator": 4, "meta": 4, "resource": 6},
        height=96,
        epochs_settled=5,
        copies_min=4,
        slices_challenged=31,
        hash_mismatches=0,
        operations={
            f"{kind}s": Operations(66, 0, 40_000_000, {"p50": 31.0, "p95": 80.2, "p99": 91.0, "max": 120.5})
            for kind in kinds
        },
        checks=(Check("audit", True, "agree over 5 epochs", "agree"), Check("state roots", True, "equal", "equal")),
        findings=(),
        rewards=rewards,
        flows=flows,
        prices=tuple(PricePoint(height, f"{1050598 - height * 3}.078251776812024224") for height in range(1, 96, 4)),
        samples=samples,
        settings={"epoch_seconds": "5", "mature_epoch": "2"},
        environment=Environment("Some CPU", 2, 8192, "Linux 6.1", "3.11.2", "abc123"),
    )
    return msgspec.structs.replace(base, **changes)


@pytest.fixture(scope="module")
def page() -> str:
    return render(run_data(), data_name="report.json")


def test_the_page_needs_no_network_and_no_scripts(page: str) -> None:
    """Nothing is loaded from anywhere: no script, no link, no image, no import; only anchors inside the page."""
    assert not re.search(r"<(script|link|img|iframe)\b|@import|src=", page)
    assert all(target.startswith("#") for target in re.findall(r'(?:href)="([^"]*)"', page))
    assert not re.findall(r"url\((?!#)", page)


def test_every_chart_is_inline_and_ids_are_unique(page: str) -> None:
    """Four charts, and no id twice, since clip paths of one chart must not cut another."""
    assert page.count('<svg class="chart"') == 4
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_node_and_epoch_is_on_the_page(page: str) -> None:
    """Nobody who earned is left out."""
    for reward in run_data().rewards:
        assert reward.node in page and money(reward.mining_wei) in page
    assert all(f'<td class="n">{flow.height}</td>' in page for flow in run_data().flows)


def test_a_failed_check_is_the_headline() -> None:
    """One check that did not hold makes the whole run wrong, and its findings are listed."""
    finding = Finding(node="r1", epoch=3, expected="10", found="11", ledger="chain", what="traffic wei")
    broken = run_data(checks=(Check("audit", False, "disagree", "agree"),), findings=(finding,))
    text = render(broken, data_name="x.json")
    assert "Something is wrong" in text and "Audit findings" in text and "traffic wei" in text


def test_a_run_without_checks_has_not_passed() -> None:
    """No evidence is not success."""
    assert not run_data(checks=()).passed


def test_a_run_without_samples_says_so() -> None:
    """Empty series become a sentence, not an empty frame."""
    text = render(run_data(samples=(), prices=(), rewards=(), flows=()), data_name="x.json")
    assert text.count("No data: this run recorded none.") == 4


def test_names_from_outside_are_escaped() -> None:
    """A node's name is text, whatever it contains."""
    text = render(run_data(title="<script>alert(1)</script>"), data_name="x.json")
    assert "<script>" not in text


def test_the_json_is_exact_and_reads_back(tmp_path: Path) -> None:
    """Wei above 2^53 are strings in the file and the same integers after reading."""
    data = run_data()
    assert load(dump(data)) == data
    page = write_report(data, tmp_path)
    document = json.loads((tmp_path / "report.json").read_bytes())
    assert document["rewards"][0]["mining_wei"] == str(60 * STOS)
    assert page.read_text().startswith("<!doctype html>")


def test_samples_are_counted_from_the_start_of_the_run(tmp_path: Path) -> None:
    """The load generator writes wall-clock seconds; plots begin at 0."""
    table = tmp_path / "load.samples.csv"
    table.write_text("at,kind,seconds,bytes,ok,first_byte_seconds\n1000.5,upload,0.25,10,1,\n1001,stream,1,5,0,0.01\n")
    samples = read_samples(table, started_at=1000.0)
    assert samples == (Sample(0.5, "upload", 0.25, 10, True), Sample(1.0, "stream", 1.0, 5, False, 0.01))
    assert read_samples(tmp_path / "absent.csv", started_at=0.0) == ()


@pytest.mark.parametrize(
    ("wei", "text"),
    [(0, "0 wei"), (48 * STOS, "48 STOS"), (308_883_354_243_201, "308,883 gwei"), (10**18 - 1, "1,000 mSTOS")],
)
def test_money_is_readable(wei: int, text: str) -> None:
    """The largest unit with at least one whole, five digits."""
    assert money(wei) == text


def test_sizes_are_readable() -> None:
    """Binary units, three digits."""
    assert [data_size(n) for n in (0, 1023, 1024, 200 * 2**20)] == ["0 B", "1,023 B", "1 KiB", "200 MiB"]
