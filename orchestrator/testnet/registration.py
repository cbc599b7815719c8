"""Nodes that join a running testnet, or leave it, do so on the chain, as any participant's node would.

Joining: the faucet fills the owner's wallet. A resource node then registers itself; for the others the owner does it here,
with the node key's agreement. Then the network decides: meta nodes activate a resource node by quorum, the owners of
our meta nodes vote for a new one, a validator votes as soon as it has stake. Leaving: the owner unbonds, which takes the node out of all duties; its deposit
returns after the lock. Every step first looks at what the register says, so a run that was killed is simply repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import structs

from orchestrator.chain_api import ChainApi, ChainUnreachable, Committed, Refused, Registered
from orchestrator.errors import PartialFailure, StratosctlError
from orchestrator.plan.keys import FAUCET, KeyRing
from orchestrator.plan.plan import NodePlan
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.txs import (
    TAG_NODE,
    CreateMetaNode,
    CreateValidator,
    Message,
    Send,
    Unbond,
    Undelegate,
    Vote,
    registration_body,
)

ACTIVE_SECONDS = 30.0
ACTIVE_BLOCKS = 6
"""Blocks of both layers that pass between a registration and the quorum's activation."""
LOOK_SECONDS = 0.05
FEES = 20
"""How many transactions a new owner can pay beside the deposit."""


class Registrar:
    """Sends what owners sign for the nodes of one testnet."""

    def __init__(self, folder: TestnetFolder, ring: KeyRing) -> None:
        self.folder = folder
        self.ring = ring
        self.genesis: Genesis = folder.need_genesis()
        self.hash = genesis_hash(self.genesis)
        self.plan = folder.need_plan()
        self.api = ChainApi(folder.endpoints())
        blocks = self.genesis.value_consensus.block_seconds + self.genesis.meta_consensus.block_seconds
        self.patience = ACTIVE_SECONDS + ACTIVE_BLOCKS * blocks

    def join(self, node: NodePlan) -> bool:
        """Make the node registered and active; whether anything was left to do. Raises PartialFailure at the deadline."""
        found = self.api.registered_node(node.node, node.role)
        if found is not None and found.active:
            return False
        # An unbonded meta node with a deposit is a candidate; one without has left, as has any other unbonded node.
        if found is None or (found.state.startswith("unbonded") and found.deposit_wei == 0):
            self._fund(node)
            if node.role != "resource":  # a resource node with a funded owner registers itself
                self._register(node)
        if node.role == "meta":
            self._vote_for(node)
        self._wait_active(node)
        return True

    def leave(self, name: str, role: str) -> str:
        """Take a node out of the register; what was done, as a phrase."""
        secrets = self.ring.nodes[name]
        key, owner = secrets.node_key(), secrets.owner_key()
        found = self.api.registered_node(key.text, role)
        if found is None:
            return "it was not in the chain's register"
        if role == "validator":
            stakes = self.api.get(f"/stratos/staking/v1/delegations/{owner.text}")["delegations"]
            stake = next((entry["stake_wei"] for entry in stakes if entry["validator"] == key.text), "0")
            if stake == "0":
                return "it had no stake left"
            return self._outcome(self._send(owner, Undelegate(key.address, stake)), "its stake is unbonding")
        if not found.state.startswith("bonded"):
            return f"it was {found.state} already"
        return self._outcome(
            self._send(owner, Unbond(key.address)), "unbonded on the chain, its deposit returns after the lock"
        )

    def _outcome(self, done: Committed, phrase: str) -> str:
        return phrase if done.code == "ok" else f"not unbonded, the chain says: {done.error}"

    def _send(self, key: WalletKey, message: Message) -> Committed:
        return self.api.send(key, message, genesis_hash=self.hash)

    def _fund(self, node: NodePlan) -> None:
        owner = self.ring.nodes[node.name].owner_key()
        wanted = needed_wei(node, self.genesis)
        short = wanted - self.api.account(owner.text).balance_wei
        if short > 0 and self.plan.outside is not None:
            raise PartialFailure(
                f"the owner wallet {owner.text} of {node.name} has {short} wei less than the {wanted} that deposit and fees "
                "take; ask the faucet again with `stratosctl join TICKET`, or send them to it, then run `up` again"
            )
        if short > 0:
            self._must(self._send(self.ring.wallet_key(FAUCET), Send(owner.address, str(short))), node)

    def _register(self, node: NodePlan) -> None:
        secrets = self.ring.nodes[node.name]
        owner = secrets.owner_key()
        try:
            self._must(self._send(owner, registration(node, secrets.node_key(), owner, self.hash)), node)
        except Refused:
            if self.api.registered_node(node.node, node.role) is None:
                raise

    def _vote_for(self, node: NodePlan) -> None:
        """Owners of our active meta nodes approve, until the candidate is admitted."""
        candidate = self.ring.nodes[node.name].node_key().address
        for voter in self.folder.need_plan().nodes:
            if voter.role != "meta" or voter.name == node.name:
                continue
            found = self._found(node)
            if found is not None and found.active:
                return
            secrets = self.ring.nodes[voter.name]
            # A voter that is not active, or has voted before the last run was killed, is refused: the next one goes on.
            self._send(secrets.owner_key(), Vote(secrets.node_key().address, candidate, approve=True))

    def _found(self, node: NodePlan) -> Registered | None:
        return self.api.registered_node(node.node, node.role)

    def _wait_active(self, node: NodePlan) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            found = self._found(node)
            if found is not None and found.active:
                return
            if time.monotonic() > deadline:
                state = found.state if found is not None else "not registered"
                raise PartialFailure(
                    f"{node.name} ({node.node}) is {state} and not active after {self.patience:g} s; a quorum of meta nodes "
                    f"decides{self._votes_wanted(node)}, look at `stratosctl status` and run `up` again"
                )
            time.sleep(LOOK_SECONDS)

    def _votes_wanted(self, node: NodePlan) -> str:
        """What others must do for a candidate whose electors are not ours."""
        if node.role != "meta" or self.plan.outside is None:
            return ""
        return f", so ask their owners to run `stratosctl tx vote {node.node} --voter META-NODE --from META-NODE`"

    def _must(self, done: Committed, node: NodePlan) -> None:
        if done.code != "ok":
            raise PartialFailure(
                f"{node.name} could not be registered: {done.error} (transaction {done.hash}); run `up` again"
            )


