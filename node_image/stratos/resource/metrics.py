"""Numbers of one resource node for Prometheus, read from its books, store and counters when somebody scrapes."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from stratos.net.node_metrics import counters, gauges

if TYPE_CHECKING:
    from stratos.resource.node import ResourceNode

PREFIX = "stratos_resource"


def read_metrics(node: "ResourceNode") -> Iterator[Metric]:
    """All numbers now."""
    counted, store, reporter, books = node.services.counters, node.store, node.reporter, node.books
    yield from counters(
        PREFIX,
        (
            ("received_bytes", "Slice bytes received from clients and other holders", counted.received_bytes),
            ("served_bytes", "Slice bytes served", counted.served_bytes),
            ("forwarded_bytes", "Slice bytes sent on along replication chains", counted.forwarded_bytes),
            ("repaired_bytes", "Slice bytes copied here on repair orders", counted.repaired_bytes),
            ("refused", "Requests and connections refused", counted.refused),
            ("connections", "Connections accepted", counted.connections),
            ("status_refused", "Statuses that the meta layer refused", reporter.statuses_refused),
            ("status_unsent", "Statuses that no meta node took", reporter.statuses_unsent),
            ("receipts_ordered", "Receipts handed in and ordered by the meta layer", reporter.receipts_ordered),
            ("receipts_refused", "Receipts that the meta layer refused", reporter.receipts_refused),
            ("slices_damaged", "Slices found damaged on disk", reporter.slices_damaged),
        ),
    )
    age = time.monotonic() - reporter.last_status if reporter.last_status else time.monotonic() - node.started
    yield from gauges(
        PREFIX,
        (
            ("slices", "Slices here", len(store)),
            ("disk_used_bytes", "Bytes used by slices", store.used_bytes),
            ("disk_free_bytes", "Bytes that can still be taken", store.free_bytes),
            ("connections_open", "Open bulk connections", node.server.connections),
            ("unsubmitted_noz", "Served and not yet ordered by the meta layer", books.unsubmitted_noz()),
            ("epoch", "Epoch by this node's clock", node.epoch()),
            ("meta_height_seen", "Height of the meta layer this node has heard of", node.meta.seen_height),
            ("status_age_seconds", "Since a status was last taken; since start before the first", age),
            ("status_refusal", "1 while the meta layer refuses this node's status, else 0", bool(reporter.refusal)),
        ),
    )
