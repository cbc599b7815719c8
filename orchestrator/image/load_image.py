"""The load generator's image: what a testnet's node image has, and Locust with the load tests beside it.

Built like the node's image, from staged wheels and without network, on top of that image: its layers are shared, so an
engine that has the nodes' image takes only what Locust adds, and the client is of the version the nodes are.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

import orchestrator
from orchestrator.errors import EnvironmentFault
from orchestrator.image.base import look_into
from orchestrator.image.build import NODE_FOLDER
from orchestrator.image.context import source_digest
from orchestrator.image.names import DIGEST_LABEL
from orchestrator.image.rootfs import Say
from orchestrator.image.wheels import stage_wheels

REPOSITORY = "stratos-load"
LOADTESTS = Path(orchestrator.__file__).resolve().parent.parent / "loadtests"


def load_image_name(node_image: str) -> str:
    """`stratos-load:TAG` of the node's image NAME:TAG."""
    return f"{REPOSITORY}:{node_image.rpartition(':')[2]}"


def build_load_image(docker_client: docker.DockerClient, *, node_image: str, say: Say) -> str:
    """Make the engine hold the load image on top of `node_image`, which it must have; its name. Raises EnvironmentFault."""
    name = load_image_name(node_image)
    files = _files()
    try:
        below = str(docker_client.images.get(node_image).id)
        digest = source_digest(files, {"base": below})
        try:
            if docker_client.images.get(name).labels.get(DIGEST_LABEL) == digest:
                return name
        except ImageNotFound:
            pass
        say(f"building {name} on {node_image}")
        wheels = stage_wheels(
            LOADTESTS / "requirements.lock",
            look_into(docker_client, node_image),
            store=NODE_FOLDER.parent / "build" / "wheels",
            say=say,
        )
        files |= {f"wheels/{wheel.name}": wheel for wheel in sorted(wheels.iterdir())}
        lines = docker_client.api.build(
            fileobj=_context(files),
            custom_context=True,
            tag=name,
            buildargs={"BASE": node_image},
            labels={DIGEST_LABEL: digest, "org.opencontainers.image.title": REPOSITORY},
            network_mode="none",
            rm=True,
            forcerm=True,
            decode=True,
        )
        for line in lines:
            if "error" in line:
                raise EnvironmentFault(f"the engine could not build {name}: {str(line['error']).strip()[:400]}")
    except DockerException as error:
        raise EnvironmentFault(f"the engine could not build {name} ({error}); check its disk and its log") from error
    return name


def _files() -> dict[str, Path]:
    files = {f"loadtests/{path.name}": path for path in sorted(LOADTESTS.glob("*.py"))}
    files["Dockerfile"] = LOADTESTS / "Dockerfile"
    files["requirements.lock"] = LOADTESTS / "requirements.lock"
    files["install.py"] = NODE_FOLDER / "container" / "install.py"
    return files


def _context(files: dict[str, Path]) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, path in sorted(files.items()):
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    target.seek(0)
    return target
