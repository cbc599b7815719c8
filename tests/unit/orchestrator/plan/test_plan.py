"""The pure planner: what follows from a topology and from what exists."""

from __future__ import annotations

import pytest
from msgspec import structs

from orchestrator.errors import BadInput
from orchestrator.plan.diff import difference
from orchestrator.plan.keys import KeyRing, complete_ring
from orchestrator.plan.plan import Existing, Outcome, OutsideNetwork
from orchestrator.plan.reach import reach_of
from orchestrator.testnet.folder import endpoints_of, files_of
from orchestrator.topology.raw import RawHost, RawInventory, RawValue
from orchestrator.topology.topology import Topology, topology_of
from stratos.crypto.keys import node_address
from stratos.wire.config import NodeConfig, dump_config
from tests.unit.orchestrator.plan.conftest import Planner, counter, topology


def kept(outcome: Outcome) -> Existing:
    """What the next run finds."""
    placed = frozenset(node.name for node in (*outcome.plan.nodes, *outcome.plan.leaving))
    return Existing(outcome.ring, outcome.plan, outcome.genesis, homes=placed)


def configs(outcome: Outcome) -> dict[str, NodeConfig | None]:
    return {node.name: node.config for node in outcome.plan.nodes}


def test_genesis_holds_every_node_with_its_money(planner: Planner) -> None:
    """Validators have their stake, meta and resource nodes are bonded with all their deposit effective, wallets are funded."""
    outcome = planner(topology())
    genesis, ring = outcome.genesis, outcome.ring
    assert [entry.name for entry in genesis.validators] == ["v1", "v2", "v3", "v4"]
    assert [entry.name for entry in genesis.meta_nodes] == ["m1", "m2", "m3", "m4"]
    assert [entry.name for entry in genesis.resource_nodes] == ["r1", "r2", "r3", "r4", "r5", "r6"]
    assert all(entry.effective_wei == entry.deposit_wei != "0" for entry in genesis.meta_nodes + genesis.resource_nodes)
    balances = {account.address: int(account.balance_wei) for account in genesis.accounts}
    user = ring.wallet_key("user").address
    (prepay, _probe) = genesis.prepays
    assert (prepay.sender, prepay.beneficiary) == (user, user)
    assert balances[user] == 100_000 * 10**18 + int(prepay.amount_wei)
    assert len(balances) == 3 + 14


def test_every_node_knows_its_own_layer_and_its_entry_points_only(planner: Planner) -> None:
    """Validators know validators, meta nodes also validators, resource nodes both layers but not each other."""
    configs_by_name = configs(planner(topology()))
    validator, meta, resource = (configs_by_name[name] for name in ("v1", "m1", "r1"))
    assert validator is not None
    assert meta is not None
    assert resource is not None
    assert [peer.name for peer in validator.peers] == ["v2", "v3", "v4"]
    assert (validator.validators, validator.meta) == ((), ())
    assert [peer.name for peer in meta.peers] == ["m2", "m3", "m4"]
    assert [peer.name for peer in meta.validators] == ["v1", "v2", "v3", "v4"]
    assert resource.peers == ()
    assert [peer.name for peer in resource.meta] == ["m1", "m2", "m3", "m4"]
    assert [peer.name for peer in resource.validators] == ["v1", "v2", "v3", "v4"]


def test_peer_entries_are_the_identities_of_the_ring(planner: Planner) -> None:
    """An entry's key is the key in that node's home, and its endpoint that node's p2p port."""
    outcome = planner(topology())
    config = outcome.plan.node("m1").config
    for peer in config.peers:
        key = outcome.ring.nodes[peer.name].node_key()
        assert peer.public_key == key.public_key.hex()
        assert node_address(bytes.fromhex(peer.public_key)) == key.address
        assert peer.endpoint == f"127.0.0.1:{outcome.plan.node(peer.name).config.ports.p2p}"


def test_a_resource_node_is_reached_at_its_slice_port(planner: Planner) -> None:
    """Genesis and config advertise the port on which slices move."""
    outcome = planner(topology())
    config = outcome.plan.node("r1").config
    assert config.network_address == f"127.0.0.1:{config.ports.bulk}"
    assert outcome.genesis.resource_nodes[0].network_address == config.network_address


