"""Names of images and their labels: what the user types, what the engine knows."""

from __future__ import annotations

import re

from orchestrator.errors import BadInput
from stratos import __version__

REPOSITORY = "stratos-node"
VERSION_LABEL = "org.opencontainers.image.version"
REVISION_LABEL = "org.opencontainers.image.revision"
BASE_LABEL = "org.opencontainers.image.base.name"
RULES_LABEL = "network.stratos.rules"
DIGEST_LABEL = "network.stratos.sources"
SOURCES_LABEL = "network.stratos.code"
"""Digest of the sources alone; the one above covers the choices of the build too."""

_NAME = re.compile(r"^(?:[a-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")


def default_image() -> str:
    """The image of these sources' version."""
    return f"{REPOSITORY}:{__version__}"


def full_name(text: str | None) -> str:
    """`stratos-node:TAG` of a bare TAG, NAME:TAG as it is; BadInput when an engine would refuse it."""
    if text is None:
        return default_image()
    name = text if ":" in text else f"{REPOSITORY}:{text}"
    if not _NAME.match(name) or len(name) > 255:
        raise BadInput(f"{text[:80]!r} is no image: write a TAG of letters, digits, '.', '_' and '-', or NAME:TAG")
    return name
