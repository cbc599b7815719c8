"""Builds the node's image through the engine's API, and knows without work when nothing changed.

The digest of sources, lock and choices is a label of the image: an image of that name with that label is what would be built.
Otherwise: choose the base, look into it, stage wheels for its Python, write the bill of materials, send one tar, build without network.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from docker.models.images import Image
from msgspec import Struct

import stratos
from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.image.base import Base, choose_base, look_into
from orchestrator.image.context import revision, source_digest, source_files, write_context
from orchestrator.image.lock import problems_of_lock
from orchestrator.image.names import BASE_LABEL, DIGEST_LABEL, REVISION_LABEL, RULES_LABEL, SOURCES_LABEL, VERSION_LABEL
from orchestrator.image.rootfs import Say
from orchestrator.image.sbom import bill_of_materials
from orchestrator.image.wheels import locked_for, stage_wheels
from stratos.ledger.rulebook import NEWEST_RULES

NODE_FOLDER = Path(stratos.__file__).resolve().parent.parent
SBOM_PATH = "/usr/share/stratos/sbom.json"
RULES_VARIABLE = "STRATOS_RULES_UP_TO"
_STAGE_LABEL = "network.stratos.stage=packages"
_SPOOL_BYTES = 64 * 1024 * 1024


class BuildReport(Struct, frozen=True, kw_only=True):
    """What `image build` did. `changed` is false when the engine held this very image already."""

    image: str
    image_id: str
    changed: bool
    size_bytes: int
    base: str
    version: str
    revision: str
    rules: int
    digest: str


def newest_rules() -> int:
    """The newest version of the ledger's rules that these sources know."""
    return NEWEST_RULES


def is_stale(docker_client: docker.DockerClient, image: str, *, root: Path = NODE_FOLDER) -> bool:
    """Whether the engine's image of that name was built from other sources than those in `root`, whatever the choices."""
    try:
        found = docker_client.images.get(image)
    except ImageNotFound:
        return False
    made = found.labels.get(SOURCES_LABEL)
    return made is not None and made != source_digest(source_files(root), {})


def build_image(
    docker_client: docker.DockerClient,
    *,
    image: str,
    say: Say,
    base: str | None = None,
    rules_up_to: int | None = None,
    sbom: Path | None = None,
    root: Path = NODE_FOLDER,
) -> BuildReport:
    """Make `image` hold what the sources in `root` are; raises BadInput, EnvironmentFault.

    `rules_up_to` builds a program that knows rules up to that version only, with which upgrades are rehearsed.
    """
    newest = newest_rules()
    if rules_up_to is not None and not 1 <= rules_up_to <= newest:
        raise BadInput(f"--rules-up-to {rules_up_to} is not one of the versions 1 to {newest} that the sources know")
    rules = newest if rules_up_to is None else rules_up_to
    if problems := problems_of_lock(root / "requirements.in", root / "requirements.lock"):
        raise BadInput(f"{problems[0]}; stratosctl image check shows all of it")
    files = source_files(root)
    choices = {"base": base or "", "rules": str(rules), "version": stratos.__version__}
    digest = source_digest(files, choices)
    if (found := _found(docker_client, image, digest)) is not None:
        report = _report(found, image, changed=False)
        if sbom is not None:
            _write(sbom, read_sbom(docker_client, image))
        return report
    chosen = look_into(docker_client, choose_base(docker_client, wanted=base, say=say))
    wheels = stage_wheels(root / "requirements.lock", chosen, store=root.parent / "build" / "wheels", say=say)
    locked = locked_for(root / "requirements.lock", chosen)
    commit = revision(root)
    bill = bill_of_materials(
        version=stratos.__version__, revision=commit, base=chosen, locked=locked, wheels=sorted(wheels.iterdir())
    )
    labels = {
        VERSION_LABEL: stratos.__version__,
        REVISION_LABEL: commit,
        RULES_LABEL: str(rules),
        DIGEST_LABEL: digest,
        SOURCES_LABEL: source_digest(files, {}),
        BASE_LABEL: chosen.name,
        "org.opencontainers.image.title": "stratos-node",
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    before = _image_id(docker_client, image)
    environment = {} if rules_up_to is None else {RULES_VARIABLE: str(rules_up_to)}
    say(f"building {image} on {chosen.name}")
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as context:
        write_context(context, files, wheels=wheels, sbom=bill, environment=environment)
        context.seek(0)
        _run_build(docker_client, context, image=image, base=chosen, labels=labels, say=say)
    if sbom is not None:
        _write(sbom, bill)
    made = docker_client.images.get(image)
    if before is not None and before != made.id:
        _drop(docker_client, before)
    return _report(made, image, changed=True)


def read_sbom(docker_client: docker.DockerClient, image: str) -> bytes:
    """The bill of materials that an image carries."""
    container = docker_client.containers.create(image)
    try:
        chunks, _about = container.get_archive(SBOM_PATH)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            return b"" if member is None else member.read()
    except DockerException as error:
        raise EnvironmentFault(f"{image} carries no {SBOM_PATH} ({error}); build it again") from error
    finally:
        container.remove(force=True)


def _run_build(
    docker_client: docker.DockerClient, context: object, *, image: str, base: Base, labels: dict[str, str], say: Say
) -> None:
    try:
        lines = docker_client.api.build(
            fileobj=context,  # type: ignore[arg-type] # any binary file will do
            custom_context=True,
            tag=image,
            buildargs={"BASE": base.name},
            labels=labels,
            network_mode="none",
            rm=True,
            forcerm=True,
            decode=True,
        )
        for line in lines:
            if "error" in line:
                raise EnvironmentFault(f"the engine could not build {image}: {str(line['error']).strip()[:400]}")
            if (text := str(line.get("stream", "")).strip()).startswith("Step "):
                say(text[:150])
        docker_client.images.prune(filters={"dangling": True, "label": _STAGE_LABEL})
    except DockerException as error:
        raise EnvironmentFault(f"the engine could not build {image} ({error}); check its disk and its log") from error


def _image_id(docker_client: docker.DockerClient, image: str) -> str | None:
    try:
        return str(docker_client.images.get(image).id)
    except DockerException:
        return None


def _drop(docker_client: docker.DockerClient, image_id: str) -> None:
    """Remove the image that had the name before, unless it has another name or a container."""
    try:
        if not docker_client.images.get(image_id).tags:
            docker_client.images.remove(image_id)
    except DockerException:
        return


def _found(docker_client: docker.DockerClient, image: str, digest: str) -> Image | None:
    try:
        found = docker_client.images.get(image)
    except ImageNotFound:
        return None
    except DockerException as error:
        raise EnvironmentFault(
            f"the engine cannot look up {image} ({error}); name it NAME:TAG in small letters"
        ) from error
    return found if found.labels.get(DIGEST_LABEL) == digest else None


def _report(found: Image, image: str, *, changed: bool) -> BuildReport:
    labels = found.labels
    return BuildReport(
        image=image,
        image_id=str(found.id),
        changed=changed,
        size_bytes=int(found.attrs["Size"]),
        base=labels[BASE_LABEL],
        version=labels[VERSION_LABEL],
        revision=labels[REVISION_LABEL],
        rules=int(labels[RULES_LABEL]),
        digest=labels[DIGEST_LABEL],
    )


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)
