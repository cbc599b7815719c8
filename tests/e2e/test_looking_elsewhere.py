"""Looking into containers and machines: logs, exec, collect and destroy are the same commands, and hosts are left as found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import docker
import pytest
import yaml
from docker.errors import DockerException

sys.path.insert(0, str(Path(__file__).parent))
from up_driver import Tool

from orchestrator.lab import inventory, lab
from orchestrator.lab.folder import LabFolder
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.redaction import forms_of, secrets_of

LAB_MEMORY_BYTES = 1 << 30
PACE = {
    "stratos_copies": 1,
    "stratos_block_seconds": 0.5,
    "stratos_meta_block_seconds": 0.5,
    "stratos_status_seconds": 2,
}


@pytest.fixture
def engine() -> docker.DockerClient:
    """An engine, or a printed reason."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers: {error}")
    return client


def execute(tool: Tool, *words: str) -> subprocess.CompletedProcess[str]:
    """`exec` with a command after --."""
    program = [*tool.command("exec")[:-2], "-i", str(tool.inventory), *words]
    return subprocess.run(program, env=tool.environment, capture_output=True, text=True, timeout=300)


def look_around(tool: Tool, name: str, archive: Path) -> None:
    """Every looking command answers for every node, and the archive holds no secret."""
    lines = [json.loads(line) for line in tool.run("logs", "--json").stdout.splitlines()]
    assert {line["node"] for line in lines} == {"v1", "m1", "r1"}
    done = execute(tool, "resource", "v1", "--json", "--", "cat", "/etc/hostname")
    outcomes = json.loads(done.stdout)
    assert [(one["node"], one["code"], bool(one["output"])) for one in outcomes] == [("v1", 0, True), ("r1", 0, True)]
    assert execute(tool, "m1", "--", "sh", "-c", "exit 9").returncode == 9
    report = tool.json("collect", "-o", str(archive))
    assert report["problems"] == {} and report["redacted"] == 0
    forms = [form for secret in secrets_of(TestnetFolder(tool.root / name).ring()) for form in forms_of(secret)]
    with tarfile.open(archive) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert all(content[f"{name}/nodes/{node}/log.jsonl"] for node in ("v1", "m1", "r1"))
    assert [file for file, text in content.items() for form in forms if form in text] == []


@pytest.mark.docker
def test_in_containers(tmp_path: Path, engine: docker.DockerClient) -> None:
    """Volumes stay with --keep-data and go without; networks and containers go in any case."""
    name = f"look{os.getpid()}"
    tool = Tool(tmp_path)
    settings = {"ansible_connection": "local", "stratos_testnet": name, "stratos_runtime": "docker", **PACE}
    tool.write(yaml.safe_dump({"all": {"vars": settings, "children": groups({})}}))
    mine = {"label": f"network.stratos.testnet={name}"}
    try:
        assert tool.run("up").returncode == 0
        look_around(tool, name, tmp_path / "all.tar.gz")
        tool.json("destroy", "--yes", "--keep-data")
        assert engine.containers.list(all=True, filters=mine) == [] and engine.networks.list(filters=mine) == []
        assert len(engine.volumes.list(filters=mine)) == 3
    finally:
        assert tool.run("destroy", "--yes").returncode == 0
    assert engine.volumes.list(filters=mine) == []


@pytest.mark.molecule
@pytest.mark.docker
@pytest.mark.slow
def test_on_machines(tmp_path: Path, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is too small is not touched; after destroy one has no unit, user, folder or container of ours, and runs what it ran before."""
    tool = Tool(tmp_path)
    monkeypatch.setenv("STRATOS_TESTNETS", str(tool.root))
    name, lab_name = f"look{os.getpid()}", f"look-{os.getpid()}"
    try:
        lab.create(lab_name, machines=2, memory_bytes=LAB_MEMORY_BYTES, say=lambda _text: None)
        folder = LabFolder(lab_name)
        first, second = (
            inventory.connection(machine, key_file=folder.key_file, known_hosts=folder.known_hosts)
            for machine in folder.need_lab().machines
        )
        settings = {"stratos_testnet": name, "stratos_runtime": "machines", "stratos_hardware_factor": 0.001, **PACE}
        hosts = {"v1": first, "m1": first, "r1": {**second, "stratos_disk": "1 GiB"}}
        tool.write(yaml.safe_dump({"all": {"vars": settings, "children": groups(hosts)}}))
        before = found_on(lab_name, folder)
        tool.write(
            yaml.safe_dump({"all": {"vars": {**settings, "stratos_hardware_factor": 1.0}, "children": groups(hosts)}})
        )
        small = tool.run("up")
        assert small.returncode != 0 and "stratos_hardware_factor" in small.stderr, small.stdout + small.stderr
        assert found_on(lab_name, folder) == before
        tool.write(yaml.safe_dump({"all": {"vars": settings, "children": groups(hosts)}}))
        up = tool.run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        look_around(tool, name, tmp_path / "all.tar.gz")
        inside = execute(tool, "r1", "--container", "--", "id", "-u")
        assert inside.stdout.strip() == "10001", inside.stderr
        shown = tool.run("ssh", "r1", "--show").stdout
        assert shown.startswith("ssh ") and second["ansible_host"] in shown
        gone = tool.run("destroy", "--yes")
        assert gone.returncode == 0, gone.stderr
        assert found_on(lab_name, folder) == before
    finally:
        lab.destroy(lab_name)


def groups(hosts: dict[str, dict[str, object]]) -> dict[str, object]:
    """One node of each role."""
    return {
        group: {"hosts": {node: hosts.get(node) or {}}}
        for group, node in (("validators", "v1"), ("meta", "m1"), ("resource", "r1"))
    }


LEFT_BEHIND = (
    "ls -a /etc/systemd/system /etc/stratos /var/lib/stratos /etc/nftables.d /opt /usr/local/bin 2>/dev/null | grep -i stratos;"
    "getent passwd stratos; ss -ltnH | awk '{print $4}' | sort; nft list tables 2>/dev/null; docker ps -aq 2>/dev/null; docker images -q 2>/dev/null"
)


def found_on(name: str, folder: LabFolder) -> list[str]:
    """What each machine of the lab holds that could be ours."""
    found = []
    for machine in folder.need_lab().machines:
        words = ["ssh", "-F", "none", "-o", "BatchMode=yes", *inventory.ssh_options(folder.known_hosts).split()]
        words += ["-i", str(folder.key_file), f"admin@{machine.address}", f"sudo sh -c {LEFT_BEHIND!r}"]
        found.append(subprocess.run(words, capture_output=True, text=True, timeout=60).stdout)
    return found
