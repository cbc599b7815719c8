"""Nodes that join a running testnet, or leave it, do so on the chain, as any participant's node would.

Joining: the faucet fills the owner's wallet. A resource node then registers itself; for the others the owner does it here,
with the node key's agreement. Then the network decides: meta nodes activate a resource node by quorum, the owners of
our meta nodes vote for a new one, a validator votes as soon as it has stake; both only after they have caught up, so
that no layer waits for them. Leaving: the owner unbonds, which takes the node out of all duties; its deposit
returns after the lock. Every step first looks at what the register says, so a run that was killed is simply repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import structs

from orchestrator.chain_api import ChainApi, Committed, Refused, Registered
from orchestrator.errors import PartialFailure
from orchestrator.node_status import base_status
from orchestrator.plan.keys import FAUCET, KeyRing
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.testnet.catching_up import wait_following, wait_voting
from orchestrator.testnet.folder import TestnetFolder
from stratos.client.records import Endpoints, MetaEndpoint, ValidatorEndpoint
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.crypto.signing import sign_bytes
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.txs import (
    TAG_NODE,
    AnnounceValidator,
    CreateMetaNode,
    CreateValidator,
    Delegate,
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


def _silent(_text: str) -> None:
    """Nobody wants to hear."""


class Registrar:
    """Sends what owners sign for the nodes of one testnet."""

    def __init__(self, folder: TestnetFolder, ring: KeyRing, *, say: Callable[[str], None] = _silent) -> None:
        self.folder = folder
        self.ring = ring
        self.say = say
        self.genesis: Genesis = folder.need_genesis()
        self.hash = genesis_hash(self.genesis)
        self.plan = folder.need_plan()
        self.endpoints = _best_first(folder.endpoints(), self.plan)
        self.api = ChainApi(self.endpoints)
        blocks = self.genesis.value_consensus.block_seconds + self.genesis.meta_consensus.block_seconds
        self.patience = ACTIVE_SECONDS + ACTIVE_BLOCKS * blocks

    def join(self, node: NodePlan) -> bool:
        """Make the node registered and active; whether anything was left to do. Raises PartialFailure at the deadline."""
        if node.role == "validator":
            return self._join_validator(node)
        found = self._found(node)
        if found is not None and found.active:
            return False
        # An unbonded meta node with a deposit is a candidate; one without has left, as has any other unbonded node.
        if found is None or (found.state.startswith("unbonded") and found.deposit_wei == 0):
            self._fund(node, node.deposit_wei)
            if node.role != "resource":  # a resource node with a funded owner registers itself
                self._register(node)
        if node.role == "meta":
            wait_following(node, self.endpoints, patience_seconds=self.patience, say=self.say)
            self._vote_for(node)
        self._wait_active(node)
        if node.role == "meta":
            wait_voting(node, patience_seconds=self.patience)
        return True

    def _join_validator(self, node: NodePlan) -> bool:
        """Register with a single vote's stake, so that the others let the node in; stake the rest when it has caught up.

        A newcomer with all its weight at once would count for the quorum while it still executes old blocks, and a
        small network would stand still until it is done.
        """
        unit = int(self.genesis.ledger.staking.power_unit_wei)
        first = min(unit, node.stake_wei)
        owner, address = self.ring.nodes[node.name].owner_key(), self.ring.nodes[node.name].node_key().address
        found = self._found(node)
        if found is not None and (found.stake_wei > first or (found.stake_wei == node.stake_wei)):
            return False
        if found is None:
            self._fund(node, node.stake_wei)
            self._register(node)
        elif found.stake_wei < first:  # one that had left comes back
            self._fund(node, node.stake_wei)
            self._must(self._send(owner, Delegate(address, str(first))), node)
        self._announce(node)
        wait_following(node, self.endpoints, patience_seconds=self.patience, say=self.say)
        if node.stake_wei > first:
            self._fund(node, node.stake_wei - first, transactions=1)
            self._must(self._send(owner, Delegate(address, str(node.stake_wei - first))), node)
        wait_voting(node, patience_seconds=self.patience)
        return True

    def _announce(self, node: NodePlan) -> None:
        """Say where a validator answers; a chain of older rules does without, because the newcomer dials the others."""
        owner, address = self.ring.nodes[node.name].owner_key(), self.ring.nodes[node.name].node_key().address
        try:
            self._send(owner, AnnounceValidator(address, node.config.network_address))
        except Refused as error:
            self.say(f"{node.name} is not announced: {error}")

    def leave(self, name: str, role: str) -> str:
        """Take a node out of the register; what was done, as a phrase."""
        secrets = self.ring.nodes[name]
        key, owner = secrets.node_key(), secrets.owner_key()
        found = self.api.registered_node(key.text, role)
        if found is None:
            return "it was not in the chain's register"
        if role == "validator":
            stake = self.own_stake(name)
            if not stake:
                return "it had no stake left"
            return self._outcome(self._send(owner, Undelegate(key.address, str(stake))), "its stake is unbonding")
        if not found.state.startswith("bonded"):
            return f"it was {found.state} already"
        return self._outcome(
            self._send(owner, Unbond(key.address)), "unbonded on the chain, its deposit returns after the lock"
        )

    def own_stake(self, name: str) -> int:
        """Wei that the owner of one of our validators has staked with it."""
        secrets = self.ring.nodes[name]
        address = secrets.node_key().text
        stakes = self.api.get(f"/stratos/staking/v1/delegations/{secrets.owner_key().text}")["delegations"]
        return next((int(entry["stake_wei"]) for entry in stakes if entry["validator"] == address), 0)

    def _outcome(self, done: Committed, phrase: str) -> str:
        return phrase if done.code == "ok" else f"not unbonded, the chain says: {done.error}"

    def _send(self, key: WalletKey, message: Message) -> Committed:
        return self.api.send(key, message, genesis_hash=self.hash)

    def _fund(self, node: NodePlan, amount_wei: int, *, transactions: int = FEES) -> None:
        owner = self.ring.nodes[node.name].owner_key()
        wanted = amount_wei + transactions * int(self.genesis.ledger.gas_price_wei)
        short = wanted - self.api.account(owner.text).balance_wei
        if short > 0 and self.plan.outside is not None:
            raise PartialFailure(
                f"the owner wallet {owner.text} of {node.name} has {short} wei less than the {wanted} that deposit or stake "
                "and fees take; ask the faucet again with `stratosctl join TICKET`, or send them to it, then run `up` again"
            )
        if short > 0:
            self._must(self._send(self.ring.wallet_key(FAUCET), Send(owner.address, str(short))), node)

    def _register(self, node: NodePlan) -> None:
        secrets = self.ring.nodes[node.name]
        owner = secrets.owner_key()
        try:
            first = int(self.genesis.ledger.staking.power_unit_wei)
            message = registration(node, secrets.node_key(), owner, self.hash, first_stake_wei=first)
            self._must(self._send(owner, message), node)
        except Refused:
            if self.api.registered_node(node.node, node.role) is None:
                raise

    def _vote_for(self, node: NodePlan) -> None:
        """Owners of our active meta nodes approve, until the candidate is admitted."""
        candidate = self.ring.nodes[node.name].node_key().address
        for voter in (*self.plan.nodes, *self.plan.leaving):
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


def _best_first(endpoints: Endpoints, plan: Plan) -> Endpoints:
    """The endpoints with those of leaving nodes, validators in the order in which they should be asked: most blocks first."""
    leaving = tuple(
        ValidatorEndpoint(name=node.name, http=node.http, p2p=node.config.network_address, public_key=node.public_key)
        for node in plan.leaving
        if node.role == "validator"
    )
    metas = tuple(
        MetaEndpoint(name=node.name, http=node.http, rpc=node.config.network_address, public_key=node.public_key)
        for node in plan.leaving
        if node.role == "meta"
    )
    found = (*endpoints.validators, *leaving)
    heights = {entry.name: int((base_status(entry.http) or {}).get("height", -1)) for entry in found}
    validators = tuple(sorted(found, key=lambda entry: -heights[entry.name]))
    return structs.replace(endpoints, validators=validators, meta=(*endpoints.meta, *metas))


def needed_wei(node: NodePlan, genesis: Genesis) -> int:
    """What a new node's owner must have: deposit or stake, and fees."""
    return (node.deposit_wei or node.stake_wei) + fees_wei(genesis)


def fees_wei(genesis: Genesis) -> int:
    """What a new node's owner has for transactions."""
    return FEES * int(genesis.ledger.gas_price_wei)


def registration(node: NodePlan, key: NodeKey, owner: WalletKey, network: bytes, *, first_stake_wei: int) -> Message:
    """The message with which `owner` registers a validator (at first with `first_stake_wei` at most) or meta node."""
    if node.role == "validator":
        return CreateValidator(key.public_key, str(min(node.stake_wei, first_stake_wei)), 0, node.name)
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
    registrar = Registrar(folder, ring, say=say)
    joined = set()
    for node in nodes:
        say(f"registering {node.name}")
        if registrar.join(node):
            joined.add(node.name)
    return frozenset(joined)
