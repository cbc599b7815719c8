"""What a person types for a wallet or a node, and the address it stands for.

A wallet is a name of this testnet's folder or `st1...`; a node is a name of its plan or `stsds1...`; an operator is a
validator's name or its owner's `st1...`. Every refusal says what would have been understood.
"""

from __future__ import annotations

import re

from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.plan.plan import NodePlan
from orchestrator.testnet.folder import TestnetFolder, wallet_of
from stratos.crypto import bech32
from stratos.crypto.keys import WalletKey

_ADDRESS = re.compile(r"\b[0-9a-f]{40}\b")


class NamedAddress(Struct, frozen=True):
    """An address, its text form, and the key when it is ours."""

    raw: bytes
    text: str
    key: WalletKey | None = None


def wallet_address(folder: TestnetFolder, text: str) -> NamedAddress:
    """A wallet by name or address."""
    if text.startswith("st1"):
        return NamedAddress(_decoded(text, bech32.WALLET), text)
    key = wallet_key(folder, text)
    return NamedAddress(key.address, key.text, key)


def wallet_key(folder: TestnetFolder, name: str) -> WalletKey:
    """The key of a wallet of this testnet; a node's name stands for its owner's wallet."""
    node = _planned(folder, name)
    if node is not None and not (folder.wallets / f"{name}.json").exists():
        return folder.ring().nodes[name].owner_key()
    return wallet_of(folder, name)


def node_address(folder: TestnetFolder, text: str) -> NamedAddress:
    """A node by name or address."""
    if text.startswith("stsds1"):
        return NamedAddress(_decoded(text, bech32.NODE), text)
    node = _planned(folder, text)
    if node is None:
        known = ", ".join(one.name for one in folder.need_plan().nodes)
        raise BadInput(f"testnet {folder.name} has no node {text[:70]!r}; name one of {known}, or an address stsds1...")
    return NamedAddress(_decoded(node.node, bech32.NODE), node.node)


def with_names(folder: TestnetFolder, sentence: str) -> str:
    """A sentence of the chain, which knows addresses only (40 hex digits), with this testnet's names for them."""
    if not _ADDRESS.search(sentence):
        return sentence
    plan = folder.need_plan()
    names = {_decoded(node.owner, bech32.WALLET).hex(): f"wallet {node.name}" for node in plan.nodes}
    names |= {_decoded(node.node, bech32.NODE).hex(): node.name for node in plan.nodes}
    for path in sorted(folder.wallets.glob("*.json")):
        names.setdefault(wallet_of(folder, path.stem).address.hex(), f"wallet {path.stem}")
    return _ADDRESS.sub(lambda found: names.get(found[0], found[0]), sentence)


def _planned(folder: TestnetFolder, name: str) -> NodePlan | None:
    return next((node for node in folder.need_plan().nodes if node.name == name), None)


def _decoded(text: str, prefix: str) -> bytes:
    try:
        return bech32.decode(prefix, text)
    except bech32.Bech32Error as error:
        raise BadInput(f"{text[:90]!r} is not an address: {error}") from error
