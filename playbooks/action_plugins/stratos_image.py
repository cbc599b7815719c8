"""Controller's half of `stratos_image`: asks whether the image is there, and copies the archive only when it is not.

One call of the module where the image is; never a second copy. What is copied is verified by SHA-256 on the machine and
removed with the task's temporary folder.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_INDEXES = frozenset({"manifest.json", "index.json"})


class ActionModule(ActionBase):
    TRANSFERS_FILES = False  # only when the image is missing: then the folder is made by hand
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if key not in ("loaded_from", "sha256")}
        if arguments.get("state", "present") == "present":
            arguments.update(_wanted(arguments.get("bundle")))
        result = self._call(arguments, task_vars)
        if result.get("failed") or result.get("present") or arguments.get("state", "present") == "absent":
            return result
        if self._task.check_mode:
            return {**result, "msg": f"{arguments['image']} would be copied and loaded"}
        archive = Path(arguments.get("archive") or "")
        if not archive.is_file():
            raise AnsibleActionFail(
                f"{arguments['image']} is not on the machine and there is no archive {arguments.get('archive')} to bring it; "
                "make one with `stratosctl image save`"
            )
        _check(archive, arguments["image"], arguments["image_id"])
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        folder = self._make_tmp_path()
        try:
            copy = self._connection._shell.join_path(folder, "stratos-image")
            self._transfer_file(str(archive), copy)
            return self._call({**arguments, "loaded_from": copy, "sha256": digest}, task_vars)
        finally:
            self._remove_tmp_path(folder, force=True)

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="stratos_image", module_args=arguments, task_vars=task_vars
        )
        result.pop("invocation", None)
        return result


def _wanted(bundle: str | None) -> dict[str, str]:
    """Name and id of the image that a bundle's manifest asks for."""
    try:
        with tarfile.open(bundle) as tar:
            member = tar.extractfile("manifest.json")
            manifest = json.loads(member.read()) if member is not None else {}
        return {"image": manifest["image"], "image_id": manifest["image_id"]}
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise AnsibleActionFail(
            f"{bundle} is no bundle ({type(error).__name__}: {error}); render it with `stratosctl bundle`"
        ) from None


def _check(archive: Path, image: str, image_id: str) -> None:
    """Refuse an archive that holds another image before it is copied anywhere.

    An id is the digest of the image's config, or, where the engine keeps images in containerd, of its manifest.
    """
    try:
        with tarfile.open(archive) as tar:
            found = {name: json.loads(tar.extractfile(name).read()) for name in _INDEXES & set(tar.getnames())}  # type: ignore[union-attr]
    except (OSError, ValueError, tarfile.TarError) as error:
        raise AnsibleActionFail(
            f"{archive} is no saved image ({error}); make it with `stratosctl image save`"
        ) from None
    ids = {f"sha256:{Path(one['Config']).name.removesuffix('.json')}" for one in found.get("manifest.json", ())}
    ids |= {one["digest"] for one in found.get("index.json", {}).get("manifests", ())}
    if image_id not in ids:
        raise AnsibleActionFail(
            f"{archive} holds {', '.join(sorted(one[:19] for one in ids)) or 'no image'} and not {image} ({image_id[:19]}); "
            "save it again with `stratosctl image save`"
        )
