"""Preflight and connections against machines over real SSH: every bad machine is named with its fix before anything changes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest
import yaml
from docker.errors import DockerException

from orchestrator.fleet.connections import Result, close_all, run_all
from orchestrator.fleet.failures import HOST_KEY_UNKNOWN, SUDO_REFUSED, UNREACHABLE, WRONG_KEY, Failure
from orchestrator.lab import inventory, lab
from orchestrator.lab.folder import LabFolder
from orchestrator.preflight.run import MachineReport, preflight
from orchestrator.topology.topology import Topology, read_topology

pytestmark = [pytest.mark.molecule, pytest.mark.docker, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES = 600 << 20


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Two lab machines: name -> Ansible's variables to reach it."""
    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers: {error}")
    name = f"pf-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATOS_TESTNETS", str(tmp_path_factory.mktemp("testnets")))
        try:
            made = lab.create(name, machines=2, memory_bytes=MEMORY_BYTES, say=lambda _text: None)
            folder = LabFolder(name)
            yield {
                machine.name: inventory.connection(
                    folder.need_lab().machine(machine.name), key_file=folder.key_file, known_hosts=folder.known_hosts
                )
                for machine in made.lab.machines
            }
        finally:
            close_all()
            lab.destroy(name)


def written(folder: Path, hosts: dict[str, dict[str, Any]], factor: float = 0.001) -> Path:
    """An inventory whose first host is a validator and a meta node, and whose others are resource nodes."""
    first, *others = hosts
    document = {
        "all": {
            "vars": {"stratos_runtime": "machines", "stratos_hardware_factor": factor, "stratos_copies": 1},
            "children": {
                "validators": {"hosts": {"v1": hosts[first]}},
                "meta": {"hosts": {"m1": hosts[first]}},
                "resource": {
                    "hosts": {f"r{n}": {**hosts[name], "stratos_disk": "1 GiB"} for n, name in enumerate(others, 1)}
                },
            },
        }
    }
    path = folder / "net.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def examined(topology: Topology) -> dict[str, MachineReport]:
    """host -> its report."""
    return {one.host: one for one in preflight(topology, quick=True).machines}


def verdicts(report: MachineReport) -> dict[str, str]:
    """check -> verdict."""
    return {line.check: line.verdict for line in report.lines}


def fix(report: MachineReport, check: str) -> str:
    """The fix of a line that must have failed."""
    line = next(line for line in report.lines if line.check == check)
    assert line.verdict == "fail", line
    return line.fix


def on(topology: Topology, host: str, command: str) -> str:
    """What a command says as root on the machine of `host`."""
    machine = next(machine for machine in topology.machines if host in machine.hosts)
    found = run_all([machine], command, timeout=60, sudo=True)[machine.name]
    assert isinstance(found, Result), found
    assert found.code == 0, found.said
    return found.text


def test_good_machines_pass_and_are_left_as_they_were(machines: dict[str, Any], tmp_path: Path) -> None:
    """Everything is measured over SSH, ports are reached, clocks agree, and no file, process or port is left."""
    topology = read_topology(written(tmp_path, machines))
    before = on(topology, "r1", "find /var/lib /tmp /etc -xdev | sort | sha256sum")
    reports = examined(topology)
    assert {host: one.verdict for host, one in reports.items()} == {"m1": "pass", "r1": "pass"}, reports
    lines = {line.check: line for line in reports["m1"].lines}
    assert lines["port 26656"].measured == "reached from the controller"
    assert lines["clock"].verdict == lines["sudo"].verdict == lines["bandwidth down"].verdict == "pass"
    assert on(topology, "r1", "find /var/lib /tmp /etc -xdev | sort | sha256sum") == before
    assert "stratos" not in on(topology, "v1", "ps -eo args; ss -ltnp")


def test_each_bad_machine_is_named_with_its_fix(machines: dict[str, Any], tmp_path: Path) -> None:
    """A wrong key, a host that is not there and a user without sudo: three sentences, and the good machine still passes."""
    first, second = machines.values()
    other_key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other_key)], check=True)
    nobody = first["ansible_host"].rsplit(".", 1)[0] + ".250"
    topology = read_topology(
        written(
            tmp_path,
            {
                "good": first,
                "wrong-key": {**second, "ansible_ssh_private_key_file": str(other_key)},
                "missing": {**second, "ansible_host": nobody},
            },
        )
    )
    kinds = {
        name: one.kind
        for name, one in run_all(topology.machines, "true", timeout=30).items()
        if isinstance(one, Failure)
    }
    assert kinds == {second["ansible_host"]: WRONG_KEY, nobody: UNREACHABLE}
    reports = examined(topology)
    assert reports["m1"].verdict == "pass"
    assert "ansible_ssh_private_key_file of r1" in fix(reports["r1"], "connection")
    assert "check that r2 is up" in fix(reports["r2"], "connection")


