#!/usr/bin/python
# Copyright the Stratos testnet authors. Licence: Apache-2.0.
"""Brings one machine to what its bundle says: homes, units, and nodes running or not.

Called by the action plugin of the same name, at most twice, or by `stratosctl` over SSH without Ansible (`act`), with everything. The first call carries the manifest only (digests), looks
at what is there and, when all of it is right, that was the task. Otherwise it answers which nodes it needs, and the
second call carries exactly those, inline: with pipelining nothing secret ever lies on the target but in its place.

What must stay true: the record (/etc/stratos/TESTNET/manifest.json) names a node's files as placed only after they
are; a home is the first thing made and the last removed. So wherever a run is interrupted, the next one sees what is
missing, and `absent` finds everything. Nothing is believed of the record that can be looked at: files are hashed,
units asked of systemd. In check mode the same code decides and nothing is done.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stratos_files import (
    ROOT,
    Owner,
    PlacingError,
    checked,
    digest_of,
    make_directory,
    place,
    read_json,
    remove,
    take_over,
    write_json,
)
from ansible.module_utils.stratos_system import UID, System, alone

DOCUMENTATION = r"""
module: stratos_bundle
short_description: Bring a machine to what its bundle says
description:
  - Places homes and units of the nodes of one machine, removes nodes that should go, and starts, restarts or stops them.
  - Use O(bundle); the action plugin reads it on the controller and fills in the other private options.
