"""Each node on its machine: a supervised unit, files of the right owner and mode, and a container that may do very little."""

import pytest

from orchestrator.topology.topology import NodeSpec

pytestmark = [pytest.mark.molecule, pytest.mark.ci]
SECRETS = ("node.key", "wallet.key")
UID = 10001


def test_units_are_enabled_and_run(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """systemd supervises every node, now and after the next boot."""
    for node in nodes:
        unit = fleet.of(node).service(fleet.entry(node)["unit"].removesuffix(".service"))
        assert unit.is_running, node.name
        assert unit.is_enabled, node.name


def test_every_node_has_a_unit_and_every_unit_a_node(fleet, topology) -> None:
    """A machine carries exactly what the inventory gives it."""
    for machine in topology.machines:
        wanted = {
            f"stratos-{topology.name}-{node.name}.service" for node in topology.nodes if node.machine == machine.name
        }
        if wanted:
            listed = fleet.machine(machine.name).check_output(
                f"systemctl list-unit-files --no-legend 'stratos-{topology.name}-*.service'"
            )
            assert {line.split()[0] for line in listed.splitlines()} == wanted


def test_homes_belong_to_the_node_alone(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """A home is 0700 and its keys 0600, owned by the user of the image."""
    for node in nodes:
        host, home = fleet.of(node), fleet.entry(node)["home"]
        folder = host.file(home)
        assert (folder.is_directory, folder.mode, folder.uid, folder.gid) == (True, 0o700, UID, UID), node.name
        for name in SECRETS:
            secret = host.file(f"{home}/{name}")
            assert (secret.mode, secret.uid) == (0o600, UID), f"{node.name} {name}"


def test_the_user_cannot_log_in(fleet, topology) -> None:
    """The host's user of that number has no shell and no password."""
    for machine in {node.machine for node in topology.nodes}:
        user = fleet.machine(machine).user("stratos")
        assert user.uid == UID
        assert user.shell.endswith(("nologin", "false"))
        assert user.password in ("!", "*", "!!", "!*")


def test_keys_cannot_be_read_by_who_logs_in(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Without sudo a home is closed."""
    for node in nodes:
        assert fleet.of(node, sudo=False).run(f"cat {fleet.entry(node)['home']}/node.key").rc != 0


def test_the_record_is_public_and_holds_no_secret(fleet, topology) -> None:
    """It is 0644, lists digests, and the key's text is not in it."""
    for machine in {node.machine for node in topology.nodes}:
        record = fleet.machine(machine).file(f"/etc/stratos/{topology.name}/manifest.json")
        assert record.mode == 0o644
        assert "secret" not in record.content_string
        assert "private" not in record.content_string


def test_what_is_placed_is_what_the_record_says(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Digests of the files on the disk are those of the record."""
    for node in nodes:
        entry = fleet.entry(node)
        for name, digest in entry["files"].items():
            assert fleet.of(node).file(f"{entry['home']}/{name}").sha256sum == digest, f"{node.name} {name}"


def test_containers_are_confined(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """No root, no capability, no new privileges, nothing to write but home and a small /tmp."""
    for node in nodes:
        found = fleet.container(node)
        settings = found["HostConfig"]
        assert found["Config"]["User"].split(":")[0] in (str(UID), "stratos"), node.name
        assert settings["ReadonlyRootfs"], node.name
        assert not settings["Privileged"], node.name
        assert settings["CapDrop"] == ["ALL"], node.name
        assert not settings["CapAdd"], node.name
        assert any(option.startswith("no-new-privileges") for option in settings["SecurityOpt"]), node.name
        mounts = {mount["Destination"]: mount["RW"] for mount in found["Mounts"] if mount["Type"] != "tmpfs"}
        assert mounts == {"/home/stratos": True}, node.name


def test_the_process_has_no_capability(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """What the engine was told is so in the kernel."""
    for node in nodes:
        pid = fleet.container(node)["State"]["Pid"]
        status = dict(
            line.split(":\t", 1)
            for line in fleet.of(node).file(f"/proc/{pid}/status").content_string.splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split()[0] == str(UID), node.name
        assert int(status["CapEff"], 16) == 0, node.name
        assert status["NoNewPrivs"].strip() == "1", node.name


def test_limits_of_the_inventory_are_in_force(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """Memory and processors are what the inventory gives, in the engine and in the kernel."""
    for node in nodes:
        settings = fleet.container(node)["HostConfig"]
        assert settings["Memory"] == node.memory_bytes, node.name
        assert settings["NanoCpus"] == int(node.cpus * 1e9), node.name
        assert settings["PidsLimit"], node.name
        if node.memory_bytes:
            assert _memory_limit(fleet, node) == node.memory_bytes, node.name


def test_containers_are_healthy(fleet, nodes: tuple[NodeSpec, ...]) -> None:
    """The image's own check says so, or has not said anything yet."""
    for node in nodes:
        assert fleet.container(node)["State"].get("Health", {}).get("Status", "healthy") != "unhealthy", node.name


def _memory_limit(fleet, node: NodeSpec) -> int:
    pid = fleet.container(node)["State"]["Pid"]
    host = fleet.of(node)
    lines = [line.split(":", 2) for line in host.file(f"/proc/{pid}/cgroup").content_string.splitlines()]
    for _, controllers, path in lines:
        if controllers == "memory":
            return int(host.file(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").content_string)
    path = next(path for number, _, path in lines if number == "0")
    return int(host.file(f"/sys/fs/cgroup{path}/memory.max").content_string)
