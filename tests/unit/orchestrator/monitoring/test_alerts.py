"""promtool, Prometheus' own checker, on our rules and on every query: it is the judge of syntax, and of when alerts fire.

Skipped where promtool is not installed (package `prometheus` of the distribution); machines that the role sets up have it
and check the rules again before Prometheus reads them.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.monitoring.queries import queries_of

ROOT = Path(__file__).resolve().parents[4]
ROLE = ROOT / "playbooks" / "roles" / "stratos_monitoring"
RULES = ROLE / "files" / "rules" / "stratos.yml"
CASES = Path(__file__).parent / "alerts_test.yml"


@pytest.fixture
def promtool() -> str:
    """Path of promtool."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed here; apt-get install prometheus")
    return found


def run(*command: str | Path) -> None:
    """Run a checker; its words on failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """The rules load."""
    run(promtool, "check", "rules", RULES)


def test_promtool_accepts_every_query_of_the_dashboards(promtool: str, tmp_path: Path) -> None:
    """Each dashboard query is PromQL, once Grafana's variables have values."""
    rules = [
        {"record": f"query:{number}", "expr": query.expression.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries_of(ROLE))
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run(promtool, "check", "rules", path)


def test_alerts_fire_when_they_should_and_are_silent_when_not(promtool: str, tmp_path: Path) -> None:
    """The cases of alerts_test.yml, evaluated by promtool over synthetic series."""
    cases = tmp_path / CASES.name
    cases.write_text(CASES.read_text().replace("stratos.yml", str(RULES)))
    run(promtool, "test", "rules", cases)


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    """No alert is untested."""
    cases = yaml.safe_load(CASES.read_text())
    rules = yaml.safe_load(RULES.read_text())
    fired = {
        sample["labels"].split('"')[1]
        for case in cases["tests"]
        for test in case["promql_expr_test"]
        for sample in test["exp_samples"]
    }
    assert {rule["alert"] for group in rules["groups"] for rule in group["rules"]} - fired == set()
