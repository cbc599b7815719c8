"""The Topology: what the testnet should be, as frozen records, every value typed and every default filled in.

`read_topology` is what the rest of the tool calls; `topology_of` is its pure half. All problems are collected before
anything is raised, so a user corrects an inventory once, not once per mistake.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import orchestrator
from orchestrator.topology import rules
from orchestrator.topology.inventory import load_inventory
from orchestrator.topology.machine import Machine, machine_of, machines_of
from orchestrator.topology.problems import InvalidInventory, Problem
from orchestrator.topology.raw import RawHost, RawInventory, RawValue
from orchestrator.topology.variables import (
    NODE,
    OTHER_GROUPS,
    PREFIX,
    ROLES,
    TESTNET,
    VARIABLES,
    WEI_PER_STOS,
    Value,
    Variable,
)
from stratos.wire.genesis import ConsensusParams, LedgerParams, MetaParams

META_DEPOSIT_WEI = 100 * WEI_PER_STOS
TIER_DEPOSIT_WEI = {1: 800 * WEI_PER_STOS, 2: 1_600 * WEI_PER_STOS, 3: 3_200 * WEI_PER_STOS}
PROCESS, DOCKER, MACHINES = "process", "docker", "machines"
"""Where nodes run (stratos_runtime)."""
ROLE_OF_GROUP = {"validators": "validator", "meta": "meta", "resource": "resource"}


class NodeSpec(Struct, frozen=True, kw_only=True):
    """One node to operate. `host` is the label that keeps copies apart, `machine` where it is operated; `stake_wei` is a
    validator's, `deposit_wei` the others'. Limits of 0 are none."""

    name: str
    role: str
    host: str
    region: str
    address: str
    connection: str
    log_level: str
    stake_wei: int = 0
    commission_bp: int = 0
    tier: int = 0
    deposit_wei: int = 0
    disk_bytes: int = 0
    machine: str = ""
    port_slot: int = -1
    cpus: float = 0.0
    memory_bytes: int = 0
    bandwidth_mbit: int = 0
    faucet: bool = False
    """Whether this meta node serves the faucet."""


class FaucetLimits(Struct, frozen=True, kw_only=True):
    """What the faucet may give: to a wallet without a ticket a day, to all a day, ever, and payments a day to one network."""

    open_wei: int = 0
    day_wei: int = 0
    total_wei: int = 0
    address_requests: int = 1


class GenesisSettings(Struct, frozen=True, kw_only=True):
    """The parameter records of the genesis file, with what the inventory sets filled in."""

    ledger: LedgerParams = LedgerParams()
    meta: MetaParams = MetaParams()
    value_consensus: ConsensusParams = ConsensusParams()
    meta_consensus: ConsensusParams = ConsensusParams()


class Topology(Struct, frozen=True, kw_only=True):
    """A whole testnet. `nodes` are in start order: validators, meta, resource, each in inventory order."""

    name: str
    source: str
    runtime: str = PROCESS
    image: str = ""
    spawn: str
    slice_transport: str
    port_base: int
    user_wei: int
    user_prepay_wei: int
    faucet_wei: int
    owner_wei: int
    ready_seconds: float
    drain_seconds: float = 900.0
    genesis: GenesisSettings
    nodes: tuple[NodeSpec, ...]
    load_hosts: tuple[str, ...] = ()
    monitor_hosts: tuple[str, ...] = ()
    machines: tuple[Machine, ...] = ()
    """Every machine of the inventory, those of load and monitor hosts too."""
    faucet: FaucetLimits = FaucetLimits()
    hardware_factor: float = 1.0
    preflight: str = ""
    """enforce, warn or off; empty: enforce on machines, off elsewhere."""
    public_host: str = ""
    """Host of the inventory that serves the public files at `public_port`; empty: none does."""
    public_port: int = 0
    metrics_ports: bool = False
    """Whether /metrics has a port of its own where HTTP is for everybody; never of processes."""
    network: str = ""
    """Folder of a network run by others that these nodes take part in; empty: this inventory is the whole testnet."""
    warnings: tuple[str, ...] = ()

    def of_role(self, role: str) -> tuple[NodeSpec, ...]:
        return tuple(node for node in self.nodes if node.role == role)


def read_topology(source: Path, *, cache: Path | None = None) -> Topology:
    """The topology of the inventory at `source`; raises InvalidInventory with every problem found."""
    return topology_of(load_inventory(source, cache=cache))


def default_name(source: str) -> str:
    """The testnet's name when the inventory names none: the file's (or folder's) name without its suffix."""
    return Path(source).resolve().name.split(".")[0].lower()


def default_runtime(raw: RawInventory) -> str:
    """Processes when every node's host is reached by `local`, machines otherwise."""
    nodes = [host for host in raw.hosts if _role_of(host)]
    return PROCESS if all(host.connection == "local" for host in nodes) else MACHINES


def default_image() -> str:
    """The image of the nodes of this version."""
    return f"stratos-node:{orchestrator.__version__}"


def topology_of(raw: RawInventory) -> Topology:
    """The topology a raw inventory describes; raises InvalidInventory."""
    problems: list[Problem] = list(rules.membership(raw))
    for name, origin in raw.empty_variables.items():
        problems.append(
            Problem(host=origin, variable=name, value="(set)", allowed="the group has no hosts; add some or remove it")
        )
    members = [host for host in raw.hosts if _role_of(host) or set(host.groups) & set(OTHER_GROUPS)]
    values = {host.name: _parse_host(host, problems) for host in members}
    settings = _testnet_values(members, values, problems)
    nodes = tuple(_node(host, values[host.name]) for role in ROLES for host in members if _role_of(host) == role)
    network = str(settings["stratos_network"])
    nodes = _choose_faucet(nodes, values, wanted=not network and int(settings["stratos_faucet_stos"]) > 0)
    name = str(settings["stratos_testnet"]) or default_name(raw.source)
    runtime = str(settings["stratos_runtime"]) or default_runtime(raw)
    problems += rules.connections(raw, runtime)
    if problems:
        raise InvalidInventory.of(raw.source, problems)
    topology = Topology(
        name=name,
        source=raw.source,
        runtime=runtime,
        image=str(settings["stratos_image"]) or default_image(),
        spawn=str(settings["stratos_spawn"]),
        slice_transport=str(settings["stratos_slice_transport"]),
        port_base=int(settings["stratos_port_base"]),
        user_wei=int(settings["stratos_user_stos"]),
        user_prepay_wei=int(settings["stratos_user_prepay_stos"]),
        faucet_wei=int(settings["stratos_faucet_stos"]),
        owner_wei=int(settings["stratos_owner_stos"]),
        ready_seconds=float(settings["stratos_ready_seconds"]),
        hardware_factor=float(settings["stratos_hardware_factor"]),
        preflight=str(settings["stratos_preflight"]),
        drain_seconds=float(settings["stratos_drain_seconds"]),
        genesis=_genesis_settings(settings),
        nodes=nodes,
        load_hosts=tuple(host.name for host in members if "load" in host.groups),
        monitor_hosts=tuple(host.name for host in members if "monitor" in host.groups),
        machines=machines_of(members),
        faucet=FaucetLimits(
            open_wei=int(settings["stratos_faucet_open_stos"]),
            day_wei=int(settings["stratos_faucet_day_stos"]),
            total_wei=int(settings["stratos_faucet_total_stos"]),
            address_requests=int(settings["stratos_faucet_address_requests"]),
        ),
        public_host=str(settings["stratos_public_host"]),
        public_port=int(settings["stratos_public_port"]),
        metrics_ports=bool(settings["stratos_metrics_ports"]),
        network=str((Path(raw.source).resolve().parent / network).resolve()) if network else "",
    )
    findings = rules.whole(topology)
    if findings.problems:
        raise InvalidInventory.of(raw.source, findings.problems)
    return msgspec.structs.replace(topology, warnings=tuple(findings.warnings))


def _role_of(host: RawHost) -> str | None:
    return next((group for group in ROLES if group in host.groups), None)


def _choose_faucet(
    nodes: tuple[NodeSpec, ...], values: dict[str, dict[str, Value]], *, wanted: bool
) -> tuple[NodeSpec, ...]:
    """The meta nodes that are named serve the faucet; when none is, the first one that does not refuse."""
    asked = {node.name: values[node.name].get("stratos_faucet") for node in nodes if node.role == "meta"}
    chosen = [name for name, value in asked.items() if value]
    if not chosen and wanted:
        chosen = [name for name, value in asked.items() if value is None][:1]
    return tuple(msgspec.structs.replace(node, faucet=node.name in chosen) for node in nodes)


def _parse_host(host: RawHost, problems: list[Problem]) -> dict[str, Value]:
    """The host's typed values; what cannot be read is reported and left out."""
    values: dict[str, Value] = {}
    for name, given in host.variables.items():
        row = VARIABLES.get(name)
        if row is None:
            problems.append(_finding(host, name, given, _unknown(name)))
            continue
        parsed = row.kind.parse(given.value)
        if parsed is None:
            problems.append(_finding(host, name, given, f"allowed: {row.kind.allowed}"))
            continue
        role = _role_of(host)
        if row.where == NODE and given.origin != "all" and role not in row.roles:
            problems.append(_finding(host, name, given, f"only for hosts of group {' and '.join(row.roles)}"))
        values[name] = parsed
    return values


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, VARIABLES, n=1)
    return (
        f"no such variable; did you mean {close[0]}?"
        if close
        else f"no such variable; known: {PREFIX}* of `plan --variables`"
    )


