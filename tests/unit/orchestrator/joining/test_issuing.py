"""What a ticket says follows from the coordinator's folder, and only the coordinator can issue one."""

from __future__ import annotations

import stat

import msgspec
import pytest

from orchestrator.errors import BadInput
from orchestrator.joining.issuing import deposit_wei, stake_wei
from orchestrator.plan.plan import Outcome
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.registration import fees_wei
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
    """Tiers that are none, and a time that no ticket lasts."""
    with pytest.raises(BadInput, match="one of this network's 3 tiers"):
        issue(tier=9)
    with pytest.raises(BadInput, match="366 days"):
        issue(expires_seconds=10**9)


def test_a_validator_is_granted_what_the_coordinator_says(issue: Issue, outcome: Outcome) -> None:
    """Nothing by itself: then it stakes its own, as the smallest founder did; else the grant less fees."""
    assert int(issue(role="validator").body.grant_wei) == 0
    assert stake_wei(0, outcome.genesis) == min(int(one.stake_wei) for one in outcome.genesis.validators)
    granted = int(issue(role="validator", grant_wei=500 * STOS).body.grant_wei)
    assert (granted, stake_wei(granted, outcome.genesis)) == (500 * STOS, 500 * STOS - fees_wei(outcome.genesis))
    assert deposit_wei("validator", 0, outcome.genesis) == 0


def test_a_grant_that_nobody_can_pay_or_use_is_refused(issue: Issue, folder: TestnetFolder, outcome: Outcome) -> None:
    """More than the faucet gives on any day, too little for a vote, or no faucet at all."""
    with pytest.raises(BadInput, match="never pays 200001 STOS, its limit is 200000"):
        issue(role="validator", grant_wei=200_001 * STOS)
    with pytest.raises(BadInput, match="give a validator no vote"):
        issue(role="validator", grant_wei=10**14)
    nodes = (
        msgspec.structs.replace(node, config=msgspec.structs.replace(node.config, faucet=None))
        for node in outcome.plan.nodes
    )
    folder.save_plan(msgspec.structs.replace(outcome.plan, nodes=tuple(nodes)))
    with pytest.raises(BadInput, match="no meta node serves a faucet"):
        issue(grant_wei=STOS)
    assert int(issue(grant_wei=0).body.grant_wei) == 0


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
