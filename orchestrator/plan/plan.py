"""The plan: everything that is placed and started for one topology, as one record that can be printed and compared.

Pure: what exists already (key ring, recorded ports, genesis, the clock's reading, which ports are free) is passed in.
A plan does not say what to do; `diff.py` compares it with what is there, and the runtime acts on the difference.

Lists of other nodes in a config are the way into the network, not its membership, which nodes learn from each other and from
the register. So a node keeps the lists it was planned with, whoever joins or leaves later, and one more or one fewer
host touches one host. Only a list of which nobody is left is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import UNSET, Struct, structs

from orchestrator.errors import BadInput
from orchestrator.plan.genesis import changed_settings, endpoint_of, genesis_names, make_genesis
from orchestrator.plan.keys import KeyRing, RandomBytes, complete_ring
from orchestrator.plan.networks import ContainerNetworks, assign_networks
from orchestrator.plan.ports import PortMap, PortSearch, SlotRequest, assign_ports, assign_slots
from orchestrator.topology.machine import Machine
from orchestrator.topology.topology import DOCKER, MACHINES, PROCESS, NodeSpec, Topology
from orchestrator.topology.variables import VARIABLES
from stratos.client.records import Endpoints
from stratos.wire.config import FaucetSettings, LimitSettings, NodeConfig, PeerEntry, split_endpoint
from stratos.wire.genesis import Genesis

PLAN_VERSION = 1
START_ORDER = ("validator", "meta", "resource")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a container or machine is reached from outside; its firewall says by whom


class NodePlan(Struct, frozen=True, kw_only=True):
    """One node: its public identity and its whole configuration. `registers`: it is not in the genesis file."""

    name: str
    role: str
    node: str
    """stsds... address"""
    owner: str
    """st... address of its owner wallet"""
    public_key: str
    deposit_wei: int
    stake_wei: int
    registers: bool
    config: NodeConfig
    machine: str = ""
    """Label of the machine it is operated on (see Plan.machines)."""
    image: str = ""
    cpus: float = 0.0
    memory_bytes: int = 0
    bandwidth_mbit: int = 0

    @property
    def http_address(self) -> tuple[str, int]:
        """(host, port) at which its HTTP port answers."""
        return split_endpoint(self.config.network_address)[0], self.config.ports.http

    @property
    def metrics_address(self) -> tuple[str, int]:
        """(host, port) at which /metrics answers."""
        ports = self.config.ports
        return self.http_address[0], ports.metrics or ports.http

    @property
    def http(self) -> str:
        """Where its HTTP port answers, as a URL."""
        return http_url(self.config)


class Plan(Struct, frozen=True, kw_only=True):
    """A testnet as it should be placed. `nodes` are in start order."""

    version: int = PLAN_VERSION
    name: str
    source: str
    runtime: str = PROCESS
    spawn: str
    ports: PortMap
    networks: ContainerNetworks = ContainerNetworks()
    """Where containers are reached; empty for processes and machines."""
    nodes: tuple[NodePlan, ...]
    leaving: tuple[NodePlan, ...] = ()
    """Nodes that are in the inventory no more and run until they are taken out."""
    machines: tuple[Machine, ...] = ()
    """Of the inventory, and of leaving nodes."""
    inventory_image: str = ""
    """What the inventory (or the default) names; an upgrade may want another one for now."""
    left: tuple[str, ...] = ()
    """Nodes that left the inventory since genesis: when one comes back, it has to register again."""
    warnings: tuple[str, ...] = ()
    public_machine: str = ""
    """Machine that serves the public files at `public_port`; empty: none does."""
    public_port: int = 0
    outside: Endpoints | None = None
    """Where the network answers that others run and these nodes take part in; None: the plan is the whole testnet."""

    def node(self, name: str) -> NodePlan:
        return next(node for node in self.nodes if node.name == name)

    @property
    def operated(self) -> tuple[NodePlan, ...]:
        """Every node there is something to do with: those of the inventory, and those that leave."""
        return (*self.nodes, *self.leaving)


def http_url(config: NodeConfig) -> str:
    """Where a node's HTTP port answers."""
    host = split_endpoint(config.network_address)[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{config.ports.http}"


class ImageWish(Struct, frozen=True, kw_only=True):
    """What an upgrade asked for. It holds until the inventory names another image than `inventory`."""

    wanted: str
    previous: str = ""
    inventory: str = ""
    resting: tuple[str, ...] = ()
    """Nodes that the upgrade itself put into maintenance, and will take out again."""


class OutsideNetwork(Struct, frozen=True):
    """A network run by others: what it is, and who answers for it."""

    genesis: Genesis
    endpoints: Endpoints


class Existing(Struct, frozen=True):
    """What an earlier `up` left behind: nothing, for a new testnet; and the network of others that it takes part in."""

    ring: KeyRing = KeyRing()
    plan: Plan | None = None
    genesis: Genesis | None = None
    image: ImageWish | None = None
    outside: OutsideNetwork | None = None
    homes: frozenset[str] = frozenset()
    """Nodes that have a home: one that is not planned any more leaves, and is left once its home is put aside."""


class Outcome(Struct, frozen=True):
    """A plan with the secrets and the genesis it belongs to; only the plan may be shown."""

    plan: Plan
    ring: KeyRing
    genesis: Genesis


def make_plan(
    topology: Topology,
    existing: Existing,
    search: PortSearch,
    *,
    random: RandomBytes,
    time_ms: int,
    is_free: Callable[[int], bool],
    subnet_is_free: Callable[[str], bool] = lambda _subnet: True,
) -> Outcome:
    """The plan for a topology; raises BadInput when it contradicts the running genesis, EnvironmentFault without ports."""
    names = [node.name for node in topology.nodes]
    outside = existing.outside
    ring = complete_ring(existing.ring, names, random, participant=outside is not None)
    before = existing.plan
    known = before.ports if before is not None else PortMap()
    leaving = tuple(
        node for node in (before.operated if before is not None else ()) if node.name in existing.homes - set(names)
    )
    if topology.runtime == PROCESS:
        ports = assign_ports(known, [*names, *(node.name for node in leaving)], search, is_free=is_free)
    else:
        kept = [SlotRequest(node.name, node.role, node.machine or node.name) for node in leaving]
        ports = assign_slots(known, [*(_slot_request(node, topology) for node in topology.nodes), *kept])
    networks = ContainerNetworks()
    if topology.runtime == DOCKER:
        members = [(node.name, node.region) for node in topology.nodes]
        networks = assign_networks(
            before.networks if before is not None else networks,
            [*members, *((node.name, node.config.region) for node in leaving)],
            hint=search.hint,
            is_free=subnet_is_free,
        )
        topology = _addressed(topology, networks)
    genesis = existing.genesis
    if outside is not None:
        _refuse_other_network(genesis, outside.genesis, topology)
        genesis = outside.genesis
    elif genesis is None:
        genesis = make_genesis(topology, ring, ports, time_ms=time_ms)
    else:
        _refuse_other_genesis(genesis, topology)
    left: set[str] = set()
    if before is not None and existing.genesis is not None:
        left = {*before.left, *(node.name for node in before.nodes)} - (set(names) - set(before.left))
    _refuse_shared_identity(topology, ring)
    image = existing.image.wanted if existing.image and existing.image.inventory == topology.image else topology.image
    endpoints = outside.endpoints if outside is not None else None
    plan = _plan_of(
        topology, ring, ports, genesis, before, leaving, left=tuple(sorted(left)), image=image, outside=endpoints
    )
    machines = (*plan.machines, *_machines_of(leaving, topology, before))
    return Outcome(structs.replace(plan, leaving=leaving, machines=machines, networks=networks), ring, genesis)


def _machines_of(leaving: tuple[NodePlan, ...], topology: Topology, before: Plan | None) -> Iterator[Machine]:
    """Machines of leaving nodes that the inventory does not name any more."""
    present = {machine.name for machine in topology.machines}
    wanted = {node.machine for node in leaving} - present
    for machine in before.machines if before is not None else ():
        if machine.name in wanted:
            hosts = tuple(node.name for node in leaving if node.machine == machine.name)
            yield structs.replace(machine, hosts=hosts, listed=False)


def _refuse_other_network(known: Genesis | None, wanted: Genesis, topology: Topology) -> None:
    if known is not None and known != wanted:
        raise BadInput(
            f"testnet {topology.name} takes part in network {known.network} with another genesis than {topology.network} has; "
            f"give the new one another stratos_testnet, or leave with `stratosctl down --purge -i {topology.source}`"
        )


def _addressed(topology: Topology, networks: ContainerNetworks) -> Topology:
    """The topology with each container's address in the network of its own region."""
    nodes = (structs.replace(node, address=networks.address(node.name, node.region)) for node in topology.nodes)
    return structs.replace(topology, nodes=tuple(nodes))


def _slot_request(node: NodeSpec, topology: Topology) -> SlotRequest:
    """Containers have an address each; nodes of one machine share one."""
    place = node.machine if topology.runtime == MACHINES else node.name
    return SlotRequest(node.name, node.role, place, node.port_slot)


def _refuse_shared_identity(topology: Topology, ring: KeyRing) -> None:
    """Two nodes with one key would be punished as one that contradicts itself."""
    owner: dict[str, str] = {}
    for node in topology.nodes:
        first = owner.setdefault(ring.nodes[node.name].node_seed, node.name)
        if first != node.name:
            raise BadInput(
                f"{node.name} and {first} have one node key in the key ring; remove the entry of one of them, "
                "and `up` makes it a key of its own"
            )


def _refuse_other_genesis(genesis: Genesis, topology: Topology) -> None:
    changes = changed_settings(genesis, topology)
    if not changes:
        return
    variables = {".".join(row.target): row.name for row in VARIABLES.values() if row.target}
    listed = "; ".join(
        f"{variables.get(name, name)} is {fixed} and cannot become {wanted}" for name, fixed, wanted in changes
    )
    raise BadInput(
        f"testnet {topology.name} has its genesis already: {listed}; set the old values again, "
        f"or start afresh with `stratosctl down --purge -i {topology.source}` and `up`"
    )


def _plan_of(
    topology: Topology,
    ring: KeyRing,
    ports: PortMap,
    genesis: Genesis,
    before: Plan | None,
    leaving: tuple[NodePlan, ...],
    *,
    left: tuple[str, ...],
    image: str,
    outside: Endpoints | None,
) -> Plan:
    keys = {node.name: ring.nodes[node.name].node_key() for node in topology.nodes}
    entries = {
        node.name: PeerEntry(
            name=node.name,
            role=node.role,
            public_key=keys[node.name].public_key.hex(),
            endpoint=endpoint_of(node, ports),
        )
        for node in topology.nodes
    }
    others = _peers_outside(outside, ours=frozenset(entry.public_key for entry in entries.values()))
    known = {node.name: node.config for node in before.nodes} if before is not None else {}
    leavers = tuple(
        PeerEntry(name=node.name, role=node.role, public_key=node.public_key, endpoint=node.config.network_address)
        for node in leaving
    )
    limits = topology.faucet
    faucet = (
        FaucetSettings(
            coordinator=ring.coordinator_key().public_key.hex(),
            open_wei=str(limits.open_wei),
            day_wei=str(limits.day_wei),
            total_wei=str(limits.total_wei),
            address_requests=limits.address_requests,
        )
        if any(node.faucet for node in topology.nodes)
        else None
    )
    # Names of a network that others run say nothing about ours: every node of a participant registers itself.
    from_genesis = genesis_names(genesis) - set(left) if outside is None else frozenset[str]()
    nodes = tuple(
        NodePlan(
            name=node.name,
            role=node.role,
            node=keys[node.name].text,
            owner=ring.nodes[node.name].owner_key().text,
            public_key=keys[node.name].public_key.hex(),
            deposit_wei=node.deposit_wei,
            stake_wei=node.stake_wei,
            registers=node.name not in from_genesis,
            config=_config(
                node,
                topology,
                ports,
                entries,
                others,
                leavers,
                known.get(node.name),
                registers=node.name not in from_genesis,
                slice_transport=outside.slice_transport if outside is not None else topology.slice_transport,
                faucet=faucet if node.faucet else None,
            ),
            machine=node.machine if topology.runtime == MACHINES else "",
            image=image if topology.runtime != PROCESS else "",
            cpus=node.cpus,
            memory_bytes=node.memory_bytes,
            bandwidth_mbit=node.bandwidth_mbit,
        )
        for role in START_ORDER
        for node in topology.of_role(role)
    )
    return Plan(
        name=topology.name,
        source=topology.source,
        runtime=topology.runtime,
        machines=topology.machines if topology.runtime == MACHINES else (),
        spawn=topology.spawn,
        inventory_image=topology.image if topology.runtime != PROCESS else "",
        ports=ports,
        nodes=nodes,
        left=left,
        warnings=topology.warnings,
        public_machine=next(
            (machine.name for machine in topology.machines if topology.public_host in machine.hosts), ""
        )
        if topology.runtime == MACHINES
        else "",
        public_port=topology.public_port,
        outside=outside,
    )


def _peers_outside(outside: Endpoints | None, *, ours: frozenset[str]) -> tuple[PeerEntry, ...]:
    """Validators and meta nodes that others run; never ourselves, should they list us."""
    if outside is None:
        return ()
    found = [("validator", one.name, one.public_key, one.p2p) for one in outside.validators]
    found += [("meta", one.name, one.public_key, one.rpc) for one in outside.meta]
    return tuple(
        PeerEntry(name=name, role=role, public_key=key, endpoint=endpoint)
        for role, name, key, endpoint in found
        if key is not None and key not in ours
    )


def _config(
    node: NodeSpec,
    topology: Topology,
    ports: PortMap,
    entries: dict[str, PeerEntry],
    others: tuple[PeerEntry, ...],
    leaving: tuple[PeerEntry, ...],
    before: NodeConfig | None,
    *,
    registers: bool,
    slice_transport: str,
    faucet: FaucetSettings | None,
) -> NodeConfig:
    """A node knows the others of its own layer and the entry points of the layers it talks to, and nobody else; one that
    was planned `before` keeps those it knew then. Who is `leaving` is there until the newcomers can take over."""

    present = {entry.name: entry for entry in (*others, *entries.values())}

    def of(role: str, known: tuple[PeerEntry, ...] | None) -> tuple[PeerEntry, ...]:
        ours = [entries[other.name] for other in topology.of_role(role) if other.name != node.name]
        fresh = (*ours, *(entry for entry in (*others, *leaving) if entry.role == role))
        if known is None:
            return fresh
        all_left = bool(fresh) and not any(entry.name in present for entry in known)
        return fresh if known and all_left else tuple(present.get(entry.name, entry) for entry in known)

    listening = ports.ports_of(node.name, node.role)
    return NodeConfig(
        name=node.name,
        role=node.role,
        network_address=entries[node.name].endpoint,
        listen=node.address if topology.runtime == PROCESS else EVERYWHERE,
        ports=listening if topology.metrics_ports else structs.replace(listening, metrics=UNSET),
        peers=of(node.role, before.peers if before else None) if node.role != "resource" else (),
        validators=of("validator", before.validators if before else None) if node.role != "validator" else (),
        meta=of("meta", before.meta if before else None) if node.role == "resource" else (),
        slice_transport=slice_transport,
        host=node.host,
        region=node.region,
        deposit_wei=str(node.deposit_wei) if registers and node.role == "resource" else "0",
        log_level=node.log_level,
        limits=LimitSettings(disk_bytes=node.disk_bytes) if node.disk_bytes else LimitSettings(),
        faucet=faucet,
    )
