"""What a machine says of its units, as the runtimes tell it."""

from __future__ import annotations

import json

import pytest
from msgspec import structs

from orchestrator.fleet.connections import Result
from orchestrator.fleet.failures import Failure
from orchestrator.runtimes import machine_state
from orchestrator.runtimes.machine_state import MachineState, UnitState, node_state

UNIT = UnitState(
    active="active", sub="running", result="success", pid=7, exit_status=0, restarts=2, enabled=True, since_ms=5
)


def machine(unit: UnitState | None = UNIT, *, placed: str = "d1", running: str = "d1") -> MachineState:
    """A machine with node `r1` of testnet `net`."""
    return MachineState(
        manifest=None,
        images={},
        units={} if unit is None else {"stratos-net-r1.service": unit},
        placed={"r1": placed},
        running={"r1": running},
        time_ms=0,
    )


def test_a_unit_that_runs_what_is_placed_is_current() -> None:
    """The digest of the last start is compared with the digest of a start now."""
    found = node_state("net", "r1", machine())
    assert (found.state, found.current, found.pid, found.restarts) == ("running", True, 7, 2)
    assert not node_state("net", "r1", machine(placed="d2")).current


def test_a_unit_without_a_start_record_is_not_current() -> None:
    """Two missing digests are no proof of anything."""
    assert not node_state("net", "r1", machine(placed="", running="")).current


@pytest.mark.parametrize(("active", "word"), [("activating", "waiting"), ("failed", "failed"), ("inactive", "stopped")])
def test_a_unit_that_does_not_run_has_no_pid(active: str, word: str) -> None:
    """systemd's words become the runtimes' words, and its exit code is told."""
    unit = structs.replace(UNIT, active=active, pid=0, exit_status=3)
    found = node_state("net", "r1", machine(unit))
    assert (found.state, found.pid, found.last_exit) == (word, 0, "exit code 3")


def test_a_node_without_a_unit_is_stopped() -> None:
    """What was never placed does not run."""
    assert node_state("net", "r1", machine(None)).state == "stopped"


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"units": 3}', json.dumps({"manifest": {"version": 9}}).encode()])
def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    """Nothing that a machine prints is believed before it has been decoded as what was asked for."""
    result = Result(machine="h", command="", code=0, stdout=answer, stderr=b"", seconds=0.0)
    found = machine_state._state("h", result)
    assert isinstance(found, Failure) and found.sentence.startswith("h: its state could not be read")
