"""Which base the node's image is built on, and what is in it: asked of the engine, never assumed.

The official Python image is the base when the engine has it or the engine's registry answers within a few seconds; the engine is asked,
because it may be elsewhere and use a mirror. Otherwise the base is made on the spot (`rootfs.py`) with Debian's own Python.
"""

from __future__ import annotations

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from msgspec import Struct
from msgspec.json import decode

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.image.engine import engine, reason
from orchestrator.image.rootfs import Say, base_image, has_image

REGISTRY_BASE = "python:3.12-slim-bookworm"
OWN_BASE = "stratos-base"
OWN_PACKAGES = ("python3",)
PROBE_SECONDS = 5
# What neither a node nor a person looking into its container uses: character sets, right-time zones, Python's own tools.
_UNUSED = (
    'rm -rf "$1"/usr/lib/*/gconv "$1"/usr/share/zoneinfo/right "$1"/usr/share/zoneinfo/posix '
    '"$1"/usr/lib/python3.11/lib2to3 "$1"/usr/lib/python3.11/pydoc_data'
)
_LOOK = """
import json, os, platform, sys
status = "/var/lib/dpkg/status"
print(json.dumps({"python": platform.python_version(), "machine": platform.machine(), "libc": platform.libc_ver(),
    "dpkg": open(status, encoding="utf-8").read() if os.path.exists(status) else ""}))
"""


class Base(Struct, frozen=True, kw_only=True):
    """A base image: its name, its Python, and its Debian packages."""

    name: str
    image_id: str
    python: str
    machine: str
    glibc: tuple[int, int]
    packages: tuple[tuple[str, str, str], ...]
    """(name, version, architecture) of each Debian package, in order of name."""


class _Seen(Struct):
    python: str
    machine: str
    libc: tuple[str, str]
    dpkg: str


def choose_base(docker_client: docker.DockerClient, *, wanted: str | None, say: Say) -> str:
    """The tag of the base image, which the engine holds afterwards; `wanted` names one instead of the usual choice."""
    if wanted is not None:
        if not has_image(docker_client, wanted) and not _pull(docker_client, wanted, say):
            raise BadInput(f"the engine has no image {wanted!r} and cannot pull it; leave out --base, or load it first")
        return wanted
    if has_image(docker_client, REGISTRY_BASE):
        return REGISTRY_BASE
    if registry_answers(REGISTRY_BASE) and _pull(docker_client, REGISTRY_BASE, say):
        return REGISTRY_BASE
    say("no registry answers")
    return base_image(
        docker_client, name=OWN_BASE, packages=OWN_PACKAGES, hooks=[_UNUSED], changes=['CMD ["python3"]'], say=say
    )


def registry_answers(name: str) -> bool:
    """Whether the engine can see `name` in its registry within a few seconds."""
    impatient = engine(timeout_seconds=PROBE_SECONDS)
    try:
        impatient.api.inspect_distribution(name)  # type: ignore[no-untyped-call]
    except (DockerException, requests.RequestException, OSError):
        return False
    finally:
        impatient.close()
    return True


def look_into(docker_client: docker.DockerClient, name: str) -> Base:
    """What the base holds, seen by its own Python in a container without network that is gone afterwards."""
    try:
        output = docker_client.containers.run(
            name, ["python3", "-I", "-S", "-c", _LOOK], remove=True, network_mode="none", user="65534", entrypoint=[]
        )
        seen = decode(output, type=_Seen)
        image_id = str(docker_client.images.get(name).id)
    except (DockerException, ValueError) as error:
        raise EnvironmentFault(
            f"the base image {name} could not show its Python ({_short(error)}); it needs python3"
        ) from error
    if not (3, 11) <= tuple(int(part) for part in seen.python.split(".")[:2]) <= (3, 13):
        raise BadInput(f"the base image {name} has Python {seen.python}; the node needs 3.11, 3.12 or 3.13")
    if seen.libc[0] != "glibc":
        raise BadInput(
            f"the base image {name} has no glibc, for which the node's packages are built; use a Debian base"
        )
    major, minor = seen.libc[1].split(".")[:2]
    return Base(
        name=name,
        image_id=image_id,
        python=seen.python,
        machine=seen.machine,
        glibc=(int(major), int(minor)),
        packages=debian_packages(seen.dpkg),
    )


def debian_packages(status: str) -> tuple[tuple[str, str, str], ...]:
    """(name, version, architecture) of the installed packages in the text of /var/lib/dpkg/status."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status") == "install ok installed":
            found.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return tuple(sorted(found))


def _pull(docker_client: docker.DockerClient, name: str, say: Say) -> bool:
    say(f"pulling {name}")
    try:
        docker_client.images.pull(*name.rsplit(":", 1) if ":" in name.rsplit("/", 1)[-1] else (name, "latest"))
    except (NotFound, APIError, requests.RequestException) as error:
        say(f"{name} could not be pulled: {reason(error)}")
        return False
    return True


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
