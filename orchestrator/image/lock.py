"""The node's lock file: read, compared with what it was made from, and narrowed to one Python and platform.

`node_image/requirements.lock` is made by `uv pip compile` for all supported Pythons at once, so its entries carry markers.
The check needs neither engine nor network: names and ranges of requirements.in against the lock's versions, and a hash on every entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from orchestrator.errors import BadInput

HOW_TO_LOCK = (
    "uv pip compile --universal --generate-hashes --python-version 3.11 --no-header node_image/requirements.in "
    "-c requirements.lock -o node_image/requirements.lock"
)
_ENTRY = re.compile(r"^(?P<requirement>[A-Za-z0-9][^\\#]*?)\s*\\?$")
_HASH = re.compile(r"^\s+--hash=sha256:([0-9a-f]{64})\s*\\?$")


class Locked(Struct, frozen=True):
    """One entry: normalised name, version, its marker ("" when it is for all), sha256 of each file that may be used."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def read_lock(path: Path) -> tuple[Locked, ...]:
    """The entries of a lock file in its order; BadInput names the line that is none."""
    entries: list[Locked] = []
    hashes: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if found := _HASH.match(line):
            hashes.append(found[1])
            if entries:
                entries[-1] = Locked(entries[-1].name, entries[-1].version, entries[-1].marker, tuple(hashes))
            continue
        entry = _ENTRY.match(line)
        try:
            requirement = Requirement(entry["requirement"]) if entry else None
        except InvalidRequirement:
            requirement = None
        pins = [] if requirement is None else list(requirement.specifier)
        if requirement is None or len(pins) != 1 or pins[0].operator != "==":
            raise BadInput(
                f"{path} line {number} is not NAME==VERSION: {line.strip()[:80]!r}; make it with {HOW_TO_LOCK}"
            )
        hashes = []
        marker = str(requirement.marker) if requirement.marker else ""
        entries.append(Locked(canonicalize_name(requirement.name), pins[0].version, marker, ()))
    return tuple(entries)


def problems_of_lock(wanted: Path, lock: Path) -> list[str]:
    """What is wrong with `lock` as the lock of `wanted` (a requirements.in), one sentence each; empty when they agree."""
    entries = read_lock(lock)
    versions: dict[str, list[str]] = {}
    for entry in entries:
        versions.setdefault(entry.name, []).append(entry.version)
    problems = [f"{lock.name}: {entry.name}=={entry.version} has no hash" for entry in entries if not entry.hashes]
    for requirement in _wanted(wanted):
        found = versions.get(canonicalize_name(requirement.name), [])
        if not found:
            problems.append(f"{lock.name} lacks {requirement.name}, which {wanted.name} asks for")
        problems += [
            f"{lock.name} has {requirement.name} {version}, {wanted.name} asks for {requirement.specifier}"
            for version in found
            if not requirement.specifier.contains(version, prereleases=True)
        ]
    return problems


def problems_between(part: Path, whole: Path) -> list[str]:
    """Where the node's lock and the tool's lock differ: the same node must run in the image and on a laptop."""
    known = {(entry.name, entry.version): set(entry.hashes) for entry in read_lock(whole)}
    return [
        f"{part} has {entry.name} {entry.version}, which is not what {whole} has; lock both again"
        for entry in read_lock(part)
        if not set(entry.hashes) <= known.get((entry.name, entry.version), set())
    ]


def for_environment(entries: tuple[Locked, ...], environment: Mapping[str, str]) -> tuple[Locked, ...]:
    """The entries whose marker holds in `environment` (PEP 508 names), whatever Python runs this."""
    return tuple(entry for entry in entries if not entry.marker or Marker(entry.marker).evaluate(dict(environment)))


def _wanted(path: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in _text(path).splitlines())
    try:
        return [Requirement(line) for line in lines if line]
    except InvalidRequirement as error:
        raise BadInput(f"{path} holds a line that is no requirement: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); it belongs to the checkout") from error
