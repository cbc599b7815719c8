"""The image in an engine: built once, small, and a node in it runs hardened, turns healthy, stops at once."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StratosctlError
from orchestrator.image.build import NODE_FOLDER, is_stale
from orchestrator.image.engine import engine
from orchestrator.testnet.folder import files_of
from orchestrator.testnet.planning import plan_testnet

pytestmark = [pytest.mark.docker, pytest.mark.ci]

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = """
all:
  vars: {stratos_runtime: docker, ansible_connection: local, stratos_copies: 1}
  children:
    validators: {hosts: {v1: }}
    meta: {hosts: {m1: }}
    resource: {hosts: {r1: }}
"""
MOST_BYTES = 250_000_000


def stratosctl(*words: str) -> Any:
    """What a command prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "orchestrator.cli.main", *words, "--json"],
        cwd=ROOT,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The engine; without one these tests are skipped, saying so."""
    try:
        found = engine()
    except StratosctlError as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture(scope="module")
def image(client: Any) -> Iterator[str]:
    """The image of these sources under a name of this test's own."""
    name = f"stratos-node:test-{os.getpid()}"
    assert stratosctl("image", "build", "--tag", name)["changed"]
    yield name
    client.images.remove(name, force=True)


@pytest.fixture
def validator(client: Any, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A container with the home of a testnet's only validator, hardened as the runtimes run it."""
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path / "testnets"))
    source = tmp_path / "image-test.yml"
    source.write_text(INVENTORY)
    outcome = plan_testnet(source).outcome
    home = next(one for one in files_of(outcome.plan, outcome.ring, outcome.genesis) if one.name == "v1")
    volume = client.volumes.create(f"stratos-test-{os.getpid()}")
    container = client.containers.create(
        image,
        volumes={volume.name: {"bind": "/home/stratos", "mode": "rw"}},
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": "size=16m"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in home.files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), 0o600, 10001, 10001
            archive.addfile(entry, io.BytesIO(data))
    yield container, packed.getvalue()
    container.remove(force=True)
    volume.remove()


def until(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def test_a_second_build_changes_nothing_and_the_image_is_small(client: Any, image: str) -> None:
    """Known by a digest in a label; the size is the whole image's."""
    again = stratosctl("image", "build", "--tag", image)
    assert not again["changed"]
    assert again["size_bytes"] < MOST_BYTES
    labels = client.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == again["version"]
    assert int(labels["network.stratos.rules"]) == again["rules"] >= 1
    assert labels["org.opencontainers.image.revision"]
    assert image in [row["image"] for row in stratosctl("image", "list")]


def test_it_has_no_package_manager_of_python_and_carries_its_bill(client: Any, image: str, tmp_path: Path) -> None:
    """The bill in the image is the one that is written beside the build."""
    sbom = tmp_path / "sbom.json"
    stratosctl("image", "build", "--tag", image, "--sbom", str(sbom))
    command = [
        "sh",
        "-c",
        "cat /usr/share/stratos/sbom.json; python3 -I -S -c 'import sys; sys.path[:0]=[\"/opt/stratos/lib\"]; import pip'",
    ]
    container = client.containers.run(image, command, detach=True, network_mode="none")
    try:
        assert container.wait()["StatusCode"] == 1
        assert container.logs(stdout=True, stderr=False) == sbom.read_bytes()
        assert b"No module named 'pip'" in container.logs(stdout=False, stderr=True)
    finally:
        container.remove(force=True)
    names = {component["name"] for component in json.loads(sbom.read_bytes())["components"]}
    assert {"aiohttp", "rocksdict", "cpython"} <= names


def test_a_node_runs_hardened_turns_healthy_and_stops_at_once(validator: Any) -> None:
    """As uid 10001 on a read-only root without capabilities; the log is JSON on stdout; SIGTERM ends it with 0."""
    container, home = validator
    with_home(container, home)
    until(lambda: state(container)["Health"]["Status"] == "healthy", "healthy")
    assert container.exec_run(["id", "-u"]).output.strip() == b"10001"
    assert container.exec_run(["touch", "/opt/x"]).exit_code != 0
    assert b"CapEff:\t0000000000000000" in container.exec_run(["cat", "/proc/1/status"]).output
    lines = [json.loads(line) for line in container.logs(stdout=True, stderr=False).splitlines()]
    assert all(line["node"] == "v1" for line in lines)
    began = time.monotonic()
    container.stop(timeout=30)
    assert time.monotonic() - began < 10
    assert state(container)["ExitCode"] == 0


def with_home(container: Any, home: bytes) -> None:
    """Place files and start: a read-only root takes none, so they go to the home's volume."""
    assert container.put_archive("/home/stratos", home)
    container.start()


def state(container: Any) -> Any:
    container.reload()
    return container.attrs["State"]


def test_saved_and_loaded_it_is_the_same_image_and_the_file_is_the_same_twice(
    client: Any, image: str, tmp_path: Path
) -> None:
    """Carried to an engine without a registry, compressed or not."""
    first, second = tmp_path / "a.tar", tmp_path / "b.tar.gz"
    stratosctl("image", "save", image, "-o", str(first))
    again = tmp_path / "again.tar"
    stratosctl("image", "save", image, "-o", str(again))
    assert first.read_bytes() == again.read_bytes()
    stratosctl("image", "save", image, "-o", str(second))
    assert second.stat().st_size < first.stat().st_size
    before = client.images.get(image).id
    client.images.remove(image, force=True)
    try:
        assert image in stratosctl("image", "load", str(second))["images"]
        assert client.images.get(image).id == before
    finally:
        with contextlib.suppress(Exception):
            client.images.load(first.read_bytes())


def test_an_image_of_other_sources_is_known_as_such(client: Any, image: str, tmp_path: Path) -> None:
    """The same sources are not stale, a changed line is, and an image that is not there is neither."""
    assert not is_stale(client, image)
    assert not is_stale(client, "stratos-node:was-never-built")
    changed = tmp_path / "node_image"
    shutil.copytree(NODE_FOLDER, changed)
    with (changed / "stratos" / "node.py").open("a") as file:
        file.write("# changed\n")
    assert is_stale(client, image, root=changed)
