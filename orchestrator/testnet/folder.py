"""The folder of one testnet, `.testnets/<name>/`: all state is plain files in it, and this file knows their names.

    genesis.json  plan.json  endpoints.json      public: what it is and where it answers
    keys/ring.json  wallets/<name>.json          secret, 0600: made here, copied into homes
    keys/coordinator.key                         secret, 0600: signs join tickets and published files
    nodes/<node>/  removed/<node>/               homes of nodes; of nodes that left the inventory
    supervisor/  journal.jsonl                   what runs; what was done
    image.json                                   what an upgrade asked for
    bandwidth.json                               which cables of containers have their limit
    ledger/  runs/<id>/                          what clients moved; demo and campaign runs

Order of writing makes a crash harmless: keys first, then ports (plan.json), then the genesis that mentions both. What
is there is read back and completed; a file that cannot be read is an error and never silently made anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

import orchestrator
from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.plan.keys import FAUCET, KeyRing
from orchestrator.plan.plan import Existing, ImageWish, OutsideNetwork, Plan, http_url
from orchestrator.runtimes.placing import replace_file
from orchestrator.runtimes.protocol import NodeFiles
from stratos.client.records import Endpoints, MetaEndpoint, ResourceEndpoint, ValidatorEndpoint
from stratos.client.testnet import no_testnet
from stratos.crypto.keyfile import dump_key
from stratos.crypto.keys import WalletKey
from stratos.wire.config import NodeConfig, dump_config
from stratos.wire.genesis import Genesis

T = TypeVar("T")
VAULT_HEADER = b"$ANSIBLE_VAULT;"
ROOT_VARIABLE = "STRATOS_TESTNETS"


def testnets_root() -> Path:
    """Where testnets live: $STRATOS_TESTNETS, else `.testnets` of this checkout."""
    named = os.environ.get(ROOT_VARIABLE)
    return Path(named) if named else Path(orchestrator.__file__).resolve().parent.parent / ".testnets"


class TestnetFolder:
    """Paths and records of one testnet."""

    __test__ = False

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.name = path.name
        self.genesis_file = self.path / "genesis.json"
        self.plan_file = self.path / "plan.json"
        self.endpoints_file = self.path / "endpoints.json"
        self.ring_file = self.path / "keys" / "ring.json"
        self.coordinator_file = self.path / "keys" / "coordinator.key"
        self.wallets = self.path / "wallets"
        self.nodes = self.path / "nodes"
        self.removed = self.path / "removed"
        self.ledger = self.path / "ledger"
        self.runs = self.path / "runs"
        self.image_file = self.path / "image.json"
        self.journal_file = self.path / "journal.jsonl"

    @property
    def exists(self) -> bool:
        """Whether a testnet was planned here."""
        return self.plan_file.exists()

    def existing(self, *, outside: OutsideNetwork | None = None) -> Existing:
        """What an earlier `up` left; raises EnvironmentFault when it cannot be read. `outside` is the network of others."""
        ring = self.ring()
        plan = self.plan()
        genesis = self.genesis()
        if genesis is not None and (plan is None or not ring.nodes):
            raise EnvironmentFault(
                f"{self.path} has a genesis file but lost {self.ring_file.name} or {self.plan_file.name}; restore it, "
                "or start afresh with `stratosctl down --purge`"
            )
        return Existing(ring, plan, genesis, self.image_wish(), outside, frozenset(self.placed()))

    def plan(self) -> Plan | None:
        """The plan last applied, or being applied."""
        return self._read(self.plan_file, Plan)

    def genesis(self) -> Genesis | None:
        """The genesis, once there is one."""
        return self._read(self.genesis_file, Genesis)

    def image_wish(self) -> ImageWish | None:
        """What the last upgrade asked for."""
        return self._read(self.image_file, ImageWish)

    def save_image_wish(self, wish: ImageWish) -> None:
        """Write what an upgrade asks for, before anything is replaced."""
        self._save(self.image_file, wish)

    def need_genesis(self) -> Genesis:
        """The genesis of a testnet that must exist; raises BadInput."""
        genesis = self.genesis()
        if genesis is None:
            raise BadInput(no_testnet(self.path))
        return genesis

    def endpoints(self) -> Endpoints:
        """Where the nodes answer."""
        return endpoints_of(self.need_plan())

    def ring(self) -> KeyRing:
        """The key ring, also when the coordinator keeps it under a vault."""
        return self._read(self.ring_file, KeyRing, vaulted=True) or KeyRing()

    def need_plan(self) -> Plan:
        """The plan of a testnet that must exist; raises BadInput."""
        plan = self.plan()
        if plan is None:
            raise BadInput(no_testnet(self.path))
        return plan

    def save_ring(self, ring: KeyRing) -> None:
        """Write the secrets, durably, before anything that depends on them."""
        content = msgspec.json.format(msgspec.json.encode(ring), indent=1) + b"\n"
        if self.ring_file.exists() and self.ring_file.read_bytes().startswith(VAULT_HEADER):
            from orchestrator.testnet.vault import encrypt  # Ansible, half a second, for this only

            content = encrypt(content, self.ring_file)
        self._save_secret(self.ring_file, content)

    def save_plan(self, plan: Plan) -> None:
        """Write the plan."""
        self._save(self.plan_file, plan)

    def save_genesis(self, genesis: Genesis) -> None:
        """Write the genesis, once."""
        self._write_if_new(self.genesis_file, dump_genesis(genesis))

    def save_endpoints(self, plan: Plan) -> None:
        """Write where clients find the nodes."""
        self._save(self.endpoints_file, endpoints_of(plan))

    def save_wallets(self, ring: KeyRing) -> None:
        """Write the key files of the standard wallets, and the coordinator's, that are missing."""
        if ring.coordinator and not self.coordinator_file.exists():
            replace_file(self.coordinator_file, dump_key(ring.coordinator_key()))
        for name in ring.wallets:
            path = self.wallets / f"{name}.json"
            if not path.exists():
                replace_file(path, dump_key(ring.wallet_key(name)))  # the ring has them durably

    def placed(self) -> dict[str, NodeConfig | None]:
        """Config of every home; None when it cannot be read."""
        found: dict[str, NodeConfig | None] = {}
        for home in sorted(self.nodes.iterdir()) if self.nodes.is_dir() else ():
            try:
                found[home.name] = msgspec.json.decode((home / "config.json").read_bytes(), type=NodeConfig)
            except (OSError, msgspec.DecodeError):
                found[home.name] = None
        return found

    def retire(self, name: str) -> Path:
        """Move a stopped node's home aside, keeping its data; where it is now."""
        self.removed.mkdir(mode=0o700, exist_ok=True)
        target, number = self.removed / name, 1
        while target.exists():
            target, number = self.removed / f"{name}.{number}", number + 1
        (self.nodes / name).rename(target)
        return target

    def bring_back(self, name: str) -> bool:
        """Put the home of a node that left back into place, when there is one."""
        aside = self.removed / name
        if not aside.is_dir() or (self.nodes / name).exists():
            return False
        self.nodes.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.rename(self.nodes / name)
        return True

    def _read(self, path: Path, kind: type[T], *, vaulted: bool = False) -> T | None:
        try:
            content = path.read_bytes()
            if vaulted and content.startswith(VAULT_HEADER):
                from orchestrator.testnet.vault import decrypt  # Ansible, half a second, for this only

                content = decrypt(content, path)
            return msgspec.json.decode(content, type=kind)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise EnvironmentFault(
                f"{path} cannot be read ({error}); restore it, or start afresh with `stratosctl down --purge`"
            ) from error

    def _save(self, path: Path, record: Struct) -> None:
        self._write_if_new(path, readable(record))

    def _write_if_new(self, path: Path, content: bytes) -> None:
        if not path.exists() or path.read_bytes() != content:
            replace_file(path, content)

    def _save_secret(self, path: Path, content: bytes) -> None:
        replace_file(path, content)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def dump_genesis(genesis: Genesis) -> bytes:
    """The file form of a genesis: JSON, sorted keys, two spaces."""
    return readable(genesis)


