#!/usr/bin/python
# Copyright: Stratos testnet authors. Apache-2.0.
"""Packages of the distribution, installed so that they can be taken away again: exactly what came with us, and no more.

Before anything is installed, what apt would install (dependencies too) is written to a record; so an install that was
interrupted can be undone as well. `absent` purges what the record names and forgets it; packages that were there before
were never in it. Where all packages are installed nothing is asked of apt at all: one call of dpkg-query. Standard library and
module_utils only: this file runs on machines that have nothing of ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: stratos_packages
short_description: Install packages of the distribution, and undo exactly that
options:
  names:
    description: Packages that should be there. Not needed for absent.
    type: list
    elements: str
    default: []
  record:
    description: File in which what was installed is written down.
    type: path
    required: true
  state:
    description: present installs what is missing; absent purges what the record names.
    type: str
    choices: [present, absent]
    default: present
  optional:
    description: >-
      Packages that no source offers are returned in `unavailable` instead of failing, and the sources are not read anew for them.
    type: bool
    default: false
author: Stratos testnet authors
"""
EXAMPLES = r"""
- stratos_packages:
    names: [chrony]
    record: /etc/stratos/installed/time.json
"""
RETURN = r"""
installed: {description: Packages that were (or in check mode would be) installed., returned: always, type: list, elements: str}
removed: {description: Packages that were (or would be) purged., returned: always, type: list, elements: str}
unavailable: {description: Packages that no configured source has., returned: always, type: list, elements: str}
"""
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "APT_LISTCHANGES_FRONTEND": "none"}
KEEP = ("-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=120")


class Packages:
    """What apt and dpkg are asked; `run` is AnsibleModule.run_command or something that behaves like it."""

    def __init__(self, run):
        self.run = run

    def missing(self, names):
        """Those of the names that are not installed."""
        _, out, _ = self.run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names])
        there = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
        return [name for name in names if name not in there]

    def unavailable(self, names):
        """Those of the names that no source offers."""
        _, out, _ = self.run(["apt-cache", "policy", *names])
        offered, current = set(), ""
        for line in out.splitlines():
            if line and not line.startswith(" "):
                current = line.rstrip(":")
            elif line.strip().startswith("Candidate:") and "(none)" not in line:
                offered.add(current)
        return [name for name in names if name not in offered]

    def update(self):
        """Read the sources; the words of a failure, or nothing."""
        code, out, error = self.run(["apt-get", "-qq", *KEEP, "update"])
        return (error or out).strip() if code else ""

    def would_install(self, names):
        """Everything that installing the names brings, dependencies too; raises OSError with apt's words."""
        code, out, error = self.run(["apt-get", "--simulate", "--no-install-recommends", "install", *names])
        if code:
            raise OSError((error or out).strip().splitlines()[-1])
        return sorted(
            {line.split()[1] for line in out.splitlines() if line.startswith("Inst ") and "[" not in line.split()[2]}
        )

    def install(self, names):
        """Install; raises OSError with apt's words."""
        self._do("install", "--no-install-recommends", *names)

    def purge(self, names):
        """Remove with settings; raises OSError with apt's words."""
        self._do("purge", *names)

    def _do(self, *arguments):
        code, out, error = self.run(["apt-get", "-qq", "--yes", *KEEP, *arguments])
        if code:
            said = (error or out).strip().splitlines()
            raise OSError(said[-1] if said else f"apt-get {arguments[0]} ended with {code}")


def read_record(path):
    """Packages that came with us."""
    try:
        return sorted(json.loads(path.read_text(encoding="utf-8"))["packages"])
    except FileNotFoundError:
        return []


def write_record(path, packages):
    """Written whole or not at all."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"packages": sorted(packages)}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o644)
    fresh.replace(path)


def present(packages, names, record, *, optional, check):
    """Install what is missing; the module's result."""
    result = {"changed": False, "installed": [], "removed": [], "unavailable": []}
    missing = packages.missing(names)
    if not missing:
        return result
    if check:
        # Sources are not read anew: what they offer today is not known, so what is missing counts as offered unless it may be absent.
        known = [name for name in missing if name not in packages.unavailable(missing)]
        result["unavailable"] = [name for name in missing if name not in known] if optional else []
        result["installed"] = packages.would_install(known) if known else []
        result["installed"] += [name for name in missing if name not in {*known, *result["unavailable"]}]
        result["changed"] = bool(result["installed"])
        return result
    trouble = "" if optional else packages.update()
    result["unavailable"] = packages.unavailable(missing)
    wanted = [name for name in missing if name not in result["unavailable"]]
    if result["unavailable"] and not optional:
        because = f" ({trouble.splitlines()[-1]})" if trouble else ""
        raise OSError(
            f"no package source offers {', '.join(result['unavailable'])}{because}; add one or install it by hand"
        )
    if not wanted:
        return result
    result["installed"] = packages.would_install(wanted)
    result["changed"] = True
    write_record(record, {*read_record(record), *result["installed"]})
    packages.install(wanted)
    return result


def absent(packages, record, *, check):
    """Purge what came with us; the module's result."""
    ours = read_record(record)
    there = [name for name in ours if name not in packages.missing(ours)] if ours else []
    if not check:
        if there:
            packages.purge(there)
        record.unlink(missing_ok=True)
        if record.parent.is_dir() and not any(record.parent.iterdir()):
            record.parent.rmdir()
    return {"changed": bool(ours), "installed": [], "removed": there, "unavailable": []}


def main():
    """Ansible's entry."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "default": []},
            "record": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "optional": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = QUIET
    asked, check = module.params, module.check_mode
    packages, record = Packages(module.run_command), Path(asked["record"])
    try:
        if asked["state"] == "present":
            result = present(packages, asked["names"], record, optional=asked["optional"], check=check)
        else:
            result = absent(packages, record, check=check)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
