"""Makes the plan of a testnet from its folder and its inventory, and writes the plan's own files.

The only shell around the pure planner: it brings the clock, the random source, and what the machine says about ports.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.plan.diff import Difference, difference
from orchestrator.plan.plan import Outcome, OutsideNetwork, make_plan
from orchestrator.plan.ports import PortSearch
from orchestrator.testnet.folder import TestnetFolder, testnets_root
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.ports_in_use import PortClaims, blocks_of_others, ephemeral_range, port_is_free
from orchestrator.topology.inventory import CACHE_FOLDER
from orchestrator.topology.topology import DOCKER, Topology, read_topology
from stratos.client.records import Endpoints
from stratos.wire.genesis import GenesisError, load_genesis


class Planned(Struct, frozen=True):
    """A testnet's folder, what its inventory says, and the plan that follows."""

    folder: TestnetFolder
    topology: Topology
    outcome: Outcome
    difference: Difference


def topology_at(source: Path) -> Topology:
    """The topology of an inventory; raises InvalidInventory with every problem."""
    return read_topology(source, cache=testnets_root() / CACHE_FOLDER)


def plan_testnet(source: Path) -> Planned:
    """The plan, nothing written: a new testnet's keys and ports are an example of what `up` would make."""
    topology = topology_at(source)
    folder = TestnetFolder(testnets_root() / topology.name)
    outcome = _make(topology, folder, port_is_free, certain=False)
    return Planned(folder, topology, outcome, difference(outcome.plan, folder.placed()))


def settle_plan(topology: Topology, folder: TestnetFolder, journal: Journal, claims: PortClaims) -> Planned:
    """The plan, with keys, ports, genesis, wallets and endpoints written in the order that survives a crash.

    New ports stay in `claims`, so that no other `up` of this machine takes them before the nodes listen.
    """
    outcome = _make(topology, folder, claims.claim, certain=True)
    before = folder.ring()
    if outcome.ring != before:
        folder.save_ring(outcome.ring)
        journal.step("keys", nodes=len(outcome.ring.nodes))
    folder.save_plan(outcome.plan)
    journal.step("plan", nodes=[node.name for node in outcome.plan.nodes])
    folder.save_genesis(outcome.genesis)
    folder.save_wallets(outcome.ring)
    folder.save_endpoints(outcome.plan)
    folder.ledger.mkdir(mode=0o700, exist_ok=True)
    journal.step("genesis")
    return Planned(folder, topology, outcome, difference(outcome.plan, folder.placed()))


def read_network(folder: Path) -> OutsideNetwork:
    """The network of others that a folder describes (stratos_network); raises BadInput."""
    try:
        genesis = load_genesis(folder / "genesis.json")
        endpoints = msgspec.json.decode((folder / "endpoints.json").read_bytes(), type=Endpoints)
    except (GenesisError, OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(
            f"stratos_network {folder} does not describe a network: {error}; `stratosctl join TICKET` writes it"
        ) from error
    if not endpoints.validators or not endpoints.meta:
        raise BadInput(
            f"stratos_network {folder} names {len(endpoints.validators)} validators and {len(endpoints.meta)} meta nodes, "
            "and at least one of each is needed; run `stratosctl join TICKET` again"
        )
    return OutsideNetwork(genesis, endpoints)


def _make(topology: Topology, folder: TestnetFolder, is_free: Callable[[int], bool], *, certain: bool) -> Outcome:
    """`certain`: what is planned will be done, so the engine must be there to say which subnets are free."""
    search = PortSearch(
        hint=str(folder.path),
        ephemeral=ephemeral_range(),
        taken=blocks_of_others(folder.path.parent, folder.name),
        base=topology.port_base,
    )
    return make_plan(
        topology,
        folder.existing(outside=read_network(Path(topology.network)) if topology.network else None),
        search,
        random=os.urandom,
        time_ms=time.time_ns() // 1_000_000,
        is_free=is_free,
        subnet_is_free=_subnet_judge(certain=certain) if topology.runtime == DOCKER else lambda _subnet: True,
    )


def _subnet_judge(*, certain: bool) -> Callable[[str], bool]:
    from orchestrator.runtimes.subnets import subnet_is_free  # the engine's SDK takes its time to import

    return subnet_is_free(needed=certain)