def readable(record: Struct) -> bytes:
    """A record as a file for people: JSON, sorted keys, two spaces."""
    return msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2) + b"\n"


def files_of(plan: Plan, ring: KeyRing, genesis: Genesis) -> Iterator[NodeFiles]:
    """What each home holds before its node writes anything itself."""
    shared = dump_genesis(genesis)
    for node in plan.operated:
        secrets = ring.nodes[node.name]
        faucet = {"faucet.key": dump_key(ring.wallet_key(FAUCET))} if node.config.faucet is not None else {}
        yield NodeFiles(
            node.name,
            {
                "config.json": dump_config(node.config),
                "genesis.json": shared,
                "node.key": dump_key(secrets.node_key()),
                "wallet.key": dump_key(secrets.owner_key()),
                **faucet,
            },
        )


def endpoints_of(plan: Plan) -> Endpoints:
    """Where clients find the nodes of a plan, and those of others that it takes part with."""
    others = plan.outside or Endpoints(slice_transport=plan.nodes[0].config.slice_transport if plan.nodes else "tls")
    ours = {node.public_key for node in plan.nodes}

    def of(role: str) -> list[tuple[str, NodeConfig, str]]:
        # Newcomers last: until they have caught up, they answer for a network as it was.
        nodes = sorted((node for node in plan.nodes if node.role == role), key=lambda node: node.registers)
        return [(node.name, node.config, node.public_key) for node in nodes]

    return Endpoints(
        validators=tuple(
            ValidatorEndpoint(name=name, http=http_url(config), p2p=config.network_address, public_key=key)
            for name, config, key in of("validator")
        )
        + tuple(entry for entry in others.validators if entry.public_key not in ours),
        meta=tuple(
            MetaEndpoint(name=name, rpc=config.network_address, public_key=key, http=http_url(config))
            for name, config, key in of("meta")
        )
        + tuple(entry for entry in others.meta if entry.public_key not in ours),
        resource=tuple(
            ResourceEndpoint(
                name=name,
                bulk=config.network_address,
                public_key=key,
                http=http_url(config),
                rpc=config.network_address,
            )
            for name, config, key in of("resource")
        ),
        slice_transport=others.slice_transport,
    )


def wallet_of(folder: TestnetFolder, name: str) -> WalletKey:
    """The wallet `name` of a testnet; raises BadInput naming the ones there are."""
    from stratos.crypto.keyfile import load_wallet_key

    path = folder.wallets / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder.wallets.glob("*.json"))) or "none"
        raise BadInput(
            f"testnet {folder.name} has no wallet {name!r} (it has {known}); make it with `stratosctl wallet new {name}`"
        )
    return load_wallet_key(path)
