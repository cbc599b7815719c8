"""Numbers that every node gives Prometheus, whatever its role; each role's own are in its room's `metrics.py`.

Everything is read when somebody scrapes and nothing is kept up to date in between, so numbers that nobody asks for cost
nothing. Names are `stratos_<room>_<what>_<unit>`; what only grows is a counter and ends in `_total`. What describes
a node rather than measures it (version, network) is a label of the one `stratos_node_info`. The labels job, instance,
testnet, node, role, region and machine belong to whoever scrapes and are never exported.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from stratos import __version__
from stratos.net.http import HealthSource

Reading = tuple[str, str, float]
"""(name without prefix, HELP text, value)"""


def gauges(prefix: str, readings: Iterable[Reading]) -> Iterator[Metric]:
    """One gauge per reading."""
    for name, about, value in readings:
        yield GaugeMetricFamily(f"{prefix}_{name}", about, value=value)


def counters(prefix: str, readings: Iterable[Reading]) -> Iterator[Metric]:
    """One counter per reading; `_total` is added to its name."""
    for name, about, value in readings:
        yield CounterMetricFamily(f"{prefix}_{name}", about, value=value)


def labelled(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    """One gauge with a value per label."""
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


class ScrapeCollector(Collector):
    """What `read` yields at each scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """The numbers now."""
        return self._read()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would otherwise take a reading while the node is still being put together."""
        return ()


def node_registry(
    *, network: str, home: Path, health: HealthSource, read: Callable[[], Iterable[Metric]]
) -> CollectorRegistry:
    """The registry behind /metrics: the process, what all nodes have, and the role's own `read`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)

    def common() -> Iterator[Metric]:
        about = "What this node is; the value is always 1"
        yield InfoMetricFamily("stratos_node", about, value={"version": __version__, "network": network})
        disk = os.statvfs(home)
        yield from gauges(
            "stratos_node",
            (
                ("healthy", "1 when /health says so, else 0", float(health() is None)),
                ("disk_free_bytes", "Bytes free for this node on its file system", disk.f_bavail * disk.f_frsize),
                ("disk_size_bytes", "Size of the file system this node's home is on", disk.f_blocks * disk.f_frsize),
            ),
        )

    registry.register(ScrapeCollector(common))
    registry.register(ScrapeCollector(read))
    return registry
