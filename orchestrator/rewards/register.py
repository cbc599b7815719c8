"""Nodes and authorities as certified events tell them: from the genesis file on, event by event.

Fed only with events whose bridge root was checked, it knows every node's key and wallet and which meta nodes were active
at any moment, without asking anybody for state.
"""

from msgspec import Struct

from orchestrator.errors import BadInput
from stratos.crypto import bech32
from stratos.crypto.keys import node_address
from stratos.wire.block import Event
from stratos.wire.genesis import Genesis


class Registered(Struct, frozen=True):
    """One registered node. `wallet` is where its rewards go."""

    address: bytes
    public_key: bytes
    wallet: bytes
    role: str
    name: str


class CertifiedRegister:
    """Follows registrations, admissions and removals."""

    def __init__(self, genesis: Genesis) -> None:
        self.nodes: dict[bytes, Registered] = {}
        for node in genesis.meta_nodes:
            self._add(node.node_public_key, node.beneficiary, "meta", node.name)
        self._active = set(self.nodes)
        self._validators = {
            text
            for validator in genesis.validators
            for text in (
                validator.name,
                node_address(validator.node_public_key).hex(),
                bech32.encode(bech32.NODE, node_address(validator.node_public_key)),
            )
        }
        for node in genesis.resource_nodes:
            self._add(node.node_public_key, node.beneficiary, "resource", node.name)

    @property
    def active(self) -> tuple[Registered, ...]:
        """Active meta nodes by address."""
        return tuple(self.nodes[address] for address in sorted(self._active))

    def apply(self, event: Event) -> None:
        """Take in the next certified event."""
        told = dict(event.attributes)
        match event.kind:
            case "resource_created" | "meta_created":
                role = event.kind.removesuffix("_created")
                self._add(bytes.fromhex(told["public_key"]), bytes.fromhex(told["beneficiary"]), role, told["name"])
            case "meta_admitted":
                self._active.add(bytes.fromhex(told["node"]))
            case "meta_removed":
                self._active.discard(bytes.fromhex(told["node"]))

    def find(self, text: str) -> Registered:
        """The node with a name or address (stsds1..., hex); raises BadInput."""
        found = [
            node
            for node in self.nodes.values()
            if text in (node.name, node.address.hex(), bech32.encode(bech32.NODE, node.address))
        ]
        if len(found) == 1:
            return found[0]
        if not found and text in self._validators:
            raise BadInput(
                f"{text!r} is a validator; what it earns follows from its stake in every block, and a payout that can be "
                "proven is one of a resource or meta node"
            )
        known = ", ".join(sorted(node.name for node in self.nodes.values() if node.name))
        reason = "is the name of several nodes; give its address" if found else f"is not registered; known are {known}"
        raise BadInput(f"node {text!r} {reason}")

    def _add(self, public_key: bytes, wallet: bytes, role: str, name: str) -> None:
        address = node_address(public_key)
        self.nodes[address] = Registered(address, public_key, wallet, role, name)
