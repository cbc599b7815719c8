"""Our bundle module on many machines at once, over the connections that are kept anyway.

Ansible sets machines up, and whoever works by hand places nodes with it. But where a machine only misses files and units, starting
Ansible, logging in again and shipping its machinery to every host costs several times what there is to do. This sends the same
module (`playbooks/library/stratos_bundle.py`, of which there is one) through the channel of one command. As with pipelining, nothing of it
lies on the machine's disk but in its place, and a machine that fails is told with its own sentence.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.fleet.connections import Result, each, run
from orchestrator.fleet.failures import BROKEN, Failure
from orchestrator.fleet.playbook import PLAYBOOKS
from orchestrator.fleet.ssh_route import SshTarget, label

SECONDS = 180.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_HOST = Path(__file__).with_name("module_host.py")
_BEGIN = "import json, sys; parcel = json.load(sys.stdin); exec(compile(parcel['host'], 'module_host', 'exec'))"
_MODULE = "stratos_bundle"
_SHARED = ("stratos_files", "stratos_system")


class Probe(Struct, frozen=True):
    """A program that is run after the module, and its one argument."""

    source: str
    argument: str


class Placed(Struct, frozen=True):
    """What a machine answered: the module's result, and what the probe printed."""

    result: dict[str, Any]
    probed: bytes


def place_bundles(
    bundles: Mapping[str, tuple[SshTarget, Path, Mapping[str, Any]]], probe: Probe
) -> dict[str, Placed | Failure]:
    """Place each machine's bundle (its file and its manifest as a document); machine name -> what came of it."""

    def one(machine: SshTarget) -> Placed:
        _, path, manifest = bundles[machine.name]
        params = {
            "testnet": manifest["testnet"],
            "bundle": str(path),
            "state": "placed",
            "nodes": [],
            "keep_data": False,
            "record_base": False,
            "root": "/",
            "manifest": manifest,
            "archive": base64.b64encode(gzip.compress(path.read_bytes(), 1)).decode(),
        }
        parcel = {**_programs(), "params": params, "probe": probe.source, "probe_argument": probe.argument}
        command = f"python3 -c {shlex.quote(_BEGIN)}"
        return answer(run(machine, command, timeout=SECONDS, sudo=True, stdin=msgspec.json.encode(parcel)))

    outcome = each([machine for machine, _, _ in bundles.values()], one, timeout=SECONDS, what="placing nodes")
    return {name: _judged(bundles[name][0], answer) for name, answer in outcome.items()}


def answer(result: Result) -> Placed:
    """The two parts of what `module_host` printed; a failure of the module is a result with "failed"."""
    first, _, rest = result.stdout.partition(b"\n")
    try:
        if len(result.stdout) > MAX_ANSWER_BYTES:
            raise msgspec.DecodeError(f"{len(result.stdout)} bytes")
        return Placed(msgspec.json.decode(first, type=dict[str, Any]), rest)
    except msgspec.DecodeError as error:
        said = result.said[-200:] or f"exit code {result.code}, {error}"
        return Placed({"failed": f"its answer could not be read ({said})"}, b"")


def _judged(machine: SshTarget, answer: Placed | Failure) -> Placed | Failure:
    if isinstance(answer, Failure) or "failed" not in answer.result:
        return answer
    return Failure(
        machine=label(machine),
        kind=BROKEN,
        reason=f"nodes could not be placed: {answer.result['failed']}",
        fix="mend that and run `up` again",
    )


@cache
def _programs() -> dict[str, Any]:
    """The texts that every machine is sent."""
    shared = [
        (f"ansible.module_utils.{name}", (PLAYBOOKS / "module_utils" / f"{name}.py").read_text()) for name in _SHARED
    ]
    module = (_MODULE, (PLAYBOOKS / "library" / f"{_MODULE}.py").read_text())
    return {"host": _HOST.read_text(), "modules": [*shared, module]}
