"""`publish`: the public files of a testnet, written so that a reader never sees half of one.

    genesis.json      what the network is; its hash names it
    endpoints.json    where validators, meta and resource nodes answer, with their keys
    inventory.json    the inventory without secrets
    coordinator.json  the key that signs tickets and these files
    status.json       how it is now          index.html   the same for people
    checksums.json    SHA-256 of the others, signed; written last

Each file is replaced by a rename, the signed check sums last: a reader between two of them sees sums that do not fit, and
asks again. Files of an earlier publication that are no longer published are removed; files of others are left alone.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.publishing.page import PublicNodeStatus, PublicStatus, render_page
from orchestrator.publishing.redacted import redact, role_of
from orchestrator.publishing.sums import SUMS_FILE, Sums, sign_sums
from orchestrator.testnet.folder import TestnetFolder, dump_genesis, readable
from orchestrator.testnet.survey import Survey, survey
from orchestrator.topology.raw import RawInventory
from stratos.wire.genesis import genesis_hash

PUBLISHED = ("genesis.json", "endpoints.json", "inventory.json", "coordinator.json", "status.json", "index.html")


class Coordinator(Struct, frozen=True):
    """`coordinator.json`."""

    network: str
    public_key: str


class Publication(Struct, frozen=True, kw_only=True):
    """What `publish` wrote. `changed`: files that differ from what was there."""

    network: str
    folder: str
    coordinator: str
    files: tuple[str, ...]
    changed: tuple[str, ...]


def publish(folder: TestnetFolder, raw: RawInventory, target: Path, *, time_ms: int | None = None) -> Publication:
    """Write the public files of a testnet into `target`; raises BadInput when this folder cannot sign them."""
    plan = folder.need_plan()
    ring = folder.ring()
    if plan.outside is not None or not ring.coordinator:
        raise BadInput(
            f"testnet {plan.name} has no coordinator's key here, so nothing could be signed; publish where `up` made the testnet"
        )
    genesis = folder.need_genesis()
    key = ring.coordinator_key()
    now_ms = time.time_ns() // 1_000_000 if time_ms is None else time_ms
    status = public_status(
        survey(folder), network=genesis.network, hash_hex=genesis_hash(genesis).hex(), time_ms=now_ms
    )
    faucet = next((node.http for node in plan.nodes if node.config.faucet is not None), "")
    status = msgspec.structs.replace(status, faucet=faucet)
    files = {
        "genesis.json": dump_genesis(genesis),
        "endpoints.json": readable(folder.endpoints()),
        "inventory.json": readable(redact(raw, network=genesis.network, role_of=role_of)),
        "coordinator.json": readable(Coordinator(genesis.network, key.public_key.hex())),
        "status.json": readable(status),
        "index.html": render_page(status, coordinator=key.public_key.hex()).encode(),
    }
    sums = sign_sums(key, network=genesis.network, genesis_hash=genesis_hash(genesis), time_ms=now_ms, files=files)
    changed = _write(target, {**files, SUMS_FILE: readable(sums)})
    return Publication(
        network=genesis.network,
        folder=str(target.resolve()),
        coordinator=key.public_key.hex(),
        files=tuple(sums.files),
        changed=changed,
    )


def public_status(found: Survey, *, network: str, hash_hex: str, time_ms: int) -> PublicStatus:
    """What may be told of a survey: no process ids, no paths, no logs."""
    return PublicStatus(
        network=network,
        genesis_hash=hash_hex,
        time_ms=time_ms,
        height=found.height,
        meta_height=found.meta_height,
        state_roots_equal=found.state_roots_equal,
        meta_state_roots_equal=found.meta_state_roots_equal,
        nodes=tuple(
            PublicNodeStatus(
                name=node.name,
                role=node.role,
                whose="coordinator" if node.whose == "ours" else "participant",
                healthy=node.health == "ok",
                height=node.height,
                node=node.node,
            )
            for node in found.nodes
        ),
    )


def _write(target: Path, files: dict[str, bytes]) -> tuple[str, ...]:
    """Replace what differs, check sums last; remove what an earlier publication had besides."""
    try:
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        before = _earlier(target)
        changed = []
        for name, content in files.items():
            path = target / name
            if path.is_file() and path.read_bytes() == content:
                continue
            _replace(path, content)
            changed.append(name)
        for name in before - set(files):
            (target / name).unlink(missing_ok=True)
            changed.append(name)
    except OSError as error:
        raise EnvironmentFault(
            f"the public files cannot be written to {target}: {error.strerror or error}; name a folder that you may write to"
        ) from error
    return tuple(changed)


def _earlier(target: Path) -> set[str]:
    """Names that an earlier publication signed; nothing else in the folder is ours."""
    try:
        found = msgspec.json.decode((target / SUMS_FILE).read_bytes(), type=Sums)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return set()
    return {name for name in found.files if name == Path(name).name and not name.startswith(".")}


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, and readable by everybody, whatever the umask."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
