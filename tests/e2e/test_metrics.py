"""A real small testnet: every metric and label that our alerts and dashboards ask for is exported by its nodes."""

import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import ROOT, Tool

from orchestrator.monitoring.promql import parse
from orchestrator.monitoring.queries import Exports, missing, queries_of
from orchestrator.monitoring.targets import MACHINE_LABELS, NODE_LABELS, node_targets
from orchestrator.testnet.folder import TestnetFolder

ROLE = ROOT / "playbooks" / "roles" / "stratos_monitoring"
EXPORTER = ROOT / "tests" / "unit" / "orchestrator" / "monitoring" / "node_exporter.prom"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """/metrics of every node of a testnet, fetched where our target files say, by role (the last node of each)."""
    tool = Tool(tmp_path_factory.mktemp("metrics"))
    tool.json("up")
    try:
        plan = TestnetFolder(tool.root / "net").need_plan()
        found = {}
        for group in node_targets(plan):
            with urlopen(f"http://{group['targets'][0]}/metrics", timeout=30) as answer:
                found[group["labels"]["role"]] = answer.read().decode()
        return found
    finally:
        tool.run("down", "--purge")


def test_every_query_of_ours_finds_its_metrics_and_labels(answers: dict[str, str]) -> None:
    """Nothing that nodes or machines do not export is asked for by an alert, a panel or a legend."""
    exports = [
        Exports(answers.values(), NODE_LABELS),
        Exports([EXPORTER.read_text(encoding="utf-8")], MACHINE_LABELS),
    ]
    queries = queries_of(ROLE)
    assert len(queries) > 100
    assert [sentence for query in queries for sentence in missing(query, exports)] == []


def test_nodes_export_no_label_that_the_scraper_sets(answers: dict[str, str]) -> None:
    """A label of both would be renamed at the scrape, and every query would miss it."""
    taken = {
        (sample.name, label)
        for text in answers.values()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels
        if label in NODE_LABELS
    }
    assert taken == set()


@pytest.mark.parametrize("role", ["validator", "meta", "resource"])
def test_every_metric_says_what_it_is(answers: dict[str, str], role: str) -> None:
    """HELP and TYPE are there for each, in all three roles."""
    families = list(text_string_to_metric_families(answers[role]))
    assert len(families) > 20
    assert [family.name for family in families if not family.documentation or family.type == "unknown"] == []


def test_what_nodes_export_is_shown_or_watched_somewhere(answers: dict[str, str]) -> None:
    """A number of ours that no panel and no alert uses is dead weight."""
    used = {name for query in queries_of(ROLE) for name in parse(query.expression).metrics}
    exported = {name for name in Exports(answers.values(), NODE_LABELS).metrics if name.startswith("stratos_")}
    assert exported - used == set()
