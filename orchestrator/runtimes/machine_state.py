"""What machines say of a testnet: one remote command per machine, all at once, typed and bounded before it is believed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.fleet.connections import Result, run_all
from orchestrator.fleet.direct import Probe
from orchestrator.fleet.failures import BROKEN, Failure
from orchestrator.runtimes.bundles import Manifest
from orchestrator.runtimes.protocol import NodeState
from orchestrator.runtimes.units import container_name, unit_name
from orchestrator.topology.machine import Machine

LOOK_SECONDS = 20.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_PROBE = Path(__file__).with_name("machine_probe.py")


class UnitState(Struct, frozen=True, kw_only=True):
    """A unit as systemd sees it."""

    active: str
    sub: str
    result: str
    pid: int
    exit_status: int
    restarts: int
    enabled: bool
    since_ms: int


class MachineState(Struct, frozen=True, kw_only=True):
    """One machine. `placed` and `running` are digests by node: what a start would use, what the last start used."""

    manifest: Manifest | None
    images: dict[str, str]
    units: dict[str, UnitState]
    placed: dict[str, str]
    running: dict[str, str]
    time_ms: int
    paused: tuple[str, ...] = ()
    """Containers that are frozen."""

    def node_names(self) -> list[str]:
        """Nodes that are recorded here."""
        return [node.name for node in self.manifest.nodes] if self.manifest is not None else []


def look(machines: Iterable[Machine], testnet: str, images: Iterable[str] = ()) -> dict[str, MachineState | Failure]:
    """Ask every machine; machine name -> its state, or why there is none. Images are looked up only when they are named."""
    asking = probe(testnet, images)
    answers = run_all(
        machines,
        f"python3 - {shlex.quote(asking.argument)}",
        timeout=LOOK_SECONDS,
        sudo=True,
        stdin=asking.source.encode(),
    )
    return {name: _state(name, answer) for name, answer in answers.items()}


def probe(testnet: str, images: Iterable[str] = ()) -> Probe:
    """The program that a machine runs to tell its state."""
    return Probe(_PROBE.read_text(), json.dumps({"testnet": testnet, "images": sorted(set(images))}))


def read_state(name: str, said: bytes, *, trouble: str = "") -> MachineState | Failure:
    """What a probe printed; `trouble`: why that may be nothing."""
    try:
        if not trouble and len(said) <= MAX_ANSWER_BYTES:
            return msgspec.json.decode(said, type=MachineState)
    except msgspec.DecodeError as error:
        trouble = str(error)
    return Failure(
        machine=name,
        kind=BROKEN,
        reason=f"its state could not be read ({trouble or f'{len(said)} bytes'})",
        fix="check that python3 and systemd work there, then run again",
    )


def _state(name: str, answer: Result | Failure) -> MachineState | Failure:
    if isinstance(answer, Failure):
        return answer
    trouble = "" if answer.code == 0 else answer.said[-200:] or f"exit code {answer.code}"
    return read_state(name, answer.stdout, trouble=trouble)


def node_state(testnet: str, name: str, machine: MachineState) -> NodeState:
    """One node of a machine as the runtimes tell it."""
    unit = machine.units.get(unit_name(testnet, name))
    if unit is None:
        return NodeState(name=name, state="stopped", current=False)
    words = {"active": "running", "activating": "waiting", "deactivating": "stopping", "failed": "failed"}
    state = words.get(unit.active, "stopped")
    alive = unit.active in ("active", "deactivating") and unit.pid > 0
    digest = machine.running.get(name, "")
    if alive and container_name(testnet, name) in machine.paused:
        state = "paused"
    ended = f"exit code {unit.exit_status}" if unit.exit_status and not alive else ""
    return NodeState(
        name=name,
        state=state,
        current=alive and digest != "" and digest == machine.placed.get(name),
        pid=unit.pid if alive else 0,
        since_ms=unit.since_ms if alive else 0,
        restarts=unit.restarts,
        last_exit=ended,
    )
