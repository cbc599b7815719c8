"""Names in a script and the addresses behind them.

A wallet and a node key are derived from a name, so a script means the same everywhere. Wallets need no key here (the
ledger is asked directly, as after a checked signature), so their address is a hash; nodes get real ed25519 keys, because
authorities sign what they decide and the ledger checks it.
"""

import hashlib

from stratos.crypto.keys import NodeKey
from stratos.ledger.bank import PUBLIC_POOLS


def wallet_address(name: str) -> bytes:
    """The wallet called `name`."""
    return hashlib.sha256(b"stratos replay wallet\0" + name.encode()).digest()[:20]


class Names:
    """All names of a script met so far, both ways."""

    def __init__(self) -> None:
        self._wallets: dict[str, bytes] = {}
        self._keys: dict[str, NodeKey] = {}
        self._of_hex: dict[str, str] = {address.hex(): name for name, address in PUBLIC_POOLS.items()}

    def wallet(self, name: str) -> bytes:
        """Address of the wallet called `name`."""
        address = self._wallets.get(name)
        if address is None:
            address = self._wallets[name] = wallet_address(name)
            self._of_hex[address.hex()] = name
        return address

    def node_key(self, name: str) -> NodeKey:
        """Key of the node called `name`."""
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = NodeKey(hashlib.sha256(b"stratos replay node\0" + name.encode()).digest())
            self._of_hex[key.address.hex()] = name
        return key

    def node(self, name: str) -> bytes:
        """Address of the node called `name`."""
        return self.node_key(name).address

    def name_of(self, address: bytes) -> str:
        """The name behind an address of this script, its hex when it has none."""
        return self._of_hex.get(address.hex(), address.hex())

    def named(self, text: str) -> str:
        """`text` with every known address in hex replaced by its name."""
        if len(text) < 40:
            return text
        known = self._of_hex.get(text)
        if known is not None:
            return known
        return " ".join(self._of_hex.get(word.rstrip(".,;:"), word) for word in text.split(" "))
