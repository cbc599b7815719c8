#!/usr/bin/python
# Copyright the Stratos testnet authors. Licence: Apache-2.0.
"""The nodes' image on the machine, without a registry: there already, or loaded from an archive that was copied.

Called by the action plugin of the same name: first without an archive, to ask; then, when the image is missing, with the
path of the copy. What was loaded stands in /etc/stratos/images.json, newest last, with the id the engine here gave it:
engines that keep images in containerd name them by another digest, so "is it there" is asked by the id of this engine,
while what was wanted is compared by the id of the controller's. An archive counts only if its SHA-256 is the wanted one.

Kept are the wanted image, the one before it (a rollback must not need the network) and what a testnet's record or a
container here still names; older ones of ours go. Images that we did not load are never touched.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.stratos_files import ROOT, PlacingError, make_directory, read_json, write_json
from ansible.module_utils.stratos_system import System, alone

DOCUMENTATION = r"""
module: stratos_image
short_description: Bring the nodes' image to a machine without a registry
description:
  - The action plugin copies O(archive) to the machine only when the image is not there, and never twice.
options:
  bundle: {description: The machine's bundle on the controller; its manifest names the image., type: path}
  archive: {description: Saved image on the controller; gzip or plain tar., type: path}
  state: {description: V(absent) removes every image that was loaded by us and is not in use., type: str, choices: [present, absent], default: present}
  image: {description: Private; name and tag., type: str}
  image_id: {description: Private; id on the controller., type: str}
  loaded_from: {description: Private., type: path}
  sha256: {description: Private., type: str}
author: [Stratos testnet authors]
"""

RETURN = r"""
present: {description: The image is there after the task, type: bool, returned: state is present}
removed: {description: Images that were removed, type: list, returned: always}
"""

RECORD = Path("/etc/stratos/images.json")
STALE_SECONDS = 3600.0


class Images:
    """The images we brought to one machine."""

    def __init__(self, params, *, check, system, record=RECORD):
        self.params, self.check, self.system = params, check, system
        self.record_file = record
        self.loaded = (read_json(record) or {}).get("loaded", [])

    def present(self):
        """Say whether the image is there, load the copied archive, prune; the module's result."""
        image, wanted = self.params["image"], self.params["image_id"]
        local = self._id_of(image)
        there = local is not None and (local == wanted or self._loaded_as(wanted) == local)
        if not there and not self.params["loaded_from"]:
            return {"changed": self.check, "present": False, "removed": []}
        if not there:
            self._remember(
                image, wanted, ""
            )  # a run cut off between loading and writing leaves no image behind for ever
            local = self._load(image, wanted)
        if self._loaded_as(wanted) not in (None, local):
            self._remember(image, wanted, local)
        removed = self._prune(wanted)
        return {"changed": not there or bool(removed), "present": True, "removed": removed}

    def _id_of(self, name):
        code, out, error = self.system.run(["docker", "image", "inspect", "--format", "{{.Id}}", name])
        if code == 0:
            return out.strip()
        if "no such" in error.lower() or (code == 127 and (self.check or self.params["state"] == "absent")):
            return None  # also where a run that is only predicted would install the engine first
        raise PlacingError(f"the container engine does not answer ({error.strip()[-120:]}); see `journalctl -u docker`")

    def _loaded_as(self, wanted):
        return next((one["local_id"] for one in reversed(self.loaded) if one["image_id"] == wanted), None)

    def _load(self, image, wanted):
        archive = Path(self.params["loaded_from"])
        if self.params["sha256"] and _sha256(archive) != self.params["sha256"]:
            raise PlacingError(f"the copy of {image} was damaged on the way; run again")
        code, out, error = self.system.run(["docker", "load", "--input", str(archive)])
        if code:
            said = error.strip().splitlines() or ["no reason given"]
            full = "no space left" in error
            raise PlacingError(
                f"{image} cannot be loaded: {said[-1]}; "
                + ("make room for the engine's data" if full else "build and save it again")
            )
        local = self._id_of(image)
        if local is None:
            raise PlacingError(f"the archive holds {out.strip()[-120:]!r} and not {image}; save the right image")
        if local != wanted and not self._in_containerd():
            raise PlacingError(f"the archive holds another {image} ({local[:19]}, not {wanted[:19]}); save it again")
        return local

    def _in_containerd(self):
        _, out, _ = self.system.run(["docker", "info", "--format", "{{json .DriverStatus}}"])
        return "io.containerd.snapshotter" in out

    def _remember(self, image, wanted, local):
        """Write down what we load; an image that was here before us is none of ours."""
        entry = {"image": image, "image_id": wanted, "local_id": local}
        if self._loaded_as(wanted) is None:
            self.loaded = [*self.loaded, entry]
        else:
            self.loaded = [entry if one["image_id"] == wanted else one for one in self.loaded]
        if not self.check:
            self._write()

    def _prune(self, wanted):
        """Remove ours but the wanted one and the newest other; the names of those that went or would go."""
        return self._remove([one for one in self.loaded if one["image_id"] != wanted][:-1])

    def _remove(self, entries):
        if not entries:
            return []
        used = self._in_use()
        gone = [one for one in entries if not {one["image"], one["image_id"], one["local_id"] or None} & used]
        if self.check or not gone:
            return [one["image"] for one in gone]
        for one in gone:
            tagged = self._id_of(one["image"])
            name = (
                one["image"] if tagged in (one["local_id"], None) else one["local_id"]
            )  # the tag may name a newer one
            code, _, error = self.system.run(["docker", "image", "rm", name]) if name else (0, "", "")
            if code and "no such" not in error.lower():
                raise PlacingError(f"{one['image']} cannot be removed: {error.strip()[-160:]}")
        self.loaded = [one for one in self.loaded if one not in gone]
        self._write()
        return [one["image"] for one in gone]

    def _in_use(self):
        """Images that a testnet's record or a container here names."""
        used = set()
        for path in self.record_file.parent.glob("*/manifest.json"):
            manifest = read_json(path) or {}
            used |= {node.get("image") for node in manifest.get("nodes", ())}
            used |= {manifest.get("image"), manifest.get("image_id")} if manifest.get("nodes") else set()
        code, out, _ = self.system.run(["docker", "ps", "--all", "--no-trunc", "--format", "{{json .}}"])
        for line in out.splitlines() if code == 0 else ():
            used.add(json.loads(line).get("Image"))
        return used

    def absent(self):
        """Remove every image of ours that nothing names; the module's result."""
        removed = self._remove(list(self.loaded))
        if not self.loaded and self.record_file.exists() and not self.check:
            self.record_file.unlink()
        return {"changed": bool(removed), "present": False, "removed": removed}

    def _write(self):
        make_directory(self.record_file.parent, ROOT, 0o755)
        write_json(self.record_file, {"loaded": self.loaded})


def sweep(archive):
    """Remove copies that interrupted runs left beside ours; a young one may be another run's."""
    for path in archive.parent.parent.glob("ansible-tmp-*/stratos-image"):
        if path != archive and time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink()


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def main():
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "path"},
            "image": {"type": "str"},
            "image_id": {"type": "str"},
            "archive": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "loaded_from": {"type": "path"},
            "sha256": {"type": "str"},
        },
        required_if=[("state", "present", ("image", "image_id"))],
        supports_check_mode=True,
    )
    if module.params["loaded_from"]:
        sweep(Path(module.params["loaded_from"]))
    try:
        with alone():
            images = Images(module.params, check=module.check_mode, system=System(module.run_command))
            result = images.present() if module.params["state"] == "present" else images.absent()
    except (PlacingError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
