"""`join TICKET`: from a ticket to a node of ours that takes part in a network of others.

Steps, each of which looks before it acts, so that an interrupted join is finished by the same command and a second one changes
nothing: check the ticket; fetch the network and hold it against the ticket; measure the machine; write the network's files and
the inventory; make the keys; let the faucet pay the owner; then `up`, which places, starts, registers and waits until
the node is active. After the first step nothing depends on a seed's honesty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, structs

from orchestrator.chain_api import ChainApi
from orchestrator.errors import BadInput
from orchestrator.joining import form
from orchestrator.joining.issuing import deposit_wei, stake_wei
from orchestrator.joining.measuring import measure_machine
from orchestrator.joining.network import Fetch, fetch, find_network
from orchestrator.joining.paying import ask_faucet
from orchestrator.plan.keys import KeyRing, NodeSecrets, complete_ring
from orchestrator.plan.plan import OutsideNetwork
from orchestrator.runtimes.placing import replace_file
from orchestrator.testnet.folder import TestnetFolder, dump_genesis, readable, testnets_root
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.testnet.planning import topology_at
from orchestrator.testnet.raising import Raising, UpReport
from orchestrator.testnet.registration import fees_wei
from orchestrator.topology.topology import PROCESS, NodeSpec, Topology
from stratos.crypto.keyfile import load_wallet_key
from stratos.wire.genesis import genesis_hash
from stratos.wire.ticket import Ticket, TicketError, read_ticket, refuse_ticket

FAUCET_SECONDS = 120.0
Say = Callable[[str], None]
Measure = Callable[[Topology, Ticket, Path, Say], tuple[str, ...]]
"""Measures the machine of a topology for a ticket's role and tier: what was found, as notes; raises when not met."""


class JoinWish(Struct, frozen=True, kw_only=True):
    """What the participant says. Empty text: found out or left to defaults."""

    ticket: str
    coordinator: bytes | None = None
    output: Path | None = None
    testnet: str = ""
    host: str = ""
    ssh_key: Path | None = None
    name: str = ""
    address: str = ""
    region: str = ""
    disk: str = "16 GiB"
    runtime: str = "machines"
    wallet: Path | None = None
    stake_wei: int = 0
    """Of a validator; 0: what the ticket grants, or as much as the smallest validator of the genesis."""
    measure: bool = False
    """Measure the machine also for a trial by process."""


class JoinReport(Struct, frozen=True, kw_only=True):
    """What came of it. `changed` 0: everything was so already. `paid_wei` is what the faucet paid in this run."""

    network: str
    testnet: str
    inventory: str
    folder: str
    role: str
    tier: int
    node: str
    address: str
    owner: str
    active: bool
    changed: int
    paid_wei: int
    stake_wei: int
    """Of a validator; 0 for other roles."""
    seconds: float
    notes: tuple[str, ...]


