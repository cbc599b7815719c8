"""What a ticket says follows from the coordinator's folder, and only the coordinator can issue one."""

from __future__ import annotations

import stat

import msgspec
import pytest

from orchestrator.errors import BadInput
from orchestrator.plan.plan import Outcome
from orchestrator.testnet.folder import TestnetFolder
from stratos.client.records import Endpoints
from stratos.crypto.keyfile import load_node_key
from stratos.wire.genesis import genesis_hash
from stratos.wire.ticket import Ticket, dump_ticket, read_ticket
from tests.unit.orchestrator.joining.conftest import NOW, Issue

STOS = 10**18


def test_a_ticket_says_what_the_folder_says(issue: Issue, outcome: Outcome) -> None:
    """Network, genesis, three seeds of each layer with their keys, the faucet's node, and the deposit with fees."""
    body = read_ticket(dump_ticket(issue(tier=2))).body
    assert (body.network, body.genesis_hash) == ("net", genesis_hash(outcome.genesis))
    assert [seed.name for seed in body.meta] == ["m1", "m2", "m3"]
    assert [seed.name for seed in body.validators] == ["v1", "v2", "v3"]
    assert body.meta[0].public_key.hex() == outcome.plan.node("m1").public_key
    assert body.faucet == outcome.plan.node("m1").http
    assert (body.role, body.tier, body.expires_ms) == ("resource", 2, NOW + 3_600_000)
    assert 1_600 * STOS < int(body.grant_wei) < 1_601 * STOS


def test_a_meta_node_has_no_tier(issue: Issue) -> None:
    """Its deposit is the role's; asking for a tier is a mistake."""
    assert issue(role="meta").body.tier == 0
    assert 100 * STOS < int(issue(role="meta").body.grant_wei) < 101 * STOS
    with pytest.raises(BadInput, match="no tier"):
        issue(role="meta", tier=1)


def test_what_cannot_be_invited_is_refused_with_the_way_to_go(issue: Issue) -> None:
    """Validators, tiers that are none, and a time that no ticket lasts."""
    with pytest.raises(BadInput, match="group validators"):
        issue(role="validator")
    with pytest.raises(BadInput, match="366 days"):
        issue(expires_seconds=10**9)


def test_only_the_coordinator_issues(issue: Issue, folder: TestnetFolder, outcome: Outcome) -> None:
    """Not a participant's folder, and not one that has no coordinator's key."""
    folder.save_plan(msgspec.structs.replace(outcome.plan, outside=Endpoints()))
    with pytest.raises(BadInput, match="its coordinator issues"):
        issue()
    folder.save_plan(outcome.plan)
    folder.save_ring(msgspec.structs.replace(outcome.ring, coordinator=""))
    with pytest.raises(BadInput, match="stratosctl up"):
        issue()


def test_the_coordinators_key_is_a_private_file(folder: TestnetFolder, issue: Issue) -> None:
    """It signs the tickets and only its owner may read it."""
    assert stat.S_IMODE(folder.coordinator_file.stat().st_mode) == 0o600
    ticket: Ticket = issue()
    assert load_node_key(folder.coordinator_file).public_key == ticket.body.coordinator
