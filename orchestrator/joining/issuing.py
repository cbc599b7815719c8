"""The coordinator's side of joining: a ticket made from what the testnet's folder says, signed with the coordinator's key.

A ticket grants what the faucet shall pay for it: the deposit of its role and tier, and fees. Validators are not invited: they
find each other by their configuration only, so one that its peers were not told of could never vote.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.plan.plan import NodePlan
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.registration import FEES
from orchestrator.topology.topology import META_DEPOSIT_WEI
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.ticket import TICKET_VERSION, MetaSeed, Ticket, TicketBody, ValidatorSeed, sign_ticket

SEEDS = 3
"""Entry points of each layer in a ticket: enough that two may be down, few enough that it stays short."""
MOST_SECONDS = 366 * 86_400


class TicketWish(Struct, frozen=True, kw_only=True):
    """What a ticket shall allow. `grant_wei` None: deposit and fees; `uses`: how many nodes may join with it."""

    role: str
    tier: int = 0
    expires_seconds: int
    uses: int = 1
    grant_wei: int | None = None
    public_files: str = ""
    hardware_factor: float = 1.0
    """How much of the recommended hardware the machine must have, over 0 and up to 1."""


def make_ticket(folder: TestnetFolder, wish: TicketWish, *, now_ms: int, ticket_id: bytes) -> Ticket:
    """A signed ticket; raises BadInput when this folder cannot issue it."""
    plan = folder.need_plan()
    if plan.outside is not None:
        raise BadInput(
            f"testnet {plan.name} takes part in a network of others; its coordinator issues tickets, not you"
        )
    ring = folder.ring()
    if not ring.coordinator:
        raise BadInput(
            f"testnet {plan.name} has no coordinator's key yet; run `stratosctl up -i {plan.source}` once, which makes it"
        )
    if wish.role == "validator":
        raise BadInput(
            "validators cannot be invited: they find each other by the inventory only; add the host to group validators and "
            f"run `stratosctl up -i {plan.source}`, or invite a resource or meta node"
        )
    if not 60 <= wish.expires_seconds <= MOST_SECONDS:
        raise BadInput(f"a ticket lasts from 60 seconds to 366 days, not {wish.expires_seconds} seconds")
    genesis = folder.need_genesis()
    key = ring.coordinator_key()
    faucet = next((node.http for node in plan.nodes if node.config.faucet is not None), "")
    body = TicketBody(
        version=TICKET_VERSION,
        id=ticket_id,
        network=genesis.network,
        genesis_hash=genesis_hash(genesis),
        role=wish.role,
        tier=_tier(wish, genesis),
        hardware_permille=max(1, round(1000 * wish.hardware_factor)),
        grant_wei=str(_grant(wish, genesis, faucet=faucet)),
        uses=wish.uses,
        issued_ms=now_ms,
        expires_ms=now_ms + 1000 * wish.expires_seconds,
        coordinator=key.public_key,
        meta=tuple(
            MetaSeed(node.name, node.config.network_address, _host_port(node), bytes.fromhex(node.public_key))
            for node in _seeds(plan.nodes, "meta")
        ),
        validators=tuple(
            ValidatorSeed(node.name, _host_port(node), node.config.network_address, bytes.fromhex(node.public_key))
            for node in _seeds(plan.nodes, "validator")
        ),
        faucet=faucet,
        public_files=wish.public_files,
        slice_transport=plan.nodes[0].config.slice_transport,
    )
    return sign_ticket(key, body)


def deposit_wei(role: str, tier: int, genesis: Genesis) -> int:
    """What a node of this role and tier deposits."""
    if role == "meta":
        return max(META_DEPOSIT_WEI, int(genesis.ledger.register.min_deposit_wei))
    return int(genesis.meta.tier_wei[tier - 1])


def _tier(wish: TicketWish, genesis: Genesis) -> int:
    if wish.role != "resource":
        if wish.tier:
            raise BadInput(f"a {wish.role} node has no tier; leave --tier away")
        return 0
    tiers = len(genesis.meta.tier_wei)
    tier = wish.tier or 1
    if not 1 <= tier <= tiers:
        raise BadInput(f"tier {tier} is not one of this network's {tiers} tiers; name one from 1 to {tiers}")
    return tier


def _grant(wish: TicketWish, genesis: Genesis, *, faucet: str) -> int:
    if wish.grant_wei is not None:
        return wish.grant_wei
    if not faucet:
        return 0
    fees = FEES * int(genesis.ledger.gas_price_wei)
    return deposit_wei(wish.role, _tier(wish, genesis), genesis) + fees


def _seeds(nodes: Iterable[NodePlan], role: str) -> list[NodePlan]:
    return [node for node in nodes if node.role == role][:SEEDS]


def _host_port(node: NodePlan) -> str:
    return urlsplit(node.http).netloc
