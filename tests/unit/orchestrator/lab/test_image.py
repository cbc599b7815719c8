"""The recipe of the machines' image."""

import tarfile

from orchestrator.lab import image


def test_the_context_holds_what_the_recipe_copies() -> None:
    """Each COPY of the recipe finds its file in the tar that the engine builds from."""
    with tarfile.open(fileobj=image.context("base:1")) as tar:
        names = set(tar.getnames())
    copied = {line.split()[1] for line in image.dockerfile("base:1").splitlines() if line.startswith("COPY")}
    assert copied | {"Dockerfile"} == names


def test_another_base_is_another_image() -> None:
    """The tag is a digest of everything the image is made from."""
    assert image.image_tag("base:1") != image.image_tag("base:2")
    assert image.image_tag("base:1") == image.image_tag("base:1")


def test_secrets_in_an_archive_keep_their_mode() -> None:
    """A host key is put into a machine readable by its owner only, and its owner is root."""
    with tarfile.open(fileobj=image.archive({"etc/key": (b"secret", 0o600)})) as tar:
        member = tar.getmember("etc/key")
    assert (member.mode, member.uid, member.gid) == (0o600, 0, 0)