def test_planning_again_changes_nothing(planner: Planner) -> None:
    """Keys, ports and genesis of an existing testnet are kept; the difference to what is placed is empty."""
    first = planner(topology())
    second = planner(topology(), kept(first))
    assert second == first
    assert difference(second.plan, configs(first)).empty


def test_one_more_resource_node_touches_only_itself(planner: Planner) -> None:
    """The genesis stays, nobody else's config changes, and the new node is to register itself."""
    first = planner(topology())
    second = planner(topology(resource=7), kept(first))
    changes = difference(second.plan, configs(first))
    assert second.genesis == first.genesis
    assert changes.names("added") == ("r7",)
    assert changes.names("changed") == changes.names("removed") == ()
    assert [node.name for node in second.plan.nodes if node.registers] == ["r7"]


@pytest.mark.parametrize(("role", "name"), [("validators", "v5"), ("meta", "m5")])
def test_one_more_node_of_any_role_touches_only_itself(planner: Planner, role: str, name: str) -> None:
    """The newcomer's config lists everybody; nobody else's file changes, now or when planned again, and it registers."""
    first = planner(topology())
    second = planner(topology(**{role: 5}), kept(first))
    changes = difference(second.plan, configs(first))
    assert changes.names("added") == (name,)
    assert changes.names("changed") == changes.names("removed") == ()
    assert len(second.plan.node(name).config.peers) == 4
    assert [node.name for node in second.plan.nodes if node.registers] == [name]
    assert planner(topology(**{role: 5}), kept(second)) == second


@pytest.mark.parametrize(("role", "name"), [("validators", "v4"), ("meta", "m4"), ("resource", "r6")])
def test_one_fewer_node_of_any_role_touches_only_itself(planner: Planner, role: str, name: str) -> None:
    """Others keep the entry of a node that left."""
    first = planner(topology())
    second = planner(topology(**{role: int(name[1]) - 1}), kept(first))
    changes = difference(second.plan, configs(first))
    assert changes.names("removed") == (name,)
    assert changes.names("changed") == changes.names("added") == ()


def test_a_node_that_leaves_keeps_its_ports_until_it_is_gone(planner: Planner) -> None:
    """A newcomer never gets the ports of a node that still runs, however often it is planned before that one is out."""
    first = planner(topology(resource=4))
    swapped = structs.replace(
        topology(resource=5), nodes=tuple(node for node in topology(resource=5).nodes if node.name != "r2")
    )
    second = planner(swapped, kept(first))
    third = planner(swapped, kept(second))
    for outcome in (second, third):
        assert [node.name for node in outcome.plan.leaving] == ["r2"]
        assert outcome.plan.ports.nodes["r2"] == first.plan.ports.nodes["r2"] != outcome.plan.ports.nodes["r5"]
    gone = planner(swapped, structs.replace(kept(third), homes=frozenset({"r1"})))
    assert gone.plan.leaving == ()
    assert "r2" not in gone.plan.ports.nodes


def test_a_list_of_which_nobody_is_left_is_made_anew(planner: Planner) -> None:
    """Where all meta nodes are exchanged, others get the new ones while the old ones are still there; then that stays."""
    first = planner(topology(meta=1))
    renamed = [host for host in topology(meta=2).nodes if host.name != "m1"]
    second = planner(structs.replace(topology(meta=2), nodes=tuple(renamed)), kept(first))
    assert [entry.name for entry in second.plan.node("r1").config.meta] == ["m2", "m1"]
    assert [entry.name for entry in second.plan.node("m2").config.peers] == ["m1"]
    assert planner(structs.replace(topology(meta=2), nodes=tuple(renamed)), kept(second)) == second


def test_a_peer_that_moves_is_told_to_those_that_know_it(planner: Planner) -> None:
    """An entry of a node that is still there follows its endpoint."""
    first = planner(topology())
    moved = topology(everywhere={"stratos_address": "10.9.8.7"})
    assert {entry.endpoint.rpartition(":")[0] for entry in planner(moved, kept(first)).plan.node("r1").config.meta} == {
        "10.9.8.7"
    }


