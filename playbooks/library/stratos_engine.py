#!/usr/bin/python
# Copyright the Stratos testnet authors. Licence: Apache-2.0.
"""A container engine on the machine: the one that is there, or the distribution's, and gone again if it was ours.

An engine that answers and is new enough is adopted and left as it is; one that is too old is refused, because to
replace it is its owner's decision. Where there is none, the distribution's package is installed. What that will add is
written down first (/etc/stratos/engine.json: packages, group, kernel switch), so that the removal takes exactly this,
also after an installation that was cut off. An engine that others have begun to use is not removed.
"""

from __future__ import annotations

import grp
import json
import os
import re
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stratos_files import ROOT, PlacingError, make_directory, read_json, write_json
from ansible.module_utils.stratos_system import System, alone

DOCUMENTATION = r"""
module: stratos_engine
short_description: Install or adopt a container engine, or remove the one that was installed
description:
  - Adopts an engine that answers and is new enough, else installs the distribution's; refuses one that is too old.
options:
  state: {description: V(absent) removes the engine only if this module installed it., type: str, choices: [present, absent], default: present}
  package: {description: Package of the distribution., type: str, default: docker.io}
  min_api: {description: Oldest engine API that will do., type: str, default: "1.41"}
author: [Stratos testnet authors]
"""

RETURN = r"""
origin: {description: installed or adopted or none, type: str, returned: always}
version: {description: Version of the engine, type: str, returned: state is present}
api: {description: Newest API it speaks, type: str, returned: state is present}
notes: {description: What changed or would change, type: list, returned: always}
kept: {description: Why an engine of ours was left, type: str, returned: state is absent}
"""

RECORD = Path("/etc/stratos/engine.json")
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
APT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
LEFTOVERS = ("/var/lib/docker", "/var/lib/containerd", "/etc/docker", "/etc/containerd", "/run/docker")

ENGINE_RULE = re.compile(r"\bDOCKER\b|\bdocker0\b")
"""Chains and bridge of this machine's engine; not DOCKER_OUTPUT, by which an engine outside serves names to a container."""


