"""All queries of our alerts and dashboards, and whether nodes export what they ask for.

`queries_of` reads the files that the role places; `missing` compares one query with `Exports`, which is read from real
/metrics answers. A match on a metric's own label must also be possible: a status or place that no sample has is as wrong as
an unknown label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.monitoring.promql import Selector, parse
from orchestrator.monitoring.targets import MACHINE_LABELS, NODE_LABELS

_LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}")
_VARIABLE = re.compile(r"label_values\((.+), *([a-z_]+)\)")
PROMETHEUS_OWN = {"ALERTS": frozenset({"alertname", "alertstate", "severity"}), "up": frozenset[str]()}


class NamedQuery(Struct, frozen=True):
    """A query, where it stands, and the labels its text (legend, annotation) shows."""

    where: str
    expression: str
    shown: frozenset[str] = frozenset()


class Exports:
    """Metrics with their labels and the values seen, from texts of /metrics."""

    def __init__(self, texts: Iterable[str], target_labels: frozenset[str]) -> None:
        self.target_labels = target_labels
        self._found: dict[str, dict[str, set[str]]] = {}
        for text in texts:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    labels = self._found.setdefault(sample.name, {})
                    for label, value in sample.labels.items():
                        labels.setdefault(label, set()).add(value)

    @property
    def metrics(self) -> frozenset[str]:
        """Names of all metrics seen."""
        return frozenset(self._found)

    def labels(self, metric: str) -> Mapping[str, set[str]] | None:
        """Own labels of a metric with the values seen; None when nobody exports it."""
        return self._found.get(metric)


def queries_of(role: Path) -> list[NamedQuery]:
    """Every alert's and every panel's query below the files of the role."""
    found = [query for path in sorted(role.glob("files/rules/*.yml")) for query in _alerts(path)]
    return found + [query for path in sorted(role.glob("files/dashboards/*.json")) for query in _panels(path)]


def missing(query: NamedQuery, exports: Iterable[Exports]) -> list[str]:
    """What the query uses and nobody exports, one sentence each; empty when all is there."""
    parsed = parse(query.expression)
    sentences: list[str] = []
    known: set[str] = set()
    for selector in parsed.selectors:
        sources = [one for one in exports if one.labels(selector.metric) is not None]
        if selector.metric in PROMETHEUS_OWN:
            own = PROMETHEUS_OWN[selector.metric] | NODE_LABELS | MACHINE_LABELS
            known |= own
            sentences += [f"label {m.label} of {selector.metric}" for m in selector.matchers if m.label not in own]
        elif not sources:
            sentences.append(f"metric {selector.metric}")
        for source in sources:
            known |= source.target_labels | set(source.labels(selector.metric) or {})
            sentences += _unmatched(selector, source)
    sentences += [f"label {label}" for label in sorted((parsed.grouped | query.shown) - known)]
    return [f"{query.where}: nothing exports {sentence}" for sentence in sentences]


def _unmatched(selector: Selector, source: Exports) -> Iterator[str]:
    own = source.labels(selector.metric) or {}
    for match in selector.matchers:
        if match.label in source.target_labels:
            continue
        if match.label not in own:
            yield f"label {match.label} of {selector.metric}"
        elif match.operator == "=" and "$" not in match.value and match.value not in own[match.label]:
            yield f'{selector.metric} with {match.label}="{match.value}"'


def _alerts(path: Path) -> Iterator[NamedQuery]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in document["groups"]:
        for rule in group["rules"]:
            shown = frozenset(_LEGEND.findall(" ".join(rule["annotations"].values())))
            yield NamedQuery(f"{path.name}: {rule['alert']}", rule["expr"], shown)


def _panels(path: Path) -> Iterator[NamedQuery]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for variable in document["templating"]["list"]:
        match = _VARIABLE.fullmatch(variable["query"])
        if match is None:
            raise ValueError(f"{path.name}: variable {variable['name']} is not label_values(query, label)")
        yield NamedQuery(f"{path.name}: ${variable['name']}", match[1], frozenset({match[2]}))
    for panel in document["panels"]:
        for target in panel["targets"]:
            shown = frozenset(_LEGEND.findall(target["legendFormat"]))
            yield NamedQuery(f"{path.name}: {panel['title']}", target["expr"], shown)
