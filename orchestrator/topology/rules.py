"""Rules that need more than one value: who may be in which group, and what makes a set of nodes a testnet.

Each rule is a small function of records; `membership` looks at the inventory, `whole` at the finished topology.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.topology.problems import Problem
from orchestrator.topology.raw import RawInventory
from orchestrator.topology.variables import OTHER_GROUPS, ROLES
from stratos.wire import limits

if TYPE_CHECKING:
    from orchestrator.topology.topology import NodeSpec, Topology

_NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62})")
MOST_NODES = 1_000


class Findings(NamedTuple):
    problems: list[Problem]
    warnings: list[str]


def membership(raw: RawInventory) -> Iterator[Problem]:
    """Every host has one role, a usable name and a connection the runtime can serve; needed groups are not empty."""
    known = ", ".join((*ROLES, *OTHER_GROUPS))
    for host in raw.hosts:
        roles = [group for group in ROLES if group in host.groups]
        if len(roles) > 1:
            allowed = "one node is one inventory name; give each its own name, two names may share ansible_host"
            yield Problem(host=f"host {host.name}", variable="groups", value=" and ".join(roles), allowed=allowed)
        if not roles and not set(host.groups) & set(OTHER_GROUPS):
            where = ", ".join(host.groups) or "no group"
            yield Problem(host=f"host {host.name}", variable="groups", value=where, allowed=f"allowed: {known}")
        if roles and not _NODE_NAME.fullmatch(host.name):
            allowed = "allowed: lower-case letters, digits, '.', '_', '-', at most 63, starting with a letter or digit"
            yield Problem(host=f"host {host.name}", variable="name", value=repr(host.name), allowed=allowed)
    if any("stratos_network" in host.variables for host in raw.hosts):
        if not any(group in host.groups for host in raw.hosts for group in ROLES):
            allowed = f"at least one host in {', '.join(ROLES)} takes part in the network"
            yield Problem(host="testnet", variable="hosts", value="none", allowed=allowed)
        return
    for group in ROLES:
        if not any(group in host.groups for host in raw.hosts):
            yield Problem(
                host=f"group {group}", variable="hosts", value="none", allowed="a testnet needs at least 1 host in it"
            )


def connections(raw: RawInventory, runtime: str) -> Iterator[Problem]:
    """Every node's host is reached in a way that the runtime can serve."""
    allowed = {
        "process": ("local",),
        "docker": ("local",),
        "machines": ("ssh", "smart", "paramiko", "paramiko_ssh", "local"),
    }[runtime]
    for host in raw.hosts:
        if any(group in host.groups for group in ROLES) and host.connection not in allowed:
            yield Problem(
                host=f"host {host.name}",
                variable="ansible_connection",
                value=host.connection,
                allowed=f"allowed with stratos_runtime {runtime}: {' or '.join(allowed)}",
            )


def _tolerance(topology: Topology, role: str, warnings: list[str]) -> None:
    """A layer of n nodes goes on without (n - 1) // 3 of them: sizes between two such steps add cost and no safety."""
    count = len(topology.of_role(role))
    if count < 4:
        warnings.append(
            f"{count} {role} node{'s' * (count > 1)}: fewer than 4 cannot lose one and go on; add hosts to the group"
        )
    elif count % 3 != 1:
        spare = (count - 1) // 3
        warnings.append(
            f"{count} {role} nodes can lose {spare}, as {3 * spare + 1} can; {3 * spare + 4} could lose {spare + 1}"
        )


def _ports(topology: Topology, problems: list[Problem]) -> None:
    """Two nodes of one role on one machine never ask for the same ports."""
    taken: dict[tuple[str, str, int], str] = {}
    for node in topology.nodes:
        if node.port_slot < 0 or topology.runtime == "process":
            continue
        place = (node.machine if topology.runtime == "machines" else node.name, node.role, node.port_slot)
        first = taken.setdefault(place, node.name)
        if first != node.name:
            allowed = f"{first} on the same machine has these ports already; give it another slot or none"
            problems.append(_node_problem(node, "stratos_port_slot", str(node.port_slot), allowed))


def whole(topology: Topology) -> Findings:
    """Rules over all nodes together."""
    problems: list[Problem] = []
    warnings: list[str] = []
    validators, meta, resource = (topology.of_role(role) for role in ("validator", "meta", "resource"))
    _ports(topology, problems)
    unlimited = [node.name for node in topology.nodes if node.bandwidth_mbit and topology.runtime != "docker"]
    if unlimited:
        warnings.append(
            f"stratos_bandwidth_mbit limits containers of one engine only: {', '.join(unlimited)} will not be limited"
        )
    _one_faucet(topology, problems)
    _public_host(topology, problems)
    if topology.network:  # what the network is, its own genesis says
        return Findings(problems, warnings)
    _sizes(topology, validators, problems)
    _supply(topology, problems)
    _timing(topology, problems)
    copies = topology.genesis.meta.copies
    labels = len({node.host for node in resource})
    if copies > labels:
        allowed = f"allowed: at most {labels}, the number of different hosts of group resource; add hosts or lower it"
        problems.append(Problem(host="testnet", variable="stratos_copies", value=str(copies), allowed=allowed))
    elif copies < 4:
        warnings.append(f"stratos_copies is {copies}: the protocol wants more than three copies of a slice at any time")
    _tolerance(topology, "meta", warnings)
    _tolerance(topology, "validator", warnings)
    for name, count in Counter(node.host for node in meta).items():
        if count > 1:
            warnings.append(f"{count} meta nodes share the host label {name} and would fail together")
    return Findings(problems, warnings)


