"""A lab on a real engine: machines that boot, are logged into, lose their power, come back, and leave nothing behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import msgspec
import pytest
from docker.errors import DockerException

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.lab import inventory, lab
from orchestrator.lab.folder import LabFolder
from orchestrator.lab.records import LAB_LABEL, SSH_PORT, USER, object_name

pytestmark = [pytest.mark.molecule, pytest.mark.docker]
LIMIT_BYTES = 700 << 20


@pytest.fixture(scope="module")
def engine() -> docker.DockerClient:
    """An engine, or a printed reason."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers: {error}")
    return client


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: docker.DockerClient) -> Iterator[str]:
    """A lab's name that is free, and free again afterwards."""
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path))
    chosen = f"test-{os.getpid()}"
    yield chosen
    lab.destroy(chosen)


def said(_text: str) -> None:
    """Progress is not what is tested."""


def ssh(lab_name: str, machine: str, command: str) -> subprocess.CompletedProcess[str]:
    """A command on a machine, over SSH with the lab's own files."""
    folder = LabFolder(lab_name)
    host = folder.need_lab().machine(machine)
    strict = inventory.ssh_options(folder.known_hosts).split()
    words = [
        "ssh",
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=3",
        *strict,
        "-i",
        str(folder.key_file),
        "-p",
        str(SSH_PORT),
    ]
    return subprocess.run(
        [*words, f"{USER}@{host.address}", command], capture_output=True, text=True, timeout=120, check=False
    )


def left(engine: docker.DockerClient, lab_name: str) -> list[str]:
    """What the engine holds of a lab."""
    filters = {"label": f"{LAB_LABEL}={lab_name}"}
    found = [*engine.containers.list(all=True, filters=filters), *engine.networks.list(filters=filters)]
    return [str(thing.name) for thing in [*found, *engine.volumes.list(filters=filters)]]


def test_a_lab_from_first_boot_to_nothing_left(engine: docker.DockerClient, name: str) -> None:
    """Machines run whole, are strictly checked, lose power and come back at their address, and go without a trace."""
    made = lab.create(name, machines=2, memory_bytes=LIMIT_BYTES, say=said)
    assert [machine.state for machine in made.lab.machines] == ["running"] * 2
    for machine in ("machine1", "machine2"):
        answer = ssh(name, machine, "systemctl is-system-running; sudo id -u; sudo docker info --format '{{.Driver}}'")
        assert answer.stdout.split() == ["running", "0", "overlay2"], answer.stderr
        assert "Permanently added" not in answer.stderr
    assert ssh(name, "machine1", "sudo -n true; hostname").stdout.strip() == "machine1"

    ssh(name, "machine1", "echo kept | sudo tee /var/lib/kept /home/admin/kept")
    lab.kill(name, ["machine1"])
    assert lab.state(name).machines[0].state == "exited"
    assert ssh(name, "machine1", "true").returncode == 255
    lab.start(name, ["machine1"])
    assert ssh(name, "machine1", "cat /var/lib/kept kept; systemctl is-system-running").stdout.split() == [
        "kept",
        "kept",
        "running",
    ]
    again = lab.create(name, machines=None, say=said)
    assert again.made == 0

    ids = [container.id for container in engine.containers.list(filters={"label": f"{LAB_LABEL}={name}"})]
    assert lab.destroy(name) == 5
    assert left(engine, name) == []
    assert not LabFolder(name).path.exists()
    assert [path for path in Path("/sys/fs/cgroup").rglob("*") if path.name in ids] == []
    assert lab.destroy(name) == 0


def test_a_machine_that_is_not_the_one_it_was_is_refused(engine: docker.DockerClient, name: str) -> None:
    """Another host key at a known address ends the connection: nothing is trusted on first use."""
    lab.create(name, machines=1, say=said)
    container = engine.containers.get(object_name(name, "machine1"))
    script = "rm /etc/ssh/ssh_host_ed25519_key && ssh-keygen -qt ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
    assert container.exec_run(["sh", "-c", f"{script} && systemctl restart ssh"]).exit_code == 0
    answer = ssh(name, "machine1", "true")
    assert answer.returncode == 255
    assert "Host key verification failed" in answer.stderr


def test_an_interrupted_creation_is_finished_by_the_same_command(engine: docker.DockerClient, name: str) -> None:
    """A container that never booted is made anew, because its keys may be missing; and the lab grows."""
    lab.create(name, machines=1, say=said)
    folder = LabFolder(name)
    folder.save(msgspec.structs.replace(folder.need_lab(), machines=lab.records.grown(folder.need_lab(), 2).machines))
    image = engine.containers.get(object_name(name, "machine1")).image
    labels = engine.containers.get(object_name(name, "machine1")).labels
    engine.containers.create(
        image, name=object_name(name, "machine2"), labels={**labels, "network.stratos.lab-machine": "machine2"}
    )
    done = lab.create(name, machines=2, say=said)
    assert done.made == 1
    assert ssh(name, "machine2", "true").returncode == 0


def test_a_name_that_another_checkout_uses_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machines are left alone, also by destroy."""
    lab.create(name, machines=1, say=said)
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path / "elsewhere"))
    for action in (lambda: lab.create(name, machines=1, say=said), lambda: lab.destroy(name)):
        with pytest.raises(BadInput, match=str(tmp_path)):
            action()
    monkeypatch.setenv("STRATOS_TESTNETS", str(tmp_path))
    assert ssh(name, "machine1", "true").returncode == 0


def test_new_machines_may_hold_an_image_from_the_start(engine: docker.DockerClient, name: str, tmp_path: Path) -> None:
    """With a seed every new machine's engine has the image before anything was sent to it."""
    saved = tmp_path / "seed.tar"
    contents = subprocess.run(["tar", "-C", "/", "-ch", "bin/sh"], capture_output=True, check=True, timeout=60).stdout
    engine.api.import_image_from_data(contents, repository=name, tag="seed")
    try:
        with saved.open("wb") as file:
            for piece in engine.images.get(f"{name}:seed").save(named=True):
                file.write(piece)
    finally:
        engine.images.remove(f"{name}:seed")
    lab.create(name, machines=2, seed_image=saved, say=said)
    for machine in ("machine1", "machine2"):
        answer = ssh(
            name, machine, "sudo docker images --format '{{.Repository}}:{{.Tag}}'; systemctl is-system-running"
        )
        assert answer.stdout.split() == [f"{name}:seed", "running"], answer.stderr


def test_without_an_engine_there_is_one_sentence(tmp_path: Path) -> None:
    """The command says what is missing and how to get it, and ends with the environment's exit code."""
    program = [sys.executable, "-P", "-m", "orchestrator.cli.main", "lab", "create", "nothing"]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock", "STRATOS_TESTNETS": str(tmp_path)}
    run = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (EnvironmentFault.exit_code, 1)