def _finding(host: RawHost, name: str, given: RawValue, allowed: str) -> Problem:
    text = repr(given.value) if isinstance(given.value, str) else str(given.value)
    return Problem(host=f"host {host.name}", variable=name, value=text, allowed=allowed, origin=given.origin)


def _testnet_values(
    members: list[RawHost], values: dict[str, dict[str, Value]], problems: list[Problem]
) -> dict[str, Any]:
    """The settings of the whole testnet: one value on every host, or a problem for each host that differs."""
    settings: dict[str, Any] = {row.name: row.default for row in VARIABLES.values() if row.where == TESTNET}
    for row in VARIABLES.values():
        set_on = [host for host in members if row.name in host.variables]
        if row.where != TESTNET or not set_on:
            continue
        given = {host.name: values[host.name].get(row.name) for host in members}
        first = next((value for value in given.values() if value is not None), None)
        for host in set_on:
            one = host.variables[row.name]
            alone = len(set_on) != len(members) and one.origin != "all"
            if given[host.name] is not None and (given[host.name] != first or alone):
                problems.append(_finding(host, row.name, one, "must be the same everywhere; set it under all: vars:"))
        if first is not None:
            settings[row.name] = first
    return settings


def _genesis_settings(settings: dict[str, Any]) -> GenesisSettings:
    chosen: dict[str, Any] = {}
    for row in VARIABLES.values():
        if row.target and settings[row.name] is not None:
            place = chosen
            for part in row.target[:-1]:
                place = place.setdefault(part, {})
            place[row.target[-1]] = settings[row.name]
    return msgspec.convert(chosen, GenesisSettings)


