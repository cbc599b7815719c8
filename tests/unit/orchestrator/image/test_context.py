"""What the engine is sent: deterministic, whole, and identified by a digest that only real changes move."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from orchestrator.errors import BadInput
from orchestrator.image.base import Base, debian_packages
from orchestrator.image.context import revision, source_digest, source_files, write_context
from orchestrator.image.lock import Locked
from orchestrator.image.names import full_name
from orchestrator.image.rootfs import base_digest, bootstrap_command
from orchestrator.image.sbom import bill_of_materials
from orchestrator.image.wheels import locked_for, platforms

BASE = Base(
    name="b:1",
    image_id="sha256:1",
    python="3.11.2",
    machine="x86_64",
    glibc=(2, 36),
    packages=(("dash", "1:0~1", "amd64"),),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node_image folder in miniature, with what must not be sent."""
    root = tmp_path / "node_image"
    for name in ("Dockerfile", "requirements.lock", "container/run", "stratos/a.py", "stratos/__pycache__/a.pyc"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (root / "container" / "run").chmod(0o755)
    return root


def context_of(root: Path, **environment: str) -> bytes:
    wheels = root.parent / "wheels"
    wheels.mkdir(exist_ok=True)
    (wheels / "w-1-py3-none-any.whl").write_bytes(b"wheel")
    target = io.BytesIO()
    write_context(target, source_files(root), wheels=wheels, sbom=b"{}", environment=environment)
    return target.getvalue()


def test_the_context_is_sources_wheels_and_bill_and_nothing_else(root: Path) -> None:
    """Byte code stays behind; programs keep their mode."""
    with tarfile.open(fileobj=io.BytesIO(context_of(root))) as archive:
        modes = {member.name: member.mode for member in archive.getmembers()}
    assert modes == {
        "Dockerfile": 0o644,
        "container/run": 0o755,
        "requirements.lock": 0o644,
        "sbom.json": 0o644,
        "stratos/a.py": 0o644,
        "wheels/w-1-py3-none-any.whl": 0o644,
    }


def test_the_same_files_are_the_same_bytes(root: Path) -> None:
    """Times and owners are not part of it."""
    first = context_of(root)
    (root / "stratos" / "a.py").touch()
    assert context_of(root) == first


def test_environment_becomes_lines_of_the_dockerfile(root: Path) -> None:
    """An older set of rules is rehearsed by one variable in the image."""
    with tarfile.open(fileobj=io.BytesIO(context_of(root, STRATOS_RULES_UP_TO="1"))) as archive:
        dockerfile = archive.extractfile("Dockerfile")
        assert dockerfile is not None
        assert dockerfile.read().endswith(b"\nENV STRATOS_RULES_UP_TO=1\n")


def test_the_digest_moves_with_content_mode_and_choice_only(root: Path) -> None:
    """What is built again, and what is not."""
    before = source_digest(source_files(root), {"base": ""})
    (root / "stratos" / "__pycache__" / "b.pyc").write_text("x")
    (root / "stratos" / "a.py").touch()
    assert source_digest(source_files(root), {"base": ""}) == before
    assert source_digest(source_files(root), {"base": "other"}) != before
    (root / "container" / "run").chmod(0o644)
    moded = source_digest(source_files(root), {"base": ""})
    (root / "stratos" / "a.py").write_text("changed")
    assert len({before, moded, source_digest(source_files(root), {"base": ""})}) == 3


def test_a_checkout_that_is_not_whole_is_bad_input(root: Path) -> None:
    """The missing file is named."""
    (root / "requirements.lock").unlink()
    with pytest.raises(BadInput, match=r"requirements\.lock is missing"):
        source_files(root)


def test_the_revision_says_when_sources_differ_from_the_commit(root: Path) -> None:
    """A commit, a commit with -dirty, or unknown outside git."""
    assert revision(root) == "unknown"
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    clean = revision(root)
    (root / "stratos" / "a.py").write_text("changed")
    assert len(clean) == 40
    assert revision(root) == f"{clean}-dirty"


def test_the_bill_lists_python_and_debian_packages_with_the_installed_hash(tmp_path: Path) -> None:
    """Deterministic CycloneDX: two makings are the same bytes."""
    wheel = tmp_path / "one_x-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    one, two = (
        bill_of_materials(version="1", revision="r", base=BASE, locked=[Locked("one-x", "1.0", "", ())], wheels=[wheel])
        for _ in range(2)
    )
    document = json.loads(one)
    assert one == two
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    by_purl = {component.get("purl"): component for component in document["components"]}
    assert by_purl["pkg:pypi/one-x@1.0"]["hashes"][0]["alg"] == "SHA-256"
    assert "pkg:deb/debian/dash@1%3A0~1?arch=amd64" in by_purl


def test_only_installed_packages_are_read_from_the_status_file() -> None:
    """A package that was removed but left its configuration is not in the image."""
    text = (
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nDescription: x\n more: y\n\n"
        "Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n"
    )
    assert debian_packages(text) == (("a", "1", "all"),)


def test_every_package_of_the_lock_is_staged_for_both_bases() -> None:
    """The official image's Python and Debian's own both get the whole list."""
    lock = Path(__file__).resolve().parents[4] / "node_image" / "requirements.lock"
    names = {entry.name for entry in locked_for(lock, BASE)}
    assert {"aiohttp", "rocksdict", "uvloop", "coincurve", "cffi", "typing-extensions"} <= names
    assert platforms(BASE)[0] == "manylinux_2_36_x86_64"


def test_a_base_is_the_same_whatever_the_order_of_packages() -> None:
    """And another one when anything else differs."""
    digests = {
        base_digest(packages=packages, architecture=architecture, hooks=hooks, changes=changes)
        for packages, architecture, hooks, changes in (
            (["a", "b"], "amd64", [], []),
            (["b", "a", "a"], "amd64", [], []),
            (["a"], "amd64", [], []),
            (["a", "b"], "arm64", [], []),
            (["a", "b"], "amd64", ["x"], []),
            (["a", "b"], "amd64", [], ["x"]),
        )
    }
    assert len(digests) == 5


def test_hooks_run_before_the_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hook leaves in apt's caches does not end up in the image."""
    monkeypatch.setenv("STRATOS_DEBIAN_MIRROR", "http://mirror.invalid/debian")
    command = bootstrap_command("mmdebstrap", Path("/x/root.tar"), packages=["b"], architecture="amd64", hooks=["mine"])
    hooks = [word for word in command if word.startswith("--customize-hook=")]
    assert hooks[0] == "--customize-hook=mine"
    assert "/var/lib/apt/lists" in hooks[1]
    assert command[-3:] == ["bookworm", "/x/root.tar", "http://mirror.invalid/debian"]


@pytest.mark.parametrize(("text", "name"), [("next", "stratos-node:next"), ("r.x:5000/a/b:1", "r.x:5000/a/b:1")])
def test_a_bare_tag_is_of_the_nodes_image(text: str, name: str) -> None:
    """A name with a tag is taken as it is."""
    assert full_name(text) == name


@pytest.mark.parametrize("text", ["", "UPPER:1", "a b", "x:" + "y" * 200, "x:"])
def test_what_no_engine_takes_is_refused(text: str) -> None:
    """Before anything is built."""
    with pytest.raises(BadInput, match="is no image"):
        full_name(text)
