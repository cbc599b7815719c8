"""The public status as one HTML file: no script, nothing fetched from elsewhere, light and dark, readable as text.

Names come from the chain's register, where strangers write them, so everything is escaped.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

ROLES = ("validator", "meta", "resource")


class PublicNodeStatus(Struct, frozen=True, kw_only=True):
    """One node. `whose`: coordinator or participant."""

    name: str
    role: str
    whose: str
    healthy: bool
    height: int
    node: str


class PublicStatus(Struct, frozen=True, kw_only=True):
    """`status.json`. State roots: None when fewer than two nodes could be compared."""

    network: str
    genesis_hash: str
    time_ms: int
    height: int
    meta_height: int
    state_roots_equal: bool | None
    meta_state_roots_equal: bool | None
    nodes: tuple[PublicNodeStatus, ...]
    faucet: str = ""


def render_page(status: PublicStatus, *, coordinator: str) -> str:
    """The page as text."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    counts = Counter(node.role for node in status.nodes)
    healthy = Counter(node.role for node in status.nodes if node.healthy)
    return templates.get_template("page.html.j2").render(
        status=status,
        coordinator=coordinator,
        roles=[(role, counts[role], healthy[role]) for role in ROLES],
        verdict=verdict(status),
        time=datetime.fromtimestamp(status.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def verdict(status: PublicStatus) -> str:
    """One sentence, no stronger than what was seen."""
    if False in (status.state_roots_equal, status.meta_state_roots_equal):
        return "State roots differ: the coordinator is looking into it."
    if not status.height or not status.meta_height:
        return "The network does not answer."
    sick = [node.name for node in status.nodes if not node.healthy]
    if sick:
        return f"Running; {len(sick)} of {len(status.nodes)} nodes are not well."
    return f"Running; all {len(status.nodes)} nodes are well."