options:
  testnet: {description: Name of the testnet; needed where there is no O(bundle)., type: str}
  bundle: {description: The machine's bundle on the controller; needed unless nodes only stop or go., type: path}
  state:
    description:
      - V(placed) touches no running node; V(started) also starts nodes that do not run; V(restarted) also restarts those
        that run with other files than the placed ones; V(stopped) places nothing; V(absent) removes.
    type: str
    choices: [placed, started, restarted, stopped, absent]
    default: placed
  nodes: {description: Only these nodes; empty means all of the machine., type: list, elements: str, default: []}
  keep_data: {description: Leave homes behind when nodes go., type: bool, default: false}
  record_base: {description: The manifest's base settings are in force now., type: bool, default: false}
  root: {description: Where the machine's files begin., type: path, default: /}
  manifest: {description: Private., type: dict}
  archive: {description: Private., type: str}
author: [Stratos testnet authors]
"""

RETURN = r"""
nodes: {description: What changed or would change, by node, type: dict, returned: always}
running: {description: Nodes that run after the task, type: list, returned: always}
outdated: {description: Nodes that run with other files than the placed ones, type: list, returned: always}
needs: {description: Private; nodes whose files the module must be given, type: list, returned: always}
last: {description: No testnet is left on the machine, type: bool, returned: state is absent}
"""

STATES = ("placed", "started", "restarted", "stopped", "absent")
RUNNING = ("active", "activating", "reloading")
FILE_MODE, HOME_MODE, OPEN_MODE = 0o600, 0o700, 0o755


class Machine:
    """One machine's part of one testnet: what is there, what should be, and the steps between."""

    def __init__(self, params, *, check, system):
        self.params, self.check, self.system = params, check, system
        self.testnet, self.state = params["testnet"], params["state"]
        root = Path(params["root"])
        self.records = root / "etc/stratos"
        self.record_file = self.records / checked(self.testnet) / "manifest.json"
        self.folder = root / "var/lib/stratos" / self.testnet
        self.started = root / "run/stratos" / self.testnet
        self.units = root / "etc/systemd/system"
        self.owner = Owner(UID, UID)
        self.record = read_json(self.record_file) or {}
        self.placed = {node["name"]: node for node in self.record.get("nodes", ())}
        self.wanted = {node["name"]: node for node in (params["manifest"] or {}).get("nodes", ())}
        self.content = _unpacked(params["archive"])
        self.changes = {}
        self.reload = False

    def run(self):
        """Do it; the module's result."""
        wish = self.params["manifest"] or {}
        if wish and (wish.get("version"), wish.get("testnet")) != (1, self.testnet):
            found = f"testnet {wish.get('testnet')!r}, version {wish.get('version')!r}"
            raise PlacingError(f"the bundle is of {found}, not of testnet {self.testnet!r}, version 1; render it again")
        present = self.state not in ("stopped", "absent")
        scope = self._scope(self.wanted if present else self._known())
        needs = [name for name in scope if self._needs(name)] if present else []
        if needs and not self.check and not self.content:
            return {"changed": False, "needs": needs, "nodes": {}, "running": [], "outdated": []}
        running, outdated = [], []
        self._remove(leaving := scope if self.state == "absent" else self._leaving(wish))
        if present:
            if not self.record and not self.check:  # from now on a destroy knows that there is a testnet here
                self._write_record(wish, [], [])
            if scope and not self.system.has_user():
                self._note("machine", "user made", self._make_user)
            fresh = [name for name in scope if self._place(name)]
            shown = self._loaded_units(scope)
            self._enable(fresh if self.state == "placed" else scope, shown)
            running, outdated = self._control(scope, shown)
        elif self.state == "stopped":
            running, outdated = self._control(scope, self.system.units([self._unit(name) for name in scope]))
        if self.state != "stopped":
            self._write_record(wish, scope if present else [], leaving)
        result = {
            "changed": bool(self.changes),
            "needs": [],
            "nodes": self.changes,
            "running": running,
            "outdated": outdated,
        }
        if self.state == "absent":
            result["last"] = self._leave_machine(leaving)
        lines = [f"{name}: {what}\n" for name, listed in sorted(self.changes.items()) for what in listed]
        return dict(result, diff={"prepared": "".join(lines)})

    def _scope(self, names):
        unknown = [name for name in self.params["nodes"] if name not in names]
        if unknown and self.state != "absent":
            raise PlacingError(f"no node {', '.join(unknown)} of testnet {self.testnet} is on this machine")
        return [name for name in names if not self.params["nodes"] or name in self.params["nodes"]]

    def _leaving(self, wish):
        """Nodes that should go; work on some nodes only removes none."""
        if self.params["nodes"] or self.state == "stopped":
            return []
        return [name for name in wish.get("removed", ()) if name in self._known() and name not in self.wanted]

    def _known(self):
        """Every node of which something may be here, also after a run that wrote no record."""
        homes = [home.name for home in self.folder.iterdir()] if self.folder.is_dir() else []
        return dict.fromkeys([*self.placed, *sorted(homes)])

    def _unit(self, name):
        return f"stratos-{self.testnet}-{name}.service"

    def _note(self, name, what, step=None, *arguments):
        """Say what changes and, outside of check mode, do it."""
        self.changes.setdefault(name, []).append(what)
        if step is not None and not self.check:
            step(*arguments)

    # What should be there

    def _state_of_files(self, name):
        """(path, digest is right, owner and mode are right) for each file of a node's home."""
        for relative, wanted in sorted(self.wanted[name]["files"].items()):
            digest, held = digest_of(self.folder / name, relative, self.owner, FILE_MODE)
            yield relative, digest == wanted, held

    def _unit_is_right(self, name):
        digest, held = digest_of(self.units, self._unit(name), ROOT, 0o644)
        return digest == self.wanted[name]["unit_sha256"], held

    def _needs(self, name):
        return not all(same for _, same, _ in self._state_of_files(name)) or not self._unit_is_right(name)[0]

    def _make_user(self):
        """The record comes before the fact: a run killed between is tidied all the same."""
        write_json(self.records / "user.json", {"made": True})
        self.system.make_user()

    def _place(self, name):
        """Place a node's home, unit and digest; True when it was not on the machine before."""
        node, home = self.wanted[name], self.folder / name
        fresh = name not in self.placed
        if not self.check:
            for folder in (self.folder.parent, self.folder):
                make_directory(folder, ROOT, OPEN_MODE)
        if (self.check and not home.is_dir()) or (not self.check and make_directory(home, self.owner, HOME_MODE)):
            self._note(name, "home")
        for relative, same, held in self._state_of_files(name):
            if not same:
                self._note(name, relative, self._place_file, name, relative)
            elif not held:
                self._note(name, relative + " owner", take_over, home, relative, self.owner, FILE_MODE)
        for relative in sorted(set(self.placed.get(name, {}).get("files", ())) - set(node["files"])):
            if digest_of(home, relative, self.owner, FILE_MODE)[0]:
                self._note(name, relative + " removed", remove, home, relative)
        same, held = self._unit_is_right(name)
        if not same:
            self.reload = True
            self._note(name, "unit", self._place_unit, name)
        elif not held:
            self._note(name, "unit owner", take_over, self.units, self._unit(name), ROOT, 0o644)
        digest = (node["digest"] + "\n").encode()
        right = (hashlib.sha256(digest).hexdigest(), True)
        if digest_of(self.record_file.parent, name + ".digest", ROOT, 0o644) != right:
            self._note(name, "digest", place, self.record_file.parent, name + ".digest", digest, ROOT, 0o644)
        return fresh

    def _place_file(self, name, relative):
        content = self._given(f"nodes/{name}/{relative}", self.wanted[name]["files"][relative])
        place(self.folder / name, relative, content, self.owner, FILE_MODE)

    def _place_unit(self, name):
        content = self._given("units/" + self._unit(name), self.wanted[name]["unit_sha256"])
        place(self.units, self._unit(name), content, ROOT, 0o644)

    def _given(self, member, digest):
        content = self.content.get(member)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise PlacingError(
                f"{member} of the bundle is missing or not what its manifest says; render the bundle again"
            )
        return content

    def _loaded_units(self, names):
        """What systemd knows, after it read the files again if it has to: also when an earlier run was interrupted
        between writing a unit and saying so."""
        units = [self._unit(name) for name in names]
        shown = self.system.units(units)
        if self.check or not (self.reload or any(one.get("NeedDaemonReload") == "yes" for one in shown.values())):
            return shown
        self.system.systemctl("daemon-reload", [])
        return self.system.units(units)

    def _enable(self, names, shown):
        off = [name for name in names if shown[self._unit(name)].get("UnitFileState") != "enabled"]
        for name in off:
            self._note(name, "enabled")
        if not self.check:
            self.system.systemctl("enable", [self._unit(name) for name in off])

    # Running or not

    def _control(self, scope, shown):
        """Start, restart or stop; (nodes running, nodes running with other files than placed) afterwards."""
        active = [name for name in scope if shown[self._unit(name)].get("ActiveState") in RUNNING]
        outdated = [name for name in active if self._is_outdated(name)]
        if self.state in ("started", "restarted"):
            self._systemctl("start", "started", [name for name in scope if name not in active])
            active = list(scope)
        if self.state == "restarted":
            self._systemctl("restart", "restarted", outdated)
            outdated = []
        if self.state == "stopped":
            self._systemctl("stop", "stopped", active)
            on = [name for name in scope if shown[self._unit(name)].get("UnitFileState") == "enabled"]
            self._systemctl("disable", "disabled", on)
            active = []
        return active, outdated

    def _systemctl(self, verb, word, names):
        for name in names:
            self._note(name, word)
        if not self.check:
            self.system.systemctl(verb, [self._unit(name) for name in names])

    def _is_outdated(self, name):
        """It was started with another digest than the placed one, or nobody can say with which."""
        if name not in self.wanted:
            return False
        try:
            return (self.started / (name + ".digest")).read_text().strip() != self.wanted[name]["digest"]
        except OSError:
            return True

    # What should go

    def _remove(self, names):
        shown = self.system.units([self._unit(name) for name in names])
        loaded = [unit for unit, one in shown.items() if one.get("LoadState") not in (None, "not-found")]
        units = [n for n in names if self._unit(n) in loaded or os.path.lexists(self.units / self._unit(n))]
        for name in units:
            self._note(name, "unit removed")
        if units and not self.check:
            listed = [self._unit(name) for name in units]
            self.system.systemctl("stop", loaded)
            self.system.systemctl("disable", [unit for unit in loaded if shown[unit].get("UnitFileState") == "enabled"])
            for name in units:
                self.system.remove_container(f"stratos-{self.testnet}-{name}")
                remove(self.units, self._unit(name))
            self.system.systemctl("daemon-reload", [])
            self.system.run(["systemctl", "reset-failed", *listed])  # fails for units that did not fail
        for name in names:
            for path in (self.record_file.parent / (name + ".digest"), self.started / (name + ".digest")):
                if path.exists():
                    self._note(name, "digest removed", os.unlink, path)
            home = self.folder / name
            if os.path.lexists(home) and not self.params["keep_data"]:
                plain = home.is_dir() and not home.is_symlink()
                self._note(name, "home removed", shutil.rmtree if plain else os.unlink, home)

    def _leave_machine(self, gone):
        """Whether no testnet is left here; then the user goes too, unless data is kept."""
        if not self.check:
            for folder in (self.started, self.started.parent, self.folder, self.folder.parent, self.record_file.parent):
                _remove_if_empty(folder)
        others = [path for path in self.records.glob("*/manifest.json") if path != self.record_file]
        if others or set(self.placed) - set(gone):
            return False
        homes = self.folder.parent
        kept = homes.is_dir() and (self.params["keep_data"] or any(one != self.folder for one in homes.iterdir()))
        marker = self.records / "user.json"
        if marker.exists() and not kept:
            if self.system.has_user():
                self._note("machine", "user removed", self.system.remove_user)
            if not self.check:
                os.unlink(marker)
        return True

    def _write_record(self, wish, placed, gone):
        nodes = {**self.placed, **{name: self.wanted[name] for name in placed}}
        order = [*(name for name in self.wanted if name in nodes), *(name for name in nodes if name not in self.wanted)]
        nodes = [nodes[name] for name in order if name not in gone]
        record = {key: wish.get(key, self.record.get(key)) for key in ("version", "testnet", "image", "image_id")}
        base = wish.get("base", "") if self.params["record_base"] else self.record.get("base", "")
        record = dict(record, base=base, nodes=nodes, removed=[])
        if self.check:
            return
        if self.state == "absent" and not nodes:
            if self.record_file.exists():
                os.unlink(self.record_file)
        elif record != self.record:
            make_directory(self.records, ROOT, OPEN_MODE)
            make_directory(self.record_file.parent, ROOT, OPEN_MODE)
            write_json(self.record_file, record)


def _unpacked(archive):
    """Contents by member name of an inline tar; {} without one."""
    if not archive:
        return {}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive)), mode="r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def _remove_if_empty(folder):
    try:
        folder.rmdir()
    except OSError:
        pass  # not there, or something is still in it


def act(params, *, check, run_command):
    """The result for complete parameters; raises PlacingError or OSError. Also called where there is no Ansible (fleet/direct.py)."""
    with alone():
        return Machine(params, check=check, system=System(run_command)).run()


def main():
    module = AnsibleModule(
        argument_spec={
            "testnet": {"type": "str", "required": True},
            "bundle": {"type": "path"},
            "state": {"type": "str", "choices": list(STATES), "default": "placed"},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "keep_data": {"type": "bool", "default": False},
            "record_base": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/"},
            "manifest": {"type": "dict"},
            "archive": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        result = act(module.params, check=module.check_mode, run_command=module.run_command)
    except (PlacingError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