def test_sudo_refused_is_a_line_and_the_rest_is_measured(machines: dict[str, Any], tmp_path: Path) -> None:
    """A login user without sudo fails that one line; what needs no root is measured all the same."""
    good = read_topology(written(tmp_path, machines))
    keys = "/etc/ssh/authorized_keys"
    on(good, "r1", f"useradd -m -s /bin/sh plain && cp {keys}/admin {keys}/plain")
    try:
        second = {**machines["machine2"], "ansible_user": "plain"}
        topology = read_topology(written(tmp_path, {"machine1": machines["machine1"], "machine2": second}))
        close_all()
        found = run_all([topology.machines[1]], "true", timeout=30, sudo=True)[topology.machines[1].name]
        assert isinstance(found, Failure) and found.kind == SUDO_REFUSED, found
        report = examined(topology)["r1"]
        assert "let plain run sudo there without a password" in fix(report, "sudo")
        assert verdicts(report)["memory"] == verdicts(report)["port 18081"] == "pass"
        on(good, "r1", "echo plain:hunter2 | chpasswd; echo 'plain ALL=(ALL) ALL' > /etc/sudoers.d/plain")
        second["ansible_become_password"] = "hunter2"
        topology = read_topology(written(tmp_path, {"machine1": machines["machine1"], "machine2": second}))
        close_all()
        assert verdicts(examined(topology)["r1"])["sudo"] == "pass"
        assert on(topology, "r1", "id -u; cat") == "0"
    finally:
        close_all()
        on(good, "r1", f"userdel -r plain 2>/dev/null; rm -f {keys}/plain /etc/sudoers.d/plain")


def test_a_taken_port_and_a_full_disk_fail_their_lines(machines: dict[str, Any], tmp_path: Path) -> None:
    """Who holds the port is named; a disk without room says how much is missing."""
    topology = read_topology(written(tmp_path, machines))
    squatter = "import socket,time; s=socket.create_server(('',1317)); time.sleep(600)"
    on(topology, "v1", f'systemd-run --unit=squatter -- python3 -c "{squatter}"')
    on(topology, "r1", "mkdir -p /var/lib/stratos && mount -t tmpfs -o size=200m tmpfs /var/lib/stratos")
    try:
        on(topology, "v1", "for n in $(seq 100); do ss -ltn | grep -q :1317 && exit; sleep 0.1; done; exit 1")
        reports = examined(topology)
        assert "python3" in fix(reports["m1"], "port 1317")
        assert fix(reports["r1"], "disk free").startswith("free 8")
    finally:
        on(topology, "v1", "systemctl stop squatter; systemctl reset-failed squatter 2>/dev/null; true")
        on(topology, "r1", "umount /var/lib/stratos && rmdir /var/lib/stratos")


def test_the_command_ends_with_the_verdict(machines: dict[str, Any], tmp_path: Path) -> None:
    """`preflight` exits 1 when a machine fails, and its JSON says the same as its table."""
    path = written(tmp_path, machines, factor=1.0)
    words = [sys.executable, "-P", "-m", "orchestrator.cli.main", "preflight", "-i", str(path), "--quick"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'node_image'}"}
    table = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    assert (table.returncode, "fails on m1, r1" in table.stdout) == (1, True), table.stdout + table.stderr
    one = subprocess.run([*words, "--json", "--limit", "r1"], capture_output=True, timeout=120, env=environment)
    report = msgspec.json.decode(one.stdout)
    assert (one.returncode, report["verdict"], [machine["host"] for machine in report["machines"]]) == (
        1,
        "fail",
        ["r1"],
    )


def test_a_jump_host_is_gone_through_and_checked(machines: dict[str, Any], tmp_path: Path) -> None:
    """ProxyJump and ProxyCommand of the inventory lead to the machine, and a jump host with an unknown key is refused."""
    first, second = machines.values()
    jump, key, known = (
        f"admin@{first['ansible_host']}",
        first["ansible_ssh_private_key_file"],
        first["ansible_ssh_common_args"],
    )
    ways = {
        "jump": f"{known} -o ProxyJump={jump}",
        "command": f"{known} -o ProxyCommand='ssh -i {key} {known} -W %h:%p {jump}'",
    }
    for name, arguments in ways.items():
        close_all()
        through = {**second, "ansible_ssh_common_args": arguments}
        topology = read_topology(written(tmp_path, {"machine1": first, "machine2": through}))
        assert on(topology, "r1", "echo $SSH_CONNECTION | cut -d' ' -f1; hostname").splitlines()[-1] == "machine2", name
        assert verdicts(examined(topology)["r1"])["clock"] == "pass"
    close_all()
    alone = tmp_path / "known"
    lines = Path(known.split("UserKnownHostsFile=")[1].split()[0].strip("'\"")).read_text().splitlines()
    alone.write_text("".join(f"{line}\n" for line in lines if line.startswith(second["ansible_host"])))
    through = {**second, "ansible_ssh_common_args": f"-o UserKnownHostsFile={alone} -o ProxyJump={jump}"}
    topology = read_topology(written(tmp_path, {"machine1": first, "machine2": through}))
    refused = run_all([topology.machines[1]], "true", timeout=30)[topology.machines[1].name]
    assert isinstance(refused, Failure) and refused.kind == HOST_KEY_UNKNOWN, refused
