"""The bill of materials of an image, in CycloneDX 1.5: the node, its locked wheels, the base's Debian packages.

Deterministic: the same inputs give the same bytes (no time, and a serial number made of the content), so that it can be
compared and cached.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.image.base import Base
from orchestrator.image.lock import Locked

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122: names that are URLs


def bill_of_materials(
    *, version: str, revision: str, base: Base, locked: Sequence[Locked], wheels: Iterable[Path]
) -> bytes:
    """The document; `wheels` are the very files that are installed, whose hashes it states."""
    digests = {_wheel_name(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels}
    components = [_python(entry, digests.get((entry.name.replace("-", "_"), entry.version))) for entry in locked]
    components += [_debian(*package) for package in base.packages]
    components += [{"type": "platform", "name": "cpython", "version": base.python}]
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "name": "stratos-node",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [
                    {"name": "revision", "value": revision},
                    {"name": "base", "value": base.name},
                    {"name": "base-id", "value": base.image_id},
                ],
            }
        },
        "components": components,
    }
    content = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _python(entry: Locked, digest: str | None) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "name": entry.name,
        "version": entry.version,
        "purl": f"pkg:pypi/{entry.name}@{quote(entry.version)}",
    }
    if digest is not None:
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return component


def _debian(name: str, version: str, architecture: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


def _wheel_name(path: Path) -> tuple[str, str]:
    name, version = path.name.split("-")[:2]
    return name.lower().replace(".", "_"), version
