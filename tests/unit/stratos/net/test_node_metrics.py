"""What every node gives Prometheus: names, HELP texts, and readings taken at the scrape."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from stratos import __version__
from stratos.net.node_metrics import counters, gauges, labelled, node_registry


def registry(home: Path, *, health: str | None = None, height: list[int] | None = None) -> CollectorRegistry:
    reading = height if height is not None else [7]

    def read() -> Iterator[Metric]:
        yield from gauges("stratos_chain", [("height", "Height of the newest block", reading[0])])
        yield from counters("stratos_chain", [("blocks", "Blocks committed", 3)])
        yield labelled("stratos_meta_holders", "Resource nodes by status", "status", {"active": 2, "removed": 0})

    return node_registry(network="net", home=home, health=lambda: health, read=read)


def test_every_sample_has_a_help_text_and_a_type(tmp_path: Path) -> None:
    """A person who meets a number learns from HELP what it is."""
    families = list(text_string_to_metric_families(generate_latest(registry(tmp_path)).decode()))
    assert {family.name for family in families} >= {"stratos_chain_height", "stratos_node_info", "stratos_node_healthy"}
    assert [family.name for family in families if not family.documentation or family.type == "unknown"] == []


def test_numbers_are_read_when_somebody_scrapes(tmp_path: Path) -> None:
    """A gauge shows the value of now, not that of the time it was registered."""
    height = [1]
    made = registry(tmp_path, height=height)
    height[0] = 2
    assert made.get_sample_value("stratos_chain_height") == 2


def test_what_a_node_is_stands_in_the_labels_of_one_metric(tmp_path: Path) -> None:
    """Version and network are labels of stratos_node_info."""
    labels = {"version": __version__, "network": "net"}
    assert registry(tmp_path).get_sample_value("stratos_node_info", labels) == 1


@pytest.mark.parametrize(("reason", "value"), [(None, 1), ("no block for 9 s", 0)])
def test_health_is_a_number_too(tmp_path: Path, reason: str | None, value: int) -> None:
    """stratos_node_healthy follows what /health says."""
    assert registry(tmp_path, health=reason).get_sample_value("stratos_node_healthy") == value


def test_counters_end_in_total_and_labels_keep_zeros(tmp_path: Path) -> None:
    """A counter is named `_total`, and a label value without members is shown as 0 rather than left out."""
    made = registry(tmp_path)
    assert made.get_sample_value("stratos_chain_blocks_total") == 3
    assert made.get_sample_value("stratos_meta_holders", {"status": "removed"}) == 0