def _public_host(topology: Topology, problems: list[Problem]) -> None:
    """Who serves the public files is a host of this inventory."""
    known = [name for machine in topology.machines for name in machine.hosts]
    if topology.public_host and topology.public_host not in known:
        allowed = f"allowed: a host of the inventory, such as {known[0] if known else 'none'}"
        problems.append(
            Problem(host="testnet", variable="stratos_public_host", value=topology.public_host, allowed=allowed)
        )


def _one_faucet(topology: Topology, problems: list[Problem]) -> None:
    """The faucet's wallet has one sequence and its limits one book, so one node has them."""
    named = [node for node in topology.nodes if node.faucet]
    for node in named[1:] if not topology.network else named:
        allowed = (
            f"{named[0].name} serves the faucet already" if node is not named[0] else "only in a testnet of your own"
        )
        problems.append(_node_problem(node, "stratos_faucet", "true", allowed))


def _sizes(topology: Topology, validators: tuple[NodeSpec, ...], problems: list[Problem]) -> None:
    genesis = topology.genesis
    unit = int(genesis.ledger.staking.power_unit_wei)
    for node in validators:
        if node.stake_wei < unit:
            allowed = f"allowed: at least {unit} wei, one unit of voting weight"
            problems.append(_node_problem(node, "stratos_stake_stos", f"{node.stake_wei} wei", allowed))
    total = sum(node.stake_wei for node in validators)
    for node in validators:
        if len(validators) > 1 and node.stake_wei * 3 >= total * 2:
            allowed = "one validator must not hold 2/3 of all stake; the others could never matter"
            problems.append(_node_problem(node, "stratos_stake_stos", f"{node.stake_wei} wei", allowed))
    least = int(genesis.ledger.register.min_deposit_wei)
    for node in topology.nodes:
        if node.role != "validator" and node.deposit_wei < least:
            allowed = f"allowed: at least {least} wei (stratos_min_deposit_wei)"
            problems.append(_node_problem(node, "stratos_deposit_stos", f"{node.deposit_wei} wei", allowed))
    maximum = {"validator": genesis.ledger.staking.max_validators, "meta": limits.MAX_VALIDATORS}
    for role, most in maximum.items():
        count = len(topology.of_role(role))
        if count > most:
            problems.append(
                Problem(host=f"group {role}", variable="hosts", value=str(count), allowed=f"allowed: at most {most}")
            )
    if len(topology.nodes) > MOST_NODES:
        problems.append(
            Problem(
                host="testnet",
                variable="hosts",
                value=str(len(topology.nodes)),
                allowed=f"allowed: at most {MOST_NODES}",
            )
        )


def _node_problem(node: NodeSpec, variable: str, value: str, allowed: str) -> Problem:
    return Problem(host=f"host {node.name}", variable=variable, value=value, allowed=allowed)


def _supply(topology: Topology, problems: list[Problem]) -> None:
    """What genesis hands out (with the foundation's 40 million) fits in the total supply."""
    owners = len(topology.nodes) * topology.owner_wei
    locked = sum(node.stake_wei + node.deposit_wei for node in topology.nodes)
    wanted = topology.user_wei + topology.user_prepay_wei + topology.faucet_wei + owners + locked + 40_000_000 * 10**18
    supply = int(topology.genesis.ledger.pot.initial_total_supply)
    if wanted > supply:
        allowed = f"genesis hands out {wanted} wei; lower stakes, deposits or wallets, or raise the supply"
        problems.append(
            Problem(host="testnet", variable="stratos_initial_total_supply_wei", value=str(supply), allowed=allowed)
        )


def _timing(topology: Topology, problems: list[Problem]) -> None:
    genesis = topology.genesis
    epoch, status = genesis.meta.epoch_seconds, genesis.meta.status_seconds
    for name, consensus in (("", genesis.value_consensus), ("meta_", genesis.meta_consensus)):
        if consensus.min_block_seconds > consensus.block_seconds:
            allowed = f"allowed: at most stratos_{name}block_seconds = {consensus.block_seconds:g}"
            value = f"{consensus.min_block_seconds:g}"
            problems.append(
                Problem(host="testnet", variable=f"stratos_{name}min_block_seconds", value=value, allowed=allowed)
            )
        if consensus.block_seconds > epoch:
            allowed = f"allowed: at most stratos_epoch_seconds = {epoch:g}, or an epoch would have no block"
            value = f"{consensus.block_seconds:g}"
            problems.append(
                Problem(host="testnet", variable=f"stratos_{name}block_seconds", value=value, allowed=allowed)
            )
    if genesis.meta.suspend_offline_seconds < status * genesis.meta.offline_intervals:
        allowed = (
            f"allowed: at least {status * genesis.meta.offline_intervals:g}, when a silent holder becomes unavailable"
        )
        value = f"{genesis.meta.suspend_offline_seconds:g}"
        problems.append(
            Problem(host="testnet", variable="stratos_suspend_offline_seconds", value=value, allowed=allowed)
        )