class Joining:
    """One run of `join`."""

    def __init__(self, wish: JoinWish, *, say: Say, measure: Measure = measure_machine, get: Fetch = fetch) -> None:
        self.wish = wish
        self.say = say
        self.measure = measure
        self.get = get
        self.notes: list[str] = []
        self.written = 0

    def run(self) -> JoinReport:
        """Do it; raises BadInput, EnvironmentFault or PartialFailure with the reason."""
        began = time.monotonic()
        ticket = self._ticket()
        name = self.wish.testnet or ticket.body.network
        folder = TestnetFolder(testnets_root() / name)
        self._refuse_other_testnet(folder, ticket)
        self._refuse_expired(ticket, folder)
        if self.wish.coordinator is None and not folder.exists:
            signer = ticket.body.coordinator.hex()
            self.notes.append(
                f"the ticket is signed by coordinator {signer}: is it the one you know? --coordinator-key asks"
            )
        self.say("asking the network's seeds")
        network = find_network(ticket, say=self.notes.append, get=self.get)
        output = (self.wish.output or Path(f"{name}.yml")).resolve()
        self._write_network(output, network)
        if not output.exists():
            self._write_inventory(output, name, ticket, network)
        topology = topology_at(output)
        node = self._our_node(topology, output, name, ticket)
        if topology.runtime != PROCESS or self.wish.measure:
            self.say("measuring the machine")
            self.notes.extend(self.measure(topology, ticket, testnets_root(), self.say))
        else:
            self.notes.append(
                "a process of this machine is a trial: nothing was measured, and it ends with the machine"
            )
        with hold_testnet(folder.path.parent, folder.name):
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            journal = Journal(folder.journal_file, "join")
            journal.step("begun", network=ticket.body.network, inventory=str(output))
            secrets = self._keys(folder, node.name, journal)
            paid = self._fund(ticket, node, secrets, network, journal)
            report = Raising(output, began=time.time(), say=self.say).run(probe=False)
            journal.step("joined", node=node.name)
        return self._report(ticket, folder, output, node, report, paid=paid, seconds=time.monotonic() - began)

    # -- before anything is changed

    def _ticket(self) -> Ticket:
        try:
            return read_ticket(self.wish.ticket)
        except TicketError as error:
            raise BadInput(str(error)) from error

    def _refuse_expired(self, ticket: Ticket, folder: TestnetFolder) -> None:
        """An expired ticket lets nobody in, but who is in may finish what was begun."""
        try:
            refuse_ticket(ticket, now_ms=time.time_ns() // 1_000_000, coordinator=self.wish.coordinator)
        except TicketError as error:
            pinned = self.wish.coordinator is None or self.wish.coordinator == ticket.body.coordinator
            if not (pinned and folder.exists):
                raise BadInput(str(error)) from error
            self.notes.append(f"{error}; going on, because this testnet was joined before")

    def _refuse_other_testnet(self, folder: TestnetFolder, ticket: Ticket) -> None:
        genesis = folder.genesis()
        if genesis is not None and genesis_hash(genesis) != ticket.body.genesis_hash:
            raise BadInput(
                f"{folder.path} is testnet {folder.name} with genesis {genesis_hash(genesis).hex()}, and the ticket is for "
                f"{ticket.body.genesis_hash.hex()}; give --testnet NAME to keep both, or remove the old one with "
                "`stratosctl down --purge`"
            )
        plan = folder.plan()
        if plan is not None and plan.outside is None:
            raise BadInput(
                f"{folder.path} is the very testnet that the ticket is for, and you run it; add the host to its inventory and run "
                f"`stratosctl up -i {plan.source}`, or join from another machine"
            )

    # -- files

    def _write_network(self, output: Path, network: OutsideNetwork) -> None:
        """Genesis and entry points beside the inventory; a newer list of entry points replaces an older one."""
        place = network_folder(output)
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, content in (
            ("genesis.json", dump_genesis(network.genesis)),
            ("endpoints.json", readable(network.endpoints)),
        ):
            path = place / name
            if not path.exists() or path.read_bytes() != content:
                replace_file(path, content)
                self.written += 1

    def _write_inventory(self, output: Path, testnet: str, ticket: Ticket, network: OutsideNetwork) -> None:
        wish, body = self.wish, ticket.body
        seed = urlsplit(network.endpoints.validators[0].http)
        blocks = network.genesis.value_consensus.block_seconds + network.genesis.meta_consensus.block_seconds
        answers = form.Answers(
            network=body.network,
            testnet=testnet,
            network_folder=network_folder(output).name,
            runtime=wish.runtime,
            role=body.role,
            name=wish.name or form.default_name(body.role),
            host=wish.host,
            address=wish.address or self._address((seed.hostname or "", seed.port or 80)),
            region=wish.region,
            tier=body.tier,
            disk=wish.disk,
            deposit_wei=deposit_wei(body.role, body.tier, network.genesis),
            stake_wei=self._stake(ticket, network),
            ssh_key=str(wish.ssh_key.resolve()) if wish.ssh_key is not None else "",
            hardware_factor=body.hardware_permille / 1000,
            ready_seconds=max(60, int(20 * blocks)),
        )
        replace_file(output, form.fill(answers).encode())
        self.written += 1
        self.notes.append(f"wrote {output}")

    def _stake(self, ticket: Ticket, network: OutsideNetwork) -> int:
        """What a validator shall stake; raises BadInput for what gives no vote, and for other roles when asked for."""
        asked, genesis = self.wish.stake_wei, network.genesis
        if ticket.body.role != "validator":
            if asked:
                raise BadInput(f"a {ticket.body.role} node has no stake but a deposit; leave --stake away")
            return 0
        least = int(genesis.ledger.staking.power_unit_wei)
        if asked and asked < least:
            raise BadInput(
                f"a stake of {asked} wei gives no vote; give --stake of at least {form.stos_text(least)} STOS"
            )
        return asked or stake_wei(int(ticket.body.grant_wei), genesis)

    def _address(self, seed: tuple[str, int]) -> str:
        """Where others reach the node: the host it is put on, or this machine as the seed sees it."""
        return form.host_of(self.wish.host) if self.wish.host else form.own_address(seed)

    def _our_node(self, topology: Topology, output: Path, testnet: str, ticket: Ticket) -> NodeSpec:
        """The node of the inventory that the ticket is for; what was edited by hand must still fit."""
        if topology.name != testnet or Path(topology.network) != network_folder(output):
            raise BadInput(
                f"{output} is an inventory of testnet {topology.name} with network {topology.network or 'of its own'}, not of "
                f"{testnet} with {network_folder(output)}; name another file with --output"
            )
        nodes = topology.of_role(ticket.body.role)
        if self.wish.name:
            nodes = tuple(node for node in nodes if node.name == self.wish.name)
        if len(nodes) != 1:
            raise BadInput(
                f"{output} has {len(nodes)} {ticket.body.role} nodes{f' named {self.wish.name}' * bool(self.wish.name)}, and the "
                "ticket is for one; say which with --name, or name another file with --output"
            )
        if nodes[0].role == "resource" and nodes[0].tier != ticket.body.tier:
            raise BadInput(
                f"{output} says stratos_tier {nodes[0].tier} and the ticket is for tier {ticket.body.tier}; "
                "correct the file, or ask the coordinator for another ticket"
            )
        return nodes[0]

    # -- money

    def _keys(self, folder: TestnetFolder, name: str, journal: Journal) -> NodeSecrets:
        """The node's key and its owner's, durable before anybody pays into the wallet."""
        ring = folder.ring()
        done = complete_ring(_with_owner(ring, name, self.wish.wallet), [name], os.urandom, participant=True)
        if done != ring:
            folder.save_ring(done)
            self.written += 1
            journal.step("keys", nodes=[name])
        return done.nodes[name]

    def _fund(
        self, ticket: Ticket, node: NodeSpec, secrets: NodeSecrets, network: OutsideNetwork, journal: Journal
    ) -> int:
        """Let the faucet pay when deposit (or stake) and fees are not there and the node is not registered yet; what it paid."""
        body, owner = ticket.body, secrets.owner_key()
        api = ChainApi(network.endpoints)
        if api.registered_node(secrets.node_key().text, node.role) is not None:
            return 0
        needed = (node.deposit_wei or node.stake_wei) + fees_wei(network.genesis)
        balance = api.account(owner.text).balance_wei
        if balance >= needed:
            return 0
        what = "stake" if node.role == "validator" else "deposit"
        grant = int(body.grant_wei) if body.faucet else 0
        if balance + grant < needed:
            raise BadInput(
                f"the owner wallet {owner.text} has {form.stos_text(balance)} STOS, {what} and fees take {form.stos_text(needed)}, "
                f"and the ticket grants {form.stos_text(grant) if grant else 'nothing'}; send the rest to it and run the same "
                f"command again, give --wallet FILE, or lower the {what} in the inventory"
            )
        self.say("asking the faucet")
        payment = ask_faucet(ticket, owner, deadline_seconds=FAUCET_SECONDS, say=self.say)
        journal.step("paid", amount_wei=payment.amount_wei, tx=payment.tx_hash)
        self.notes.append(f"the faucet paid {form.stos_text(int(payment.amount_wei))} STOS to {owner.text}")
        return int(payment.amount_wei)

    # -- after

    def _report(
        self,
        ticket: Ticket,
        folder: TestnetFolder,
        output: Path,
        node: NodeSpec,
        report: UpReport,
        *,
        paid: int,
        seconds: float,
    ) -> JoinReport:
        planned = folder.need_plan().node(node.name)
        found = ChainApi(folder.endpoints()).registered_node(planned.node, node.role)
        return JoinReport(
            network=ticket.body.network,
            testnet=folder.name,
            inventory=str(output),
            folder=str(folder.path),
            role=node.role,
            tier=node.tier,
            node=node.name,
            address=planned.node,
            owner=planned.owner,
            active=found is not None and found.active,
            changed=report.changed + self.written + int(paid > 0),
            paid_wei=paid,
            stake_wei=node.stake_wei,
            seconds=round(seconds, 3),
            notes=(*self.notes, *report.notes),
        )


def network_folder(inventory: Path) -> Path:
    """Where the network's files are: beside the inventory, named after it."""
    return inventory.with_name(f"{inventory.stem}.network")


def _with_owner(ring: KeyRing, name: str, wallet: Path | None) -> KeyRing:
    """The ring with the participant's own wallet as the owner of a node; raises BadInput when another one is already."""
    if wallet is None:
        return ring
    owner = load_wallet_key(wallet)
    known = ring.nodes.get(name)
    if known is not None:
        if known.owner_key().address != owner.address:
            raise BadInput(
                f"{name} belongs to wallet {known.owner_key().text} already, not to {owner.text}; leave --wallet away"
            )
        return ring
    secrets = NodeSecrets(os.urandom(32).hex(), owner.secret.hex())
    return structs.replace(ring, nodes={**ring.nodes, name: secrets})
