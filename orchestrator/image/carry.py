"""Carries images between engines without a registry: save to a file, load from one, list.

A saved file is complete or not there. What an engine writes differs from run to run in times and order of its members; it is
written again in one order without times, so that the same image is the same file and can be compared by its digest.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, cast

import docker
import requests
from docker.errors import DockerException, ImageNotFound
from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.image.names import REVISION_LABEL, RULES_LABEL, VERSION_LABEL
from orchestrator.image.rootfs import Say


class ImageRow(Struct, frozen=True, kw_only=True):
    """One image of the node in an engine."""

    image: str
    image_id: str
    size_bytes: int
    created: str
    version: str
    revision: str
    rules: str


def save_image(docker_client: docker.DockerClient, image: str, target: Path, *, say: Say) -> int:
    """Write `image` to `target` (compressed when its name ends with .gz); its size in bytes."""
    try:
        found = docker_client.images.get(image)
    except ImageNotFound as error:
        raise BadInput(f"the engine has no image {image}; stratosctl image list shows what it has") from error
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is no folder; make it, or name another file")
    say(f"saving {image}")
    with tempfile.TemporaryDirectory(prefix=".stratos-save-", dir=target.parent) as folder:
        raw, fresh = Path(folder) / "raw.tar", Path(folder) / "fresh"
        try:
            with raw.open("wb") as file:
                for chunk in found.save(named=image):
                    file.write(chunk)
        except (DockerException, requests.RequestException) as error:
            raise EnvironmentFault(f"the engine could not save {image} ({error})") from error
        _in_order(raw, fresh, compressed=target.suffix == ".gz")
        os.replace(fresh, target)
    return target.stat().st_size


def load_images(docker_client: docker.DockerClient, source: Path, *, say: Say) -> tuple[str, ...]:
    """Give the engine the images in the file `source`; their names."""
    say(f"loading {source}")
    try:
        with source.open("rb") as file:
            images = docker_client.images.load(cast(bytes, file))  # the SDK streams files, its types say bytes
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise EnvironmentFault(f"the engine did not take {source} ({error}); check its disk") from error
        raise BadInput(
            f"{source} cannot be read: {error.strerror}; name a file that stratosctl image save wrote"
        ) from error
    except DockerException as error:
        raise BadInput(f"{source} is no image that the engine can load ({error}); save it again") from error
    return tuple(sorted(tag for image in images for tag in image.tags))


def list_images(docker_client: docker.DockerClient) -> tuple[ImageRow, ...]:
    """The node's images that the engine holds, in order of name."""
    try:
        images = docker_client.images.list(filters={"label": RULES_LABEL})
    except DockerException as error:
        raise EnvironmentFault(f"the engine cannot list images ({error})") from error
    rows = [
        ImageRow(
            image=tag,
            image_id=str(image.id),
            size_bytes=int(image.attrs["Size"]),
            created=_created(image.attrs["Created"]),
            version=image.labels.get(VERSION_LABEL, ""),
            revision=image.labels.get(REVISION_LABEL, ""),
            rules=image.labels.get(RULES_LABEL, ""),
        )
        for image in images
        for tag in image.tags
    ]
    return tuple(sorted(rows, key=lambda row: row.image))


def _created(value: object) -> str:
    return str(value)[:19].replace("T", " ")


def _in_order(raw: Path, fresh: Path, *, compressed: bool) -> None:
    with tarfile.open(raw) as source, fresh.open("wb") as file:
        if compressed:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                _copy_members(source, cast(IO[bytes], packed))
        else:
            _copy_members(source, file)


def _copy_members(source: tarfile.TarFile, target: IO[bytes]) -> None:
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in sorted(source.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
            member.pax_headers = {}
            archive.addfile(member, source.extractfile(member) if member.isreg() else None)
