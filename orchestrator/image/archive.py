"""The node's image as a file that can be carried to machines: found, saved or built, once per image.

Archives lie in the testnets' cache under their image id, so the same image is saved once however many testnets use it,
and an older one is still there for a rollback. Without an engine on this machine, an archive that `image save` wrote
elsewhere and that was put into the cache folder serves as well.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import ImageNotFound
from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.image.build import build_image
from orchestrator.image.carry import save_image
from orchestrator.image.engine import engine
from orchestrator.image.names import default_image
from orchestrator.image.rootfs import Say

CACHE = "images"
_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 1024 * 1024


class ImageArchive(Struct, frozen=True):
    """`path` holds the image `tag`, whose id in every engine is `image_id` (sha256:...)."""

    tag: str
    image_id: str
    path: Path


def image_archive(tag: str, *, cache: Path, say: Say) -> ImageArchive:
    """The archive of `tag`; this version's own image is built when it is not there. Raises BadInput, EnvironmentFault."""
    folder = cache / CACHE
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        client = engine()
    except EnvironmentFault as error:
        for archive in _kept(folder):
            if archive.tag == tag:
                return archive
        raise EnvironmentFault(
            f"image {tag} is needed: {error}; or put a file that `stratosctl image save` wrote elsewhere into {folder}"
        ) from error
    with_id = _image_id(client, tag, say)
    path = folder / f"{tag.replace('/', '_').replace(':', '_')}-{with_id.removeprefix('sha256:')[:16]}.tar"
    if not path.exists():
        save_image(client, tag, path, say=say)
    return ImageArchive(tag, with_id, path)


def _image_id(client: docker.DockerClient, tag: str, say: Say) -> str:
    try:
        return str(client.images.get(tag).id)
    except ImageNotFound as error:
        if tag == default_image():
            return build_image(client, image=tag, say=say).image_id
        raise BadInput(
            f"the engine has no image {tag}; build it with `stratosctl image build --tag`, or load it with `stratosctl image load`"
        ) from error


def _kept(folder: Path) -> Iterator[ImageArchive]:
    """Archives in the folder, newest first."""
    for path in sorted(folder.glob("*.tar"), key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            with tarfile.open(path) as archive:
                member = archive.extractfile(_MANIFEST)
                listed = json.loads(member.read(_MOST_MANIFEST_BYTES)) if member is not None else []
        except (tarfile.TarError, KeyError, ValueError, OSError):
            continue  # not ours, or half written by somebody else
        for image in listed if isinstance(listed, list) else []:
            config = Path(str(image.get("Config", ""))).name.removesuffix(".json")
            for tag in image.get("RepoTags") or []:
                yield ImageArchive(str(tag), f"sha256:{config}", path)
