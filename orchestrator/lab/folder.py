"""The folder of one lab, `.testnets/.labs/<name>/`: plain files, each made once and read back afterwards.

lab.json                       what it is, written before anything is created
id_ed25519  id_ed25519.pub     who may log in
host_keys/<machine>            whom a machine proves to be; put into it before its first boot
known_hosts  hosts.yml         for ssh and Ansible, derived from the above
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.lab import inventory, keys
from orchestrator.lab.records import Lab, check_name
from orchestrator.runtimes.placing import replace_file
from orchestrator.testnet.folder import testnets_root

_FOLDER = ".labs"


def labs_root() -> Path:
    """Where labs live, beside the testnets."""
    return testnets_root().resolve() / _FOLDER


class LabFolder:
    """Paths and files of one lab."""

    def __init__(self, name: str, *, root: Path | None = None) -> None:
        self.name = check_name(name)
        self.path = (root or labs_root()) / name
        self.lab_file = self.path / "lab.json"
        self.key_file = self.path / "id_ed25519"
        self.known_hosts = self.path / "known_hosts"
        self.hosts_file = self.path / "hosts.yml"

    def lab(self) -> Lab | None:
        """The lab, or None when there is none of this name; raises EnvironmentFault when its record is torn."""
        try:
            return msgspec.json.decode(self.lab_file.read_bytes(), type=Lab)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise EnvironmentFault(
                f"{self.lab_file} cannot be read ({error}); remove the lab with `stratosctl lab destroy {self.name}`"
            ) from error

    def need_lab(self) -> Lab:
        """The lab of this name; raises BadInput when there is none."""
        lab = self.lab()
        if lab is None:
            known = ", ".join(lab_names(self.path.parent)) or "none"
            raise BadInput(
                f"there is no lab {self.name} (there is {known}); make it with `stratosctl lab create {self.name}`"
            )
        return lab

    def save(self, lab: Lab) -> None:
        """Write the record and every file that follows from it; keys that are there stay."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.lab_file, msgspec.json.format(msgspec.json.encode(lab), indent=2) + b"\n")
        own = self._key(self.key_file)
        replace_file(self.key_file.with_suffix(".pub"), f"{keys.public_line(own)} stratos-lab-{lab.name}\n".encode())
        lines = {machine.name: keys.public_line(self.host_key(machine.name)) for machine in lab.machines}
        replace_file(self.known_hosts, inventory.known_hosts_lines(lab, lines).encode())
        hosts = inventory.machines_inventory(lab, key_file=self.key_file, known_hosts=self.known_hosts)
        replace_file(self.hosts_file, inventory.render(hosts, comment=f"The machines of lab {lab.name}."))

    def host_key(self, machine: str) -> bytes:
        """The private host key of a machine, made on first use."""
        return self._key(self.path / "host_keys" / machine)

    def login_line(self) -> str:
        """Who may log in, as a line of authorized_keys."""
        return keys.public_line(self._key(self.key_file)) + "\n"

    def remove(self) -> None:
        """Delete the folder; nothing of the lab is left in the file system."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _key(self, path: Path) -> bytes:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, keys.new_private_key())
        return path.read_bytes()


def lab_names(root: Path | None = None) -> list[str]:
    """Names of the labs that have a folder."""
    folder = root or labs_root()
    return sorted(path.parent.name for path in folder.glob("*/lab.json")) if folder.is_dir() else []
