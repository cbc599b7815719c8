"""Topology and keys -> the genesis record, in inventory order, so that one inventory and one key ring give one file.

Every node's owner wallet is its operator, owner and beneficiary. Resource nodes begin with their whole deposit
effective and the user's wallet with a prepay, so that the first upload needs no ceremony. The genesis of a testnet
never changes: nodes added to the inventory later register themselves on the chain instead.
"""

from __future__ import annotations

import msgspec

from orchestrator.plan.keys import FAUCET, PROBE, USER, KeyRing
from orchestrator.plan.ports import PortMap
from orchestrator.topology.topology import GenesisSettings, NodeSpec, Topology
from stratos.wire.genesis import (
    LATER_LEDGER_PARAMS,
    Genesis,
    GenesisAccount,
    GenesisNode,
    GenesisPrepay,
    GenesisValidator,
)

PROBE_PREPAY_WEI = 10**17
"""0.1 STOS: thousands of verifying uploads."""


def make_genesis(topology: Topology, ring: KeyRing, ports: PortMap, *, time_ms: int) -> Genesis:
    """The genesis of a new testnet made at `time_ms` (milliseconds since the Unix epoch).

    Its time lies one empty-block pause earlier, so that the first block of each layer is due as soon as nodes meet.
    """
    user, faucet, probe = (ring.wallet_key(name).address for name in (USER, FAUCET, PROBE))
    owners = {node.name: ring.nodes[node.name].owner_key().address for node in topology.nodes}
    accounts = [
        GenesisAccount(address=user, balance_wei=str(topology.user_wei + topology.user_prepay_wei)),
        GenesisAccount(address=faucet, balance_wei=str(topology.faucet_wei)),
        GenesisAccount(address=probe, balance_wei=str(2 * PROBE_PREPAY_WEI)),
        *(GenesisAccount(address=owner, balance_wei=str(topology.owner_wei)) for owner in owners.values()),
    ]
    prepaid = {user: topology.user_prepay_wei, probe: PROBE_PREPAY_WEI}
    settings = topology.genesis
    return Genesis(
        network=topology.name,
        time_ms=time_ms
        - int(1000 * max(settings.value_consensus.block_seconds, settings.meta_consensus.block_seconds)),
        ledger=settings.ledger,
        meta=settings.meta,
        value_consensus=settings.value_consensus,
        meta_consensus=settings.meta_consensus,
        accounts=tuple(accounts),
        validators=tuple(
            GenesisValidator(
                operator=owners[node.name],
                node_public_key=ring.nodes[node.name].node_key().public_key,
                stake_wei=str(node.stake_wei),
                commission_bp=node.commission_bp,
                name=node.name,
            )
            for node in topology.of_role("validator")
        ),
        meta_nodes=tuple(_registered(node, ring, ports, owners[node.name]) for node in topology.of_role("meta")),
        resource_nodes=tuple(
            _registered(node, ring, ports, owners[node.name]) for node in topology.of_role("resource")
        ),
        prepays=tuple(
            GenesisPrepay(sender=wallet, beneficiary=wallet, amount_wei=str(amount))
            for wallet, amount in prepaid.items()
            if amount
        ),
    )


def _registered(node: NodeSpec, ring: KeyRing, ports: PortMap, owner: bytes) -> GenesisNode:
    return GenesisNode(
        owner=owner,
        beneficiary=owner,
        node_public_key=ring.nodes[node.name].node_key().public_key,
        deposit_wei=str(node.deposit_wei),
        effective_wei=str(node.deposit_wei),
        name=node.name,
        host=node.host,
        network_address=endpoint_of(node, ports),
    )


def endpoint_of(node: NodeSpec, ports: PortMap) -> str:
    """Where others reach a node: its p2p port, or the slice port of a resource node, which has no other."""
    listening = ports.ports_of(node.name, node.role)
    return f"{node.address}:{listening.bulk or listening.p2p}"


def genesis_names(genesis: Genesis) -> frozenset[str]:
    """Names of the nodes that exist from genesis."""
    return frozenset(
        [entry.name for entry in genesis.validators]
        + [entry.name for entry in (*genesis.meta_nodes, *genesis.resource_nodes)]
    )


def changed_settings(genesis: Genesis, topology: Topology) -> list[tuple[str, object, object]]:
    """Parameters the inventory now wants otherwise than the running genesis has them: (field, fixed, wanted)."""
    fixed = GenesisSettings(
        ledger=genesis.ledger,
        meta=genesis.meta,
        value_consensus=genesis.value_consensus,
        meta_consensus=genesis.meta_consensus,
    )
    wanted = dict(_leaves(settings_tree(topology.genesis), ""))
    return [(name, value, wanted[name]) for name, value in _leaves(settings_tree(fixed), "") if wanted[name] != value]


def settings_tree(settings: GenesisSettings) -> dict[str, object]:
    """Every parameter, also those that a genesis leaves out while they have their default."""
    tree: dict[str, object] = msgspec.to_builtins(settings)
    ledger = tree["ledger"]
    assert isinstance(ledger, dict)
    return {**tree, "ledger": {**LATER_LEDGER_PARAMS, **ledger}}


def _leaves(tree: dict[str, object], prefix: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name, value in tree.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found
