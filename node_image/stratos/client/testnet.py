"""A testnet folder as a client sees it: `genesis.json`, `endpoints.json`, `wallets/<name>.json` (0600), `ledger/`."""

from pathlib import Path

import msgspec
from msgspec import Struct

from stratos.client.errors import Environment
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
        """The key in `wallets/<name>.json`; raises Environment."""
        path = self.folder / "wallets" / f"{name}.json"
        if "/" in name or not path.is_file():
            known = ", ".join(sorted(entry.stem for entry in (self.folder / "wallets").glob("*.json"))) or "none"
            raise Environment(
                f"testnet {self.folder.name} has no wallet {name!r} (it has {known}); make it with `stratosctl wallet new {name}`"
            )
        try:
            return load_wallet_key(path)
        except KeyFileError as error:
            raise Environment(str(error)) from error


def load_testnet(folder: Path) -> Testnet:
    """Read a testnet folder; raises Environment when it is not one."""
    try:
        genesis = load_genesis(folder / "genesis.json")
        endpoints = msgspec.json.decode((folder / "endpoints.json").read_bytes(), type=Endpoints)
    except (GenesisError, OSError) as error:
        raise Environment(f"{folder} is not a running testnet ({error}); start it with `stratosctl up`") from error
    except msgspec.DecodeError as error:
        raise Environment(f"{folder / 'endpoints.json'} is damaged: {error}; run `stratosctl up` again") from error
    return Testnet(folder, genesis, endpoints)