def test_a_node_that_left_is_removed_and_keeps_its_keys(planner: Planner) -> None:
    """The ring remembers a removed node, so that coming back it is the same node."""
    first = planner(topology())
    second = planner(topology(resource=5), kept(first))
    assert difference(second.plan, configs(first)).names("removed") == ("r6",)
    third = planner(topology(), kept(second))
    assert third.plan.node("r6").node == first.plan.node("r6").node


def test_a_node_that_comes_back_registers_again(planner: Planner) -> None:
    """A node that left has unbonded, so being in the genesis file no longer makes it a member; nobody else is affected."""
    first = planner(topology())
    second = planner(topology(resource=5), kept(first))
    third = planner(topology(), kept(second))
    fourth = planner(topology(), kept(third))
    assert (first.plan.left, second.plan.left, third.plan.left) == ((), ("r6",), ("r6",))
    for outcome in (third, fourth):
        assert [node.name for node in outcome.plan.nodes if node.registers] == ["r6"]
        assert outcome.plan.node("r6").config.deposit_wei == str(800 * 10**18)
        assert outcome.plan.node("r5").config.deposit_wei == "0"


def test_a_changed_setting_of_a_node_is_explained(planner: Planner) -> None:
    """The reason names the field with its old and new value."""
    first = planner(topology())
    second = planner(topology(everywhere={"stratos_slice_transport": "plain"}), kept(first))
    (reason,) = difference(second.plan, configs(first)).nodes[0].reasons
    assert reason == 'slice_transport: "tls" -> "plain"'


def test_genesis_settings_of_a_running_testnet_cannot_change(planner: Planner) -> None:
    """Every changed variable is named with both values and the way out."""
    first = planner(topology())
    wanted = topology(everywhere={"stratos_epoch_seconds": 5, "stratos_copies": 2})
    with pytest.raises(BadInput) as caught:
        planner(wanted, kept(first))
    text = str(caught.value)
    assert "stratos_epoch_seconds is 600.0 and cannot become 5" in text
    assert "stratos_copies is 4 and cannot become 2" in text
    assert "down --purge" in text


def test_a_home_that_lost_its_config_is_changed(planner: Planner) -> None:
    """A damaged home is mended, not ignored."""
    first = planner(topology())
    placed = configs(first) | {"m2": None}
    assert difference(first.plan, placed).names("changed") == ("m2",)


def test_the_ring_only_grows() -> None:
    """Completing a ring never replaces a key, and completing a complete ring gives it back."""
    random = counter()
    ring = complete_ring(KeyRing(), ["a", "b"], random)
    more = complete_ring(ring, ["b", "c"], random)
    assert {name: more.nodes[name] for name in ("a", "b")} == ring.nodes
    assert complete_ring(more, ["a"], random) is more


def test_secrets_are_not_in_reprs(planner: Planner) -> None:
    """Neither the ring nor an outcome shows a secret when printed."""
    outcome = planner(topology())
    secrets = [secret for node in outcome.ring.nodes.values() for secret in (node.node_seed, node.owner_secret)]
    shown = repr(outcome)
    assert not any(secret in shown for secret in secrets)


def test_the_first_meta_node_serves_the_faucet(planner: Planner) -> None:
    """It alone is given the faucet's key and limits; the others' files say nothing about a faucet."""
    outcome = planner(topology(everywhere={"stratos_faucet_open_stos": 7}))
    faucets = {node.name: node.config.faucet for node in outcome.plan.nodes if node.config.faucet is not None}
    assert list(faucets) == ["m1"]
    assert faucets["m1"] is not None
    assert faucets["m1"].open_wei == str(7 * 10**18)
    assert faucets["m1"].coordinator == outcome.ring.coordinator_key().public_key.hex()
    files = {home.name: home.files for home in files_of(outcome.plan, outcome.ring, outcome.genesis)}
    assert [name for name, content in files.items() if "faucet.key" in content] == ["m1"]
    assert [name for name, content in files.items() if b"faucet" in content["config.json"]] == ["m1"]
    refused = planner(topology(everywhere={"stratos_faucet": False})).plan
    assert [node.name for node in refused.nodes if node.config.faucet is not None] == []


