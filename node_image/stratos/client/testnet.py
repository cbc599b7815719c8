"""A testnet folder as a client sees it: `genesis.json`, `endpoints.json`, `wallets/<name>.json` (0600), `ledger/`."""

from pathlib import Path

import msgspec
from msgspec import Struct

from stratos.client.errors import Environment, NotFound
from stratos.client.records import Endpoints
from stratos.crypto.keyfile import KeyFileError, load_wallet_key
from stratos.crypto.keys import WalletKey
from stratos.wire.genesis import Genesis, GenesisError, load_genesis


class Testnet(Struct, frozen=True):
    """What a folder says."""

    folder: Path
    genesis: Genesis
    endpoints: Endpoints

    @property
    def ledger_dir(self) -> Path:
        """Where clients of this testnet keep their ledger."""
        return self.folder / "ledger"

    def wallet(self, name: str = "user") -> WalletKey:
        """The key in `wallets/<name>.json`; raises NotFound, or Environment when it cannot be read."""
        path = self.folder / "wallets" / f"{name}.json"
        if "/" in name or not path.is_file():
            known = ", ".join(sorted(entry.stem for entry in (self.folder / "wallets").glob("*.json"))) or "none"
            raise NotFound(
                f"testnet {self.folder.name} has no wallet {name!r} (it has {known}); make it with `stratosctl wallet new {name}`"
            )
        try:
            return load_wallet_key(path)
        except KeyFileError as error:
            raise Environment(str(error)) from error


def load_testnet(folder: Path) -> Testnet:
    """Read a testnet folder; raises NotFound when it is none, Environment when it cannot be read."""
    if not (folder / "genesis.json").exists() or not (folder / "endpoints.json").exists():
        raise NotFound(no_testnet(folder))
    try:
        genesis = load_genesis(folder / "genesis.json")
        endpoints = msgspec.json.decode((folder / "endpoints.json").read_bytes(), type=Endpoints)
    except (GenesisError, OSError) as error:
        raise Environment(f"testnet {folder.name} cannot be read: {error}") from error
    except msgspec.DecodeError as error:
        raise Environment(f"{folder / 'endpoints.json'} is damaged: {error}; run `stratosctl up` again") from error
    return Testnet(folder, genesis, endpoints)


def no_testnet(folder: Path) -> str:
    """The sentence for a folder that holds no testnet."""
    inventory = "" if folder.name == "local" else " -i INVENTORY"
    return f"there is no testnet {folder.name} in {folder.parent}; bring it up with `stratosctl up{inventory}`"
