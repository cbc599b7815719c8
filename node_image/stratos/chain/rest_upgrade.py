"""Endpoints about versions of the ledger's rules: which one holds, which one was voted, and what is being voted on.

They tell the chain's state, the same on every node. What this node's program knows beside it is in /status (`newest_rules`).
"""

from stratos.chain import openapi as api
from stratos.chain.openapi import Endpoint, listing, record
from stratos.crypto import bech32
from stratos.ledger import queries, rulebook
from stratos.ledger.machine import Ledger
from stratos.state import State

_BASE = "/stratos/upgrade/v1"
_PLAN = record(rules_version=api.INTEGER, height=api.INTEGER, approved_height=api.INTEGER)
_POLL = record(
    rules_version=api.INTEGER,
    height=api.INTEGER,
    proposer=api.TEXT,
    expires_ms=api.INTEGER,
    approvals=listing(api.TEXT),
    rejections=listing(api.TEXT),
    approving_power=api.INTEGER,
    rejecting_power=api.INTEGER,
    total_power=api.INTEGER,
)


def upgrade_endpoints(state: State, ledger: Ledger) -> tuple[Endpoint, ...]:
    """The table."""
    return (
        Endpoint(
            path=f"{_BASE}/plan",
            summary="The rules version that holds, the approved plan for the next one, and the open polls.",
            answer=lambda _: queries.upgrade(state, ledger.rules, name=_node_text),
            schema=record(
                rules_version=api.INTEGER,
                since_height=api.INTEGER,
                notice_blocks=api.INTEGER,
                plan={**_PLAN, "type": ["object", "null"]},
                polls=listing(_POLL),
            ),
            tag="upgrade",
        ),
        Endpoint(
            path=f"{_BASE}/changes",
            summary="What each rules version that this node's program applies changes.",
            answer=lambda _: {"changes": _changes(ledger.newest_rules)},
            schema=record(changes=listing(record(rules_version=api.INTEGER, says=api.TEXT))),
            tag="upgrade",
        ),
    )


def _changes(newest: int) -> list[dict[str, str]]:
    return [{"rules_version": str(one.since), "says": one.says} for one in rulebook.CHANGES if one.since <= newest]


def _node_text(address: bytes) -> str:
    return bech32.encode(bech32.NODE, address)
