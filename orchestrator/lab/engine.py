"""A lab's network, volumes and containers on the engine. Everything carries the lab's label, so that destroying is finding by label.

Each call makes true what its name says and may be repeated: what is there is left, what is missing is made. A container is complete
(keys inside, address fixed) before its first start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.lab.image import AUTHORIZED_KEYS, HOST_KEY, archive
from orchestrator.lab.records import FOLDER_LABEL, LAB_LABEL, MACHINE_LABEL, Lab, LabMachine, object_name

_CAPABILITIES = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD"]
_SECURITY = ["seccomp=unconfined", "apparmor=unconfined"]
_TMPFS = {"/run": "exec,mode=755", "/run/lock": ""}
_STOP_SECONDS = 20


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Say what the engine refused to do as one of our errors."""
    try:
        yield
    except APIError as error:
        raise EnvironmentFault(f"the container engine could not {what}: {error.explanation or error}") from error
    except requests.exceptions.RequestException as error:
        raise EnvironmentFault(f"the container engine did not answer when asked to {what}: {error}") from error


class LabEngine:
    """The objects of one lab on one engine. `folder` is the lab's, and part of what makes an object ours."""

    def __init__(self, client: docker.DockerClient, name: str, folder: Path) -> None:
        self.client = client
        self.name = name
        self.labels = {LAB_LABEL: name, FOLDER_LABEL: str(folder)}

    def check_ours(self) -> None:
        """Raise BadInput when a lab of this name was made from another folder."""
        with telling("list containers"):
            for container in self.client.containers.list(all=True, filters={"label": f"{LAB_LABEL}={self.name}"}):
                other = container.labels.get(FOLDER_LABEL, "")
                if other != self.labels[FOLDER_LABEL]:
                    raise BadInput(f"this engine has a lab {self.name} that belongs to {other}; choose another name")

    def subnets(self) -> list[str]:
        """IPv4 networks that the engine uses."""
        with telling("list networks"):
            networks = self.client.networks.list()
        pools = [pool for network in networks for pool in (network.attrs.get("IPAM") or {}).get("Config") or ()]
        return [str(pool["Subnet"]) for pool in pools if ":" not in pool.get("Subnet", ":")]

    def ensure_network(self, subnet: str) -> None:
        """The lab's bridge network on `subnet`."""
        name = object_name(self.name)
        with telling(f"make the network {name} on {subnet}"):
            if not self.client.networks.list(names=[f"^{name}$"]):
                ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
                self.client.networks.create(name, driver="bridge", ipam=ipam, labels=self.labels)

    def ensure_machine(self, lab: Lab, machine: LabMachine, *, image: str, host_key: bytes, login: str) -> None:
        """The machine's container with its keys inside, not yet started."""
        with telling(f"make machine {machine.name}"):
            found = self.container(machine.name)
            if found is not None and found.status == "created":  # never booted: its keys may be missing
                found.remove(force=True)
                found = None
            if found is None:
                self._create(lab, machine, image=image, host_key=host_key, login=login)

    def _create(self, lab: Lab, machine: LabMachine, *, image: str, host_key: bytes, login: str) -> None:
        name = object_name(lab.name, machine.name)
        labels = {**self.labels, MACHINE_LABEL: machine.name}
        self.client.volumes.create(name, labels=labels)
        options: dict[str, Any] = {}
        if lab.memory_bytes:
            options |= {"mem_limit": lab.memory_bytes, "memswap_limit": lab.memory_bytes}
        if lab.cpus:
            options |= {"nano_cpus": int(lab.cpus * 1e9)}
        network = object_name(lab.name)
        container = self.client.containers.create(
            image,
            name=name,
            hostname=machine.name,
            labels=labels,
            cap_add=_CAPABILITIES,
            security_opt=_SECURITY,
            cgroupns="private",
            tmpfs=_TMPFS,
            volumes={name: {"bind": "/var", "mode": "rw"}},
            network=network,
            networking_config={network: self.client.api.create_endpoint_config(ipv4_address=machine.address)},
            **options,
        )
        files = {AUTHORIZED_KEYS: (login.encode(), 0o644), HOST_KEY: (host_key, 0o600)}
        container.put_archive("/", archive({path.lstrip("/"): content for path, content in files.items()}).getvalue())

    def container(self, machine: str) -> Container | None:
        """The container of a machine, or None."""
        try:
            return self.client.containers.get(object_name(self.name, machine))
        except NotFound:
            return None

    def need_container(self, machine: str) -> Container:
        """The container of a machine; raises EnvironmentFault when the engine lost it."""
        with telling(f"look up machine {machine}"):
            found = self.container(machine)
        if found is None:
            raise EnvironmentFault(
                f"the engine has no container of machine {machine}; run `stratosctl lab create {self.name}` again"
            )
        return found

    def start(self, machine: str) -> None:
        """Boot it, when it is not up."""
        with telling(f"start machine {machine}"):
            self.need_container(machine).start()

    def stop(self, machine: str) -> None:
        """Shut it down in order."""
        with telling(f"stop machine {machine}"):
            self.need_container(machine).stop(timeout=_STOP_SECONDS)

    def kill(self, machine: str) -> None:
        """Cut its power; nothing when it is off."""
        container = self.need_container(machine)
        with telling(f"kill machine {machine}"):
            if container.status == "running":
                container.kill("SIGKILL")

    def run(self, machine: str, *command: str) -> tuple[int, str]:
        """Exit code and output of a command inside a machine, as root."""
        container = self.need_container(machine)
        with telling(f"run {command[0]} on machine {machine}"):
            done = container.exec_run(list(command))
        output = done.output if isinstance(done.output, bytes) else b""
        return done.exit_code or 0, output.decode(errors="replace").strip()

    def states(self) -> dict[str, str]:
        """The engine's word for each machine: running, exited, created."""
        with telling("list containers"):
            found = self.client.containers.list(all=True, filters=self._filter())
        return {container.labels[MACHINE_LABEL]: container.status for container in found}

    def destroy(self) -> int:
        """Remove every container, volume and network of the lab; how many there were."""
        removed = 0
        with telling(f"remove lab {self.name}"):
            for container in self.client.containers.list(all=True, filters=self._filter()):
                removed += _gone(container.remove, force=True, v=True)
            for volume in self.client.volumes.list(filters=self._filter()):
                removed += _gone(volume.remove, force=True)
            for network in self.client.networks.list(filters=self._filter()):
                removed += _gone(network.remove)
        return removed

    def _filter(self) -> dict[str, str | list[str] | bool]:
        return {"label": [f"{label}={value}" for label, value in self.labels.items()]}


def _gone(remove: Any, **options: Any) -> int:
    try:
        remove(**options)
    except NotFound:  # somebody was quicker, and it is gone as wanted
        return 0
    return 1
