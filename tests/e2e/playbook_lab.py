"""For tests of the playbooks: bundles of a real plan for the machines of a lab, and the playbooks run by hand on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from orchestrator.plan.plan import Existing, make_plan
from orchestrator.plan.ports import PortSearch
from orchestrator.runtimes.bundles import Manifest, NodePorts, bundle_name, node_entry, write_bundle
from orchestrator.runtimes.units import unit_text
from orchestrator.testnet.folder import files_of
from orchestrator.topology.topology import read_topology

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"


class Bundles:
    """A testnet's bundles, one per machine, rendered anew with changes on demand. Keys and genesis stay the same."""

    def __init__(self, inventory: Path, folder: Path, *, image: str, image_id: str) -> None:
        self.folder = folder
        self.image, self.image_id = image, image_id
        self.topology = read_topology(inventory)
        search = PortSearch(hint="lab", ephemeral=(32768, 60999), taken=frozenset(), base=0)
        self.outcome = make_plan(
            self.topology,
            Existing(),
            search,
            random=os.urandom,
            time_ms=time.time_ns() // 1_000_000,
            is_free=lambda port: True,
        )

    def render(self, *, without: tuple[str, ...] = (), changed: tuple[str, ...] = ()) -> Path:
        """Write the bundles: without some nodes (which go), with another log level of others; the folder."""
        plan = self.outcome.plan
        files = {one.name: dict(one.files) for one in files_of(plan, self.outcome.ring, self.outcome.genesis)}
        for name in changed:
            config = msgspec.json.decode(files[name]["config.json"])
            files[name]["config.json"] = msgspec.json.encode({**config, "log_level": "debug"})
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for machine in self.topology.machines:
            here = [node for node in self.topology.nodes if node.machine == machine.name]
            entries, units = [], {}
            for node in here:
                if node.name in without:
                    continue
                unit = unit_text(
                    testnet=plan.name, node=node.name, role=node.role, image=self.image, image_id=self.image_id
                )
                ports = plan.node(node.name).config.ports
                entry = node_entry(
                    testnet=plan.name, name=node.name, role=node.role, files=files[node.name], unit=unit,
                    image=self.image, image_id=self.image_id,
                    ports=NodePorts(p2p=ports.p2p, http=ports.http, bulk=ports.bulk),
                )  # fmt: skip
                entries.append(entry)
                units[entry.unit] = unit
            manifest = Manifest(
                testnet=plan.name, image=self.image, image_id=self.image_id, base="base", nodes=tuple(entries),
                removed=tuple(node.name for node in here if node.name in without),
            )  # fmt: skip
            write_bundle(self.folder / bundle_name(machine.name), manifest, files, units)
        return self.folder


class Played(NamedTuple):
    """A playbook that ended: exit code, everything it printed, and changed tasks by host (hosts that did nothing left out)."""

    code: int
    output: str
    changed: dict[str, int]


def play(playbook: str, inventory: Path, *arguments: str, kill_at: str = "", **variables: object) -> Played:
    """ansible-playbook as a person runs it; killed without warning when it prints `kill_at`."""
    ansible = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i", str(inventory), str(PLAYBOOKS / playbook), "-e", msgspec.json.encode(variables).decode(), *arguments,
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"), "PYTHONUNBUFFERED": "1", "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    with ansible:
        assert ansible.stdout is not None
        lines = []
        for line in ansible.stdout:
            lines.append(line)
            if kill_at and kill_at in line:
                os.killpg(ansible.pid, signal.SIGKILL)
    output = "".join(lines)
    recap = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)", output, re.MULTILINE)
    return Played(ansible.wait(), output, {host: int(changed) for host, ok, changed in recap if int(ok)})
