"""The bundle of one machine: everything that is placed there, in one tar rendered on the controller.

    manifest.json                what should be there, by digest; no secrets, kept on the machine as its record
    nodes/NAME/FILE              the files of a node's home
    units/UNIT                   its systemd unit
    firewall.nft                 the machine's packet filter, when the testnet has one

The same plan gives the same bytes, so "nothing to do" is a comparison of digests. The tar holds keys: it is written
with mode 0600 and its entries have it too. The module that unpacks it on the machine (`playbooks/library/
stratos_bundle.py`) runs there without this package and reads the manifest as plain JSON; `version` tells it the form.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.errors import BadInput
from orchestrator.runtimes.units import home_of, unit_name

MANIFEST_VERSION = 1
MANIFEST = "manifest.json"
FIREWALL = "firewall.nft"
FILE_MODE = 0o600

Files = Mapping[str, bytes]
"""Contents of a home by relative path."""


class NodePorts(Struct, frozen=True, kw_only=True):
    """Ports a node listens on; 0 where its role has none."""

    p2p: int = 0
    http: int = 0
    bulk: int = 0
    metrics: int = 0


class NodeEntry(Struct, frozen=True, kw_only=True):
    """One node of a machine. `digest` covers its files, its unit and its image: another digest asks for a restart."""

    name: str
    role: str
    unit: str
    home: str
    digest: str
    files: dict[str, str]
    """SHA-256 by relative path"""
    unit_sha256: str
    ports: NodePorts
    cpus: float = 0.0
    memory_bytes: int = 0
    bandwidth_mbit: int = 0
    image: str = ""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a machine should hold. `base` is the digest of everything about it that is not a node."""

    version: int = MANIFEST_VERSION
    testnet: str
    image: str
    image_id: str
    base: str = ""
    nodes: tuple[NodeEntry, ...] = ()
    removed: tuple[str, ...] = ()
    """Nodes that were there and should go, with their homes."""


def node_entry(
    *,
    testnet: str,
    name: str,
    role: str,
    files: Files,
    unit: str,
    image: str,
    image_id: str,
    ports: NodePorts,
    cpus: float = 0.0,
    memory_bytes: int = 0,
    bandwidth_mbit: int = 0,
) -> NodeEntry:
    """The manifest's entry of a node with these files and this unit text."""
    sums = {path: sha256(content) for path, content in sorted(files.items())}
    unit_sum = sha256(unit.encode())
    return NodeEntry(
        name=name,
        role=role,
        unit=unit_name(testnet, name),
        home=home_of(testnet, name),
        digest=sha256(msgspec.json.encode([list(sums.items()), unit_sum, image_id])),
        files=sums,
        unit_sha256=unit_sum,
        ports=ports,
        cpus=cpus,
        memory_bytes=memory_bytes,
        bandwidth_mbit=bandwidth_mbit,
        image=image,
    )


def write_bundle(
    path: Path, manifest: Manifest, files: Mapping[str, Files], units: Mapping[str, str], *, firewall: str = ""
) -> str:
    """Write the tar whole or not at all, mode 0600; its SHA-256. `files` by node name, `units` by unit file name.

    Raises BadInput when files or units are not what the manifest says, which is a mistake of the caller.
    """
    content = {MANIFEST: msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"}
    for node in manifest.nodes:
        home = files.get(node.name, {})
        unit = units.get(node.unit, "").encode()
        if {rel: sha256(data) for rel, data in home.items()} != node.files or sha256(unit) != node.unit_sha256:
            raise BadInput(f"the bundle of {node.name} differs from its manifest; make the entry with node_entry()")
        content.update({f"nodes/{node.name}/{rel}": data for rel, data in home.items()})
        content[f"units/{node.unit}"] = unit
    if firewall:
        content[FIREWALL] = firewall.encode()
    packed = _tar(content)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
    os.replace(temporary, path)
    return sha256(packed)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle; raises BadInput when it is none."""
    try:
        with tarfile.open(path) as bundle:
            member = bundle.extractfile(MANIFEST)
            assert member is not None  # a regular file, or extractfile would have raised
            return msgspec.json.decode(member.read(), type=Manifest)
    except (tarfile.TarError, KeyError, msgspec.DecodeError) as error:
        raise BadInput(f"{path} is not a bundle ({error}); render it again with `stratosctl bundle`") from error


def bundle_name(machine: str) -> str:
    """File name of a machine's bundle in the folder that `stratosctl bundle -o` fills."""
    return f"{machine}.tar"


def sha256(content: bytes) -> str:
    """Hex SHA-256: on the machine only the standard library can check it."""
    return hashlib.sha256(content).hexdigest()


def _tar(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in sorted(content.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = FILE_MODE
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
