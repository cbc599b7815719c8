"""`config.json`, the file that tells one node who it is: name, role, ports, peers, limits.

Everything that is the same for all nodes (epochs, block pace, ledger parameters) is in the genesis file instead.
Unknown fields and values out of range are refused with the field's name, so a typo never becomes a silent default.
"""

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from stratos.wire.limits import GIB, MIB
from stratos.wire.scalars import Amount, Count, Name, Uint

CONFIG_VERSION = 1

Port = Annotated[int, Meta(ge=0, le=65_535)]
"""0 lets the system choose; the chosen ports are in ready.json."""

HexKey = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
"""ed25519 public key in hex."""

Role = Annotated[str, Meta(pattern="^(validator|meta|resource)$")]
HostPort = Annotated[
    str,
    Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$", max_length=262),
]


class ConfigError(ValueError):
    """config.json cannot be used; the sentence names the file and the field."""


class Ports(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listening ports. `bulk` is the slice port of resource nodes; `metrics` where /metrics is served, left out: beside the rest
    of HTTP, as programs have it that do not know this field."""

    p2p: Port = 0
    http: Port = 0
    bulk: Port = 0
    metrics: Port | UnsetType = UNSET


class PeerEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One other node: its identity key decides who it is, `endpoint` is where its p2p port answers."""

    name: Name
    role: Role
    public_key: HexKey
    endpoint: HostPort


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what a node keeps and admits."""

    disk_bytes: Uint = 1024 * GIB
    """Space a resource node offers for slices."""
    mempool_txs: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    mempool_bytes: Annotated[int, Meta(ge=65_536, le=4 * GIB)] = 64 * MIB
    max_connections: Annotated[int, Meta(ge=8, le=65_536)] = 512
    log_bytes: Annotated[int, Meta(ge=65_536, le=4 * GIB)] = 16 * MIB
    signature_threads: Annotated[int, Meta(ge=1, le=64)] = 1
    bulk_threads: Annotated[int, Meta(ge=1, le=256)] = 8


class FaucetSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what the faucet of a meta node gives away; its wallet is `faucet.key` in the home. A day is 24 hours."""

    coordinator: HexKey
    """Whose tickets it honours."""
    open_wei: Amount = "0"
    """What a wallet without a ticket may get a day; "0": tickets only."""
    day_wei: Amount
    """What all wallets together may get a day."""
    total_wei: Amount
    """What the faucet ever gives."""
    address_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    """Payments a day to one network of source addresses (/24, or /64 of IPv6)."""


class NodeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node. `peers` are the others of its own layer; `validators` and `meta` are the entry points to the layers
    that the bridge, the submitter and resource nodes talk to."""

    version: Count = CONFIG_VERSION
    name: Name
    role: Role
    network_address: HostPort
    """Advertised host:port of the p2p listener."""
    listen: Name = "127.0.0.1"
    ports: Ports = Ports()
    peers: Annotated[tuple[PeerEntry, ...], Meta(max_length=1024)] = ()
    validators: Annotated[tuple[PeerEntry, ...], Meta(max_length=1024)] = ()
    meta: Annotated[tuple[PeerEntry, ...], Meta(max_length=1024)] = ()
    slice_transport: Annotated[str, Meta(pattern="^(tls|plain)$")] = "tls"
    host: Name = ""
    """Label of the machine: two copies of a slice never share one. Empty: the node's own name."""
    region: Name = ""
    deposit_wei: Amount = "0"
    """Deposit with which a resource node that the chain does not know registers itself (owner: wallet.key); "0": it waits."""
    log_level: Annotated[str, Meta(pattern="^(debug|info|warning|error)$")] = "info"
    limits: LimitSettings = LimitSettings()
    faucet: FaucetSettings | None = None
    """Set on the one meta node that serves the faucet."""


def load_config(path: Path) -> NodeConfig:
    """The config in `path`; raises ConfigError naming the file and the field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give the home directory of a node") from error
    try:
        config = msgspec.json.decode(data, type=NodeConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a valid node config: {error}") from error
    if config.version != CONFIG_VERSION:
        raise ConfigError(
            f"{path} has config version {config.version}, this program knows {CONFIG_VERSION}; "
            "write it again with the matching stratosctl"
        )
    return config


def dump_config(config: NodeConfig) -> bytes:
    """The file form of a config: JSON, sorted keys, two spaces. A node without a faucet says nothing about one, so its
    file is the one that earlier programs know."""
    fields = {name: value for name, value in msgspec.to_builtins(config).items() if name != "faucet" or value}
    return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """("host", port) of "host:port" or "[v6]:port"; raises ConfigError.

    The host can be looked up afterwards: a socket call fails with OSError at most. Addresses come from other nodes.
    """
    host, separator, port = endpoint.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65_535:
        raise ConfigError(f"{endpoint!r} is not host:port with a port from 0 to 65535")
    host = host.removeprefix("[").removesuffix("]")
    try:
        possible = bool(host.encode("idna")) and host.isprintable()
    except UnicodeError:
        possible = False
    if not possible:
        raise ConfigError(f"{endpoint!r} names no host; write a name or an address before the port")
    return host, int(port)


def join_endpoint(host: str, port: int) -> str:
    """The text of which `split_endpoint` makes (host, port)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
