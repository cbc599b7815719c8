"""Controller's half of `stratos_bundle`: reads the bundle, asks with the manifest, sends what is missing and no more.

A machine that is as it should be costs one call of the module. Only nodes whose files differ travel, inside the
module's input: with pipelining that is the SSH channel itself, so no secret is written anywhere but to its place.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, without the arguments it was called with."""
        super().run(tmp, task_vars)
        arguments = {key: value for key, value in self._task.args.items() if key not in ("manifest", "archive")}
        bundle = Path(arguments["bundle"]) if arguments.get("bundle") else None
        if bundle is not None:
            manifest = arguments["manifest"] = _manifest(bundle)
            arguments.setdefault("testnet", manifest.get("testnet", ""))
            if named := arguments.get("nodes"):
                here = {node["name"] for node in manifest.get("nodes", ())}
                arguments["nodes"] = [name for name in named if name in here]
                if not arguments["nodes"]:
                    return {
                        "changed": False,
                        "skipped": True,
                        "skip_reason": "none of the named nodes is on this machine",
                    }
        elif arguments.get("state", "placed") not in ("stopped", "absent"):
            raise AnsibleActionFail("stratos_bundle needs `bundle` to place nodes; render one with `stratosctl bundle`")
        result = self._call(arguments, task_vars)
        if bundle is not None and result.get("needs"):
            archive = _part_of(bundle, frozenset(result["needs"]), arguments["manifest"])
            result = self._call({**arguments, "archive": archive}, task_vars)
        return result

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="stratos_bundle", module_args=arguments, task_vars=task_vars
        )
        result.pop("invocation", None)
        return result


def _manifest(bundle: Path) -> dict[str, Any]:
    try:
        with tarfile.open(bundle) as tar:
            member = tar.extractfile("manifest.json")
            document: dict[str, Any] = json.loads(member.read()) if member is not None else {}
            return document
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise AnsibleActionFail(
            f"{bundle} is no bundle ({type(error).__name__}: {error}); render it with `stratosctl bundle`"
        ) from None


def _part_of(bundle: Path, names: frozenset[str], manifest: dict[str, Any]) -> str:
    """The homes and units of some nodes as a compressed tar in base64."""
    units = {f"units/{node['unit']}" for node in manifest["nodes"] if node["name"] in names}
    homes = tuple(f"nodes/{name}/" for name in names)
    buffer = io.BytesIO()
    with tarfile.open(bundle) as whole, tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as part:
        for member in whole:
            if member.name in units or member.name.startswith(homes):
                part.addfile(member, whole.extractfile(member))
    return base64.b64encode(buffer.getvalue()).decode()
