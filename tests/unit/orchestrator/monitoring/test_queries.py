"""Queries are compared with what is exported, and ours parse, have actions, and stay within the names of node exporter."""

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.monitoring.promql import parse
from orchestrator.monitoring.queries import Exports, NamedQuery, missing, queries_of
from orchestrator.monitoring.targets import MACHINE_LABELS, NODE_LABELS

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "playbooks" / "roles" / "stratos_monitoring"
EXPORTER = Path(__file__).parent / "node_exporter.prom"
"""What a real node exporter 1.5 says, cut down to the metrics our queries use."""
TEXT = """
# TYPE stratos_meta_holders gauge
stratos_meta_holders{status="active"} 1
# TYPE stratos_chain_height gauge
stratos_chain_height 7
"""


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("max by (testnet, role) (stratos_chain_height)", []),
        ('stratos_meta_holders{status="active", node=~"$meta"}', []),
        ('up{job="stratos-nodes"} == 0', []),
        ("stratos_chain_heigth", ["metric stratos_chain_heigth"]),
        ('stratos_meta_holders{state="active"}', ["label state of stratos_meta_holders"]),
        ('stratos_meta_holders{status="asleep"}', ['stratos_meta_holders with status="asleep"']),
        ("sum by (zone) (stratos_chain_height)", ["label zone"]),
    ],
)
def test_what_nobody_exports_is_named(expression: str, said: list[str]) -> None:
    """An unknown metric, label, label value or grouping is one sentence each."""
    found = missing(NamedQuery("here", expression), [Exports([TEXT], NODE_LABELS)])
    assert found == [f"here: nothing exports {one}" for one in said]


def test_labels_in_a_legend_count_too() -> None:
    """A legend that shows a label which no sample has would be empty."""
    query = NamedQuery("here", "stratos_chain_height", frozenset({"node", "zone"}))
    assert missing(query, [Exports([TEXT], NODE_LABELS)]) == ["here: nothing exports label zone"]


def test_machine_queries_use_names_of_a_real_node_exporter() -> None:
    """Every node_* query of ours finds its metric and labels in a real exporter's answer."""
    exports = Exports([EXPORTER.read_text()], MACHINE_LABELS)
    ours = [
        query for query in queries_of(ROLE) if any(name.startswith("node_") for name in parse(query.expression).metrics)
    ]
    assert len(ours) > 10
    assert [sentence for query in ours for sentence in missing(query, [exports])] == []


def test_every_alert_says_what_is_wrong_what_to_do_and_how_urgent_it_is() -> None:
    """An alert without an action is noise."""
    document = yaml.safe_load((ROLE / "files" / "rules" / "stratos.yml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 30
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


@pytest.mark.parametrize("path", sorted(ROLE.glob("files/dashboards/*.json")), ids=lambda path: path.stem)
def test_dashboards_can_be_provisioned(path: Path) -> None:
    """A dashboard's uid is its file's name, its panels have distinct ids and places, and all read our data source."""
    document = json.loads(path.read_text())
    panels = document["panels"]
    assert document["uid"] == path.stem
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "stratos-prometheus"}
        assert panel["description"].endswith(".")
