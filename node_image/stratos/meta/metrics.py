"""Numbers of one meta node for Prometheus, read from its committed state when somebody scrapes.

What all meta nodes agree on (holders, ozone, reports) is told by each of them, so queries take `max` over the layer and
see it while any of them is up. The walks over holders, earners and open repair orders are as long as those rooms:
thousands at most, a few milliseconds every scrape.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric

from stratos.crypto import bech32
from stratos.meta import ozone
from stratos.meta.holders import all_holders
from stratos.meta.machine import get_clock
from stratos.meta.outbox import authorities, in_flight
from stratos.meta.rooms import (
    ACTIVE,
    CHAIN_HEIGHT,
    DISPUTE,
    EARNER,
    IN_FLIGHT,
    LAST_REPORT,
    MAINTENANCE,
    REMOVED,
    REPAIR,
    REPORT,
    SHORT,
    SUSPENDED,
    UNAVAILABLE,
    UNBONDING,
    u64,
)
from stratos.net.node_metrics import counters, gauges, labelled
from stratos.state import Reader

if TYPE_CHECKING:
    from stratos.meta.node import MetaNode

PREFIX = "stratos_meta"
STATUSES = (ACTIVE, SUSPENDED, UNAVAILABLE, MAINTENANCE, UNBONDING, REMOVED)


def read_metrics(node: "MetaNode") -> Iterator[Metric]:
    """All numbers now."""
    application, state = node.application, node.application.state
    yield from counters(
        PREFIX,
        (
            ("blocks", "Blocks committed by this process", node.blocks),
            ("entries", "Entries committed by this process", node.entries),
            ("extra_rounds", "Consensus rounds beyond the first that blocks needed", node.extra_rounds),
            ("refused_messages", "Consensus messages that broke a rule", node.host.refused),
            ("signature_checks", "Signatures really checked by this process", application.signatures.checks),
            ("possession_asked", "Possession challenges judged by this process", node.challenger.asked),
            ("possession_failed", "Possession challenges failed, as judged by this process", node.challenger.failed),
        ),
    )
    clock = get_clock(state)
    yield from gauges(
        PREFIX,
        (
            ("height", "Height of the log", application.height),
            ("block_time_seconds", "Unix time written in the newest block", clock.time_ms / 1000),
            ("round", "Consensus round of the next height", node.replica.round),
            ("authorities", "Meta nodes that are members of the layer", len(authorities(state))),
            (
                "voting",
                "1 when this meta node votes on the next height, else 0",
                node.key.address in node.replica.validators,
            ),
            ("peers", "Meta nodes connected", len(node.mesh.up)),
            ("peers_configured", "Meta nodes that should be connected", len(node.mesh.peers)),
            ("pool_entries", "Entries waiting", len(application.pool)),
            ("chain_height", "Chain height in the log", CHAIN_HEIGHT.get(state)),
            ("chain_height_seen", "Chain height this node has heard of", node.follower.seen_height),
            ("actions_in_flight", "Outbox actions waiting for signatures or the chain", len(in_flight(state))),
            ("state_keys", "Keys in the committed state", len(state)),
            ("connections_open", "Open RPC connections", node.server.connections),
            ("epoch", "Epoch of the newest block", clock.epoch),
            ("disputes", "Served steps in dispute", sum(1 for _ in DISPUTE.items(state))),
        ),
    )
    yield from _reports(state, clock.time_ms)
    yield from _holders(state)
    yield from _repair(state)
    about = "Where all ozone is: sold is the sum of the other places (noz)"
    sheet = {place.decode(): float(noz) for place, noz in ozone.sheet(state).items()}
    yield labelled(f"{PREFIX}_ozone_noz", about, "place", sheet)


def _reports(state: Reader, now_ms: int) -> Iterator[Metric]:
    """Volume reports: the newest, whether it waits for the chain and since when, and whether the chain refused it."""
    newest, waiting = LAST_REPORT.get(state), IN_FLIGHT.get(state)
    report = REPORT.get(state, u64(newest))
    flying = REPORT.get(state, u64(waiting)) if waiting else None
    earners = [earner for _, earner in EARNER.items(state)]
    yield from gauges(
        PREFIX,
        (
            ("report_epoch", "Epoch of the newest volume report, 0 before the first", newest),
            ("report_volume_noz", "Volume in the newest report", report.total_noz if report is not None else 0),
            (
                "report_waiting_seconds",
                "How long a volume report has waited for the chain, 0 when none does",
                (now_ms - flying.created_ms) / 1000 if flying is not None else 0,
            ),
            (
                "report_refused",
                "1 when the chain refused the newest volume report, else 0",
                report is not None and report.outcome not in ("", "included"),
            ),
            ("unsettled_noz", "Earned by receipts that no report has taken yet", sum(e.unsettled_noz for e in earners)),
        ),
    )
    receipts = sum(earner.next_seq for earner in earners)
    yield from counters(PREFIX, (("receipts", "Receipts ordered since genesis, of all resource nodes", receipts),))


def _holders(state: Reader) -> Iterator[Metric]:
    """Resource nodes by status, and the score of each that counts."""
    holders = list(all_holders(state))
    found = Counter(holder.status for holder in holders)
    yield labelled(
        f"{PREFIX}_holders", "Resource nodes by status", "status", {status: found[status] for status in STATUSES}
    )
    score = GaugeMetricFamily(f"{PREFIX}_holder_score", "Score of a resource node", labels=["address", "holder"])
    for holder in holders:
        if not holder.removed:
            score.add_metric([bech32.encode(bech32.NODE, holder.address), holder.name], holder.score)
    yield score
    live = [holder for holder in holders if holder.status == ACTIVE]
    yield from gauges(
        PREFIX,
        (
            (
                "holders_degraded",
                "Resource nodes whose last status says that data is damaged",
                sum(bool(h.degraded) for h in holders),
            ),
            (
                "slice_copies",
                "Copies of slices on resource nodes that are not removed",
                sum(h.slices for h in holders if not h.removed),
            ),
            ("free_bytes", "Bytes that active resource nodes can still take", sum(h.disk_free for h in live)),
        ),
    )


def _repair(state: Reader) -> Iterator[Metric]:
    """Copies that are missing, and those being made."""
    orders = [order for _, order in REPAIR.items(state)]
    yield from gauges(
        PREFIX,
        (
            ("repair_orders", "Repair orders open", len(orders)),
            ("repair_slices", "Slices in open repair orders", sum(len(order.slices) for order in orders)),
            (
                "short_slices",
                "Slices with fewer copies than wanted though no holder was lost",
                sum(1 for _ in SHORT.items(state)),
            ),
        ),
    )
