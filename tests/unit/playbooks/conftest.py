"""Modules and plugins of the playbooks, loaded by path as Ansible does, and a machine made of a folder and a script."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
# Ansible reads its environment once a process, and tests of inventories may come after these in the same one.
os.environ.setdefault("ANSIBLE_INVENTORY_UNPARSED_FAILED", "true")
os.environ.setdefault("ANSIBLE_INVENTORY_UNPARSED_WARNING", "false")


def load(relative, name):
    """One file of the playbooks as a module."""
    spec = importlib.util.spec_from_file_location(name, PLAYBOOKS / relative)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


for shared in ("stratos_files", "stratos_system"):  # what AnsiballZ puts beside a module on the target
    load(f"module_utils/{shared}.py", f"ansible.module_utils.{shared}")


@pytest.fixture(scope="session")
def playbook_module():
    """A module of playbooks/library by name."""
    return lambda name: load(f"library/{name}.py", f"stratos_library_{name}")


@pytest.fixture(scope="session")
def playbook_plugin():
    """A plugin by kind and name."""
    return lambda kind, name: load(f"{kind}/{name}.py", f"stratos_{kind}_{name}")


class FakeSystemd:
    """Stands in for System: keeps what systemd would know, and every call in order."""

    def __init__(self, root):
        self.root = root
        self.active, self.enabled, self.seen = set(), set(), set()
        self.calls, self.user = [], False
        self.die_at = None

    def units(self, names):
        found = {}
        for name in names:
            here = (self.root / "etc/systemd/system" / name).exists()
            found[name] = {
                "LoadState": "loaded" if here or name in self.seen else "not-found",
                "ActiveState": "active" if name in self.active else "inactive",
                "UnitFileState": "enabled" if name in self.enabled else "disabled",
                "NeedDaemonReload": "yes" if here and name not in self.seen else "no",
            }
        return found

    def systemctl(self, verb, names):
        if not names and verb != "daemon-reload":
            return
        self.calls.append((verb, *names))
        if verb == self.die_at:
            raise KeyboardInterrupt
        if verb == "daemon-reload":
            self.seen = {path.name for path in (self.root / "etc/systemd/system").iterdir()}
        for name in names:
            if verb in ("start", "restart"):
                self.active.add(name)
                self._start(name)
            elif verb == "stop":
                self.active.discard(name)
            elif verb == "enable":
                self.enabled.add(name)
            elif verb == "disable":
                self.enabled.discard(name)

    def _start(self, unit):
        """What the unit's ExecStartPre does."""
        testnet, _, node = unit.removeprefix("stratos-").removesuffix(".service").partition("-")
        started = self.root / "run/stratos" / testnet
        started.mkdir(parents=True, exist_ok=True)
        (started / f"{node}.digest").write_bytes((self.root / "etc/stratos" / testnet / f"{node}.digest").read_bytes())

    def run(self, arguments):
        return 0, "", ""

    def remove_container(self, name):
        self.calls.append(("rm", name))

    def has_user(self):
        return self.user

    def make_user(self):
        self.user = True

    def remove_user(self):
        self.user = False


@pytest.fixture
def machine_root(tmp_path):
    """A folder with what every machine has."""
    root = tmp_path / "machine"
    for folder in ("etc/systemd/system", "var/lib", "run"):
        (root / folder).mkdir(parents=True)
    return root


@pytest.fixture
def systemd(machine_root):
    return FakeSystemd(machine_root)