def _node(host: RawHost, values: dict[str, Value]) -> NodeSpec:
    group = _role_of(host)
    assert group is not None

    def value(name: str) -> Any:
        row: Variable = VARIABLES[name]
        return values.get(name, row.default)

    tier = int(value("stratos_tier")) if group == "resource" else 0
    default_deposit = META_DEPOSIT_WEI if group == "meta" else TIER_DEPOSIT_WEI.get(tier, 0)
    return NodeSpec(
        name=host.name,
        role=ROLE_OF_GROUP[group],
        host=value("stratos_host") or (machine_of(host) if host.connection != "local" else host.name),
        region=value("stratos_region"),
        address=value("stratos_address") or host.address or ("127.0.0.1" if host.connection == "local" else host.name),
        connection=host.connection,
        log_level=value("stratos_log_level"),
        stake_wei=value("stratos_stake_stos") if group == "validators" else 0,
        commission_bp=value("stratos_commission_bp") if group == "validators" else 0,
        tier=tier,
        deposit_wei=0 if group == "validators" else value("stratos_deposit_stos") or default_deposit,
        disk_bytes=value("stratos_disk") if group == "resource" else 0,
        machine=machine_of(host),
        port_slot=value("stratos_port_slot"),
        cpus=value("stratos_cpus"),
        memory_bytes=value("stratos_memory"),
        bandwidth_mbit=value("stratos_bandwidth_mbit"),
    )
