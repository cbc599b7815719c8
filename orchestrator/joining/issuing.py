"""The coordinator's side of joining: a ticket made from what the testnet's folder says, signed with the coordinator's key.

A ticket grants what the faucet shall pay for it: the deposit of its role and tier, and fees. A validator's stake is its weight in
every vote of the chain, so who pays it is never left to a default: its ticket grants what the coordinator says, or else nothing, and
the participant's wallet stakes.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.joining.form import stos_text
from orchestrator.plan.plan import NodePlan
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.registration import fees_wei
from orchestrator.topology.topology import META_DEPOSIT_WEI
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.ticket import TICKET_VERSION, MetaSeed, Ticket, TicketBody, ValidatorSeed, sign_ticket

SEEDS = 3
"""Entry points of each layer in a ticket: enough that two may be down, few enough that it stays short."""
MOST_SECONDS = 366 * 86_400


class TicketWish(Struct, frozen=True, kw_only=True):
    """What a ticket shall allow. `grant_wei` None: deposit and fees, for a validator nothing; `uses`: how many nodes may join."""

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
    if not 60 <= wish.expires_seconds <= MOST_SECONDS:
        raise BadInput(f"a ticket lasts from 60 seconds to 366 days, not {wish.expires_seconds} seconds")
    genesis = folder.need_genesis()
    key = ring.coordinator_key()
    payer = next((node for node in plan.nodes if node.config.faucet is not None), None)
    body = TicketBody(
        version=TICKET_VERSION,
        id=ticket_id,
        network=genesis.network,
        genesis_hash=genesis_hash(genesis),
        role=wish.role,
        tier=_tier(wish, genesis),
        hardware_permille=max(1, round(1000 * wish.hardware_factor)),
        grant_wei=str(_grant(wish, genesis, payer)),
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
        faucet=payer.http if payer is not None else "",
        public_files=wish.public_files,
        slice_transport=plan.nodes[0].config.slice_transport,
    )
    return sign_ticket(key, body)


def deposit_wei(role: str, tier: int, genesis: Genesis) -> int:
    """What a node of this role and tier deposits; nothing for a validator, which stakes (`stake_wei`)."""
    if role == "validator":
        return 0
    if role == "meta":
        return max(META_DEPOSIT_WEI, int(genesis.ledger.register.min_deposit_wei))
    return int(genesis.meta.tier_wei[tier - 1])


def stake_wei(grant_wei: int, genesis: Genesis) -> int:
    """What an invited validator stakes: what its ticket grants beside fees, or as much as the smallest validator of the genesis."""
    granted = grant_wei - fees_wei(genesis)
    return granted if granted > 0 else min(int(one.stake_wei) for one in genesis.validators)


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


def _grant(wish: TicketWish, genesis: Genesis, payer: NodePlan | None) -> int:
    """What the faucet pays each node; raises BadInput for what it could never pay."""
    if wish.grant_wei is None:
        if payer is None or wish.role == "validator":
            return 0
        return deposit_wei(wish.role, _tier(wish, genesis), genesis) + fees_wei(genesis)
    if not wish.grant_wei:
        return 0
    faucet = payer.config.faucet if payer is not None else None
    if faucet is None:
        raise BadInput(f"no meta node serves a faucet that could pay {wish.grant_wei} wei; leave --grant away")
    most = min(int(faucet.day_wei), int(faucet.total_wei))
    if wish.grant_wei > most:
        raise BadInput(
            f"the faucet never pays {stos_text(wish.grant_wei)} STOS, its limit is {stos_text(most)}; grant less, or raise "
            "stratos_faucet_day_stos and stratos_faucet_total_stos and run `up`"
        )
    least = int(genesis.ledger.staking.power_unit_wei) + fees_wei(genesis)
    if wish.role == "validator" and wish.grant_wei < least:
        raise BadInput(
            f"{stos_text(wish.grant_wei)} STOS give a validator no vote; grant at least {stos_text(least)}, which is one unit of "
            "voting weight and fees, or leave --grant away for one that brings its own stake"
        )
    return wish.grant_wei


def _seeds(nodes: Iterable[NodePlan], role: str) -> list[NodePlan]:
    return [node for node in nodes if node.role == role][:SEEDS]


def _host_port(node: NodePlan) -> str:
    return urlsplit(node.http).netloc