def needed_wei(node: NodePlan, genesis: Genesis) -> int:
    """What a new node's owner must have: deposit or stake, and fees."""
    return (node.deposit_wei or node.stake_wei) + FEES * int(genesis.ledger.gas_price_wei)


def registration(node: NodePlan, key: NodeKey, owner: WalletKey, network: bytes) -> Message:
    """The message with which `owner` registers a validator or meta node, agreed to by the node's key."""
    if node.role == "validator":
        return CreateValidator(key.public_key, str(node.stake_wei), 0, node.name)
    unsigned = CreateMetaNode(
        node_public_key=key.public_key,
        deposit_wei=str(node.deposit_wei),
        beneficiary=owner.address,
        name=node.name,
        host=node.config.host,
        network_address=node.config.network_address,
        node_signature=bytes(64),
    )
    agreed = key.sign(sign_bytes(TAG_NODE, network, registration_body(owner.address, unsigned)))
    return structs.replace(unsigned, node_signature=agreed)


def join_register(
    folder: TestnetFolder, nodes: list[NodePlan], ring: KeyRing, *, say: Callable[[str], None]
) -> frozenset[str]:
    """Register and activate these nodes; names of those for which something was left to do."""
    registrar = Registrar(folder, ring)
    joined = set()
    for node in nodes:
        say(f"registering {node.name}")
        if registrar.join(node):
            joined.add(node.name)
    return frozenset(joined)


def leave_register(folder: TestnetFolder, name: str, *, runtime: Runtime) -> str:
    """Take a node that is about to be stopped out of the register; what was done, as a phrase."""
    config = folder.placed().get(name)
    ring = folder.ring()
    if config is None or name not in ring.nodes:
        return "it was never set up"
    if not any(state.pid for state in runtime.status().values()):
        return "the testnet does not run, so it could not be unbonded on the chain"
    try:
        return Registrar(folder, ring).leave(name, config.role)
    except ChainUnreachable as error:
        return f"it could not be unbonded: {error}"
    except StratosctlError as error:
        return f"it was not unbonded: {error}"