def _participant(outcome: Outcome) -> tuple[Topology, Existing]:
    values = {"stratos_network": RawValue("mine.network", "all")}
    mine = topology_of(RawInventory("mine.yml", (RawHost("r1", ("resource",), "local", "", values),)))
    return mine, Existing(outside=OutsideNetwork(outcome.genesis, endpoints_of(outcome.plan)))


def test_a_participants_node_knows_the_network_of_others(planner: Planner) -> None:
    """It registers itself though its name is in the genesis, talks to the others' validators and meta nodes, and gets
    neither their standard wallets nor a coordinator's key."""
    theirs = planner(topology())
    mine, existing = _participant(theirs)
    outcome = planner(mine, existing)
    [node] = outcome.plan.nodes
    assert (node.registers, node.config.deposit_wei) == (True, str(800 * 10**18))
    assert [peer.name for peer in node.config.validators] == ["v1", "v2", "v3", "v4"]
    assert [peer.name for peer in node.config.meta] == ["m1", "m2", "m3", "m4"]
    assert outcome.genesis == theirs.genesis
    assert (list(outcome.ring.wallets), outcome.ring.coordinator) == (["user"], "")
    assert {one.name for one in endpoints_of(outcome.plan).meta} == {"m1", "m2", "m3", "m4"}
    again = planner(mine, Existing(outcome.ring, outcome.plan, outcome.genesis, None, existing.outside))
    assert again.plan == outcome.plan


def test_a_participant_is_not_moved_to_another_network(planner: Planner) -> None:
    """The folder of one network refuses the genesis of the next one."""
    mine, existing = _participant(planner(topology()))
    outcome = planner(mine, existing)
    assert existing.outside is not None
    other = structs.replace(existing.outside, genesis=structs.replace(outcome.genesis, time_ms=1))
    with pytest.raises(BadInput, match="another genesis"):
        planner(mine, Existing(outcome.ring, outcome.plan, outcome.genesis, None, other))


def test_configs_have_no_port_for_metrics_unless_asked(planner: Planner) -> None:
    """Programs that do not know the field go on reading theirs; a process never has one."""
    hosts = tuple(
        RawHost(name, (group,), "ssh", f"192.0.2.{number}", {"stratos_copies": RawValue(1, "all")})
        for number, (name, group) in enumerate((("v1", "validators"), ("m1", "meta"), ("r1", "resource")), 1)
    )
    configs = [node.config for node in planner(topology_of(RawInventory("net.yml", hosts))).plan.nodes]
    asked = topology(everywhere={"stratos_metrics_ports": True})
    configs += [node.config for node in planner(asked).plan.nodes]
    assert all(b"metrics" not in dump_config(config) for config in configs)


def test_the_public_files_port_is_let_in_where_they_are_served(planner: Planner) -> None:
    """The packet filter of that machine, and of no other, opens it for everybody."""
    values = {
        "stratos_copies": RawValue(1, "all"),
        "stratos_public_host": RawValue("r1", "all"),
        "stratos_public_port": RawValue(8_090, "all"),
        "stratos_metrics_ports": RawValue(True, "all"),
    }
    hosts = tuple(
        RawHost(name, (group,), "ssh", f"192.0.2.{number}", values)
        for number, (name, group) in enumerate((("v1", "validators"), ("m1", "meta"), ("r1", "resource")), 1)
    )
    plan = planner(topology_of(RawInventory("net.yml", hosts))).plan
    open_ports = {
        name: [(one["port"], one["reach"]) for one in ports]
        for name, ports in reach_of(plan, exporter_port=9100).items()
    }
    assert (8_090, "public") in open_ports["192.0.2.3"]
    assert {(1_317, "public"), (26_660, "operators")} <= set(open_ports["192.0.2.1"])
    assert {(8_889, "public"), (8_890, "operators")} <= set(open_ports["192.0.2.2"])
    assert [name for name, ports in open_ports.items() if (8_090, "public") in ports] == ["192.0.2.3"]
    nowhere = structs.replace(hosts[0], variables={**values, "stratos_public_host": RawValue("nobody", "all")})
    with pytest.raises(BadInput, match="stratos_public_host"):
        topology_of(RawInventory("net.yml", (nowhere, *hosts[1:])))