class Engine:
    """What the machine has and the steps to what it should have."""

    def __init__(self, params, *, check, system, record=RECORD, program=lambda: shutil.which("docker")):
        self.params, self.check, self.system = params, check, system
        self.record_file, self.program = record, program
        self.record = read_json(record) or {}
        self.notes = []

    def present(self):
        """An engine that answers; the module's result."""
        found = self._server() if self.program() else None
        half = self.record.get("packages") and not self.record.get("whole")
        if half or (found is None and not self._has_service()):
            self._install()
            found = None
        if found is None:
            self._run_it()
            found = self._server() if not self.check else None
            if found is None and not self.check:
                raise PlacingError("the container engine does not answer; see `journalctl -u docker`, then run again")
        if found is not None:
            self._check_version(found)
            self._enable()
        origin = "installed" if self.record.get("packages") else "adopted"
        answer = {
            "origin": origin,
            "version": (found or {}).get("Version", ""),
            "api": (found or {}).get("ApiVersion", ""),
        }
        return dict(answer, changed=bool(self.notes), notes=self.notes)

    def _has_service(self):
        """A client alone is no engine."""
        return self.program() is not None and self.system.run(["systemctl", "cat", "docker.service"])[0] == 0

    def _server(self):
        code, out, _ = self.system.run(["docker", "version", "--format", "{{json .Server}}"])
        try:
            return json.loads(out) if code == 0 else None
        except ValueError:
            return None

    def _check_version(self, found):
        least = self.params["min_api"]
        if _numbers(found.get("ApiVersion", "0")) < _numbers(least):
            raise PlacingError(
                f"the container engine {found.get('Version')} speaks API {found.get('ApiVersion')} and {least} is needed "
                f"(Docker 20.10 or newer); upgrade it, or remove it and {self.params['package']} will be installed"
            )

    def _install(self):
        package = self.params["package"]
        self.notes.append(f"{package} installed")
        if self.check:
            return
        simulate = ["--simulate", "install", "--no-install-recommends", package]
        code, out = self._apt(*simulate)
        if code:
            stale = self._apt("update", "-o", "APT::Update::Error-Mode=any")[1]
            code, out = self._apt(*simulate)
            if code:
                self._refuse(stale + out)
        added = re.findall(r"^Inst (\S+) \(", out, re.MULTILINE)  # `Inst name [old] (new` is an upgrade
        if not self.record:
            self.record = {
                "group": not _has_group("docker"),
                "ip_forward": _text(FORWARD),
            }
        self._write(packages=sorted({*self.record.get("packages", ()), *added}), whole=False)
        code, out = self._apt("install", "--yes", "--no-install-recommends", package)
        if code:
            self._refuse(out)
        self._write(whole=True)

    def _apt(self, *arguments):
        code, out, error = self.system.run(["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments])
        return code, out + error

    def _refuse(self, said):
        """Fail with the first reason that apt gave: what comes after it are consequences."""
        reasons = [line[3:].strip() for line in said.splitlines() if line.startswith("E:")] or ["apt gave no reason"]
        raise PlacingError(
            f"the container engine cannot be installed: {reasons[0]}; give the machine a package mirror that has "
            f"{self.params['package']}, or install Docker 20.10 or newer by hand"
        )

    def _run_it(self):
        self.notes.append("engine started")
        if not self.check:
            self.system.call("systemctl", "start", "docker")

    def _enable(self):
        code, out, _ = self.system.run(["systemctl", "is-enabled", "docker.service"])
        if code and out.strip() == "disabled":  # not for an engine that is run in another way
            self.notes.append("engine enabled")
            if not self.check:
                if not self.record.get("packages"):
                    self._write(enabled_by_us=True)
                self.system.call("systemctl", "enable", "docker")

    def absent(self):
        """Take away what was installed; the module's result."""
        kept = ""
        if self.record.get("packages"):
            kept = self._used_by_others()
            if not kept:
                self._purge()
        elif self.record.get("enabled_by_us"):
            self.notes.append("engine disabled")
            if not self.check:
                self.system.call("systemctl", "disable", "docker")
        if self.record and not kept and not self.check:
            self.record_file.unlink()
            self.record = {}
        return {
            "changed": bool(self.notes),
            "notes": self.notes,
            "kept": kept,
            "origin": "installed" if kept else "none",
        }

    def _used_by_others(self):
        for what, arguments in (
            ("container", ["ps", "--all", "--format", "{{.Names}}"]),
            ("image", ["images", "--quiet"]),
            ("volume", ["volume", "ls", "--quiet"]),
        ):
            code, out, _ = self.system.run(["docker", *arguments])
            if code == 0 and out.strip():
                return f"somebody uses it: {what} {out.split()[0]} is not ours; remove it, or keep the engine"
        return ""

    def _purge(self):
        self.notes.append("engine removed")
        if self.check:
            return
        _, out, _ = self.system.run(
            ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Abbrev}\n", *self.record["packages"]]
        )
        there = [line.split()[0] for line in out.splitlines() if line.split()[1:] not in ([], ["un"])]
        self.system.run(["systemctl", "stop", "docker.socket", "docker.service", "containerd.service"])
        self._untangle_network()
        if there:
            code, out = self._apt("purge", "--yes", *there)
            if code:
                raise PlacingError(f"the container engine cannot be removed: {out.strip()[-200:]}; remove it by hand")
        for path in LEFTOVERS:
            shutil.rmtree(path, ignore_errors=True)
        if self.record.get("group") and _has_group("docker"):
            self.system.call("groupdel", "docker")
        if self.record.get("ip_forward") == "0":
            FORWARD.write_text("0\n")
        self.system.run(["systemctl", "daemon-reload"])
        self.system.run(["systemctl", "reset-failed", "docker.service", "docker.socket", "containerd.service"])

    def _untangle_network(self):
        """Take out the engine's bridge and its rules, which outlive it; other rules stay."""
        self.system.run(["ip", "link", "delete", "docker0"])
        for family in ("iptables", "ip6tables"):
            code, saved, _ = self.system.run([family + "-save"])
            if code == 0 and ENGINE_RULE.search(saved):
                rest = [line for line in saved.splitlines() if not ENGINE_RULE.search(line)]
                rules = "\n".join(rest).replace(":FORWARD DROP", ":FORWARD ACCEPT") + "\n"
                self.system.run([family + "-restore"], data=rules)

    def _write(self, **changes):
        self.record.update(changes)
        make_directory(self.record_file.parent, ROOT, 0o755)
        write_json(self.record_file, self.record)


def _numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)]


def _has_group(name):
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _text(path):
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "package": {"type": "str", "default": "docker.io"},
            "min_api": {"type": "str", "default": "1.41"},
        },
        supports_check_mode=True,
    )
    os.environ.update(APT)
    try:
        with alone():
            engine = Engine(module.params, check=module.check_mode, system=System(module.run_command))
            result = engine.present() if module.params["state"] == "present" else engine.absent()
    except (PlacingError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
