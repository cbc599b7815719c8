"""The ticket's factor decides what is asked of the machine, and each verdict ends as it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault, VerdictFailed
from orchestrator.joining import measuring
from orchestrator.preflight.judge import Line, worst
from orchestrator.preflight.run import MachineReport, PreflightReport
from orchestrator.topology.topology import Topology
from tests.unit.orchestrator.joining.conftest import Issue
from tests.unit.orchestrator.plan.conftest import topology


def line(check: str, verdict: str) -> Line:
    return Line(machine="mine", check=check, measured="2", wanted="at least 8", verdict=verdict, fix="take another")


def measured(monkeypatch: pytest.MonkeyPatch, issue: Issue, *lines: Line, factor: float = 1.0) -> tuple[str, ...]:
    """Judge a machine of which the measurement says this."""

    def preflight(asked: Topology, **_options: object) -> PreflightReport:
        assert asked.hardware_factor == factor
        machine = MachineReport(name="m", host="mine", nodes=("mine",), verdict=worst(lines), lines=lines, seconds=0)
        return PreflightReport(testnet="net", factor=factor, verdict=machine.verdict, machines=(machine,), seconds=0)

    monkeypatch.setattr(measuring, "preflight", preflight)
    ticket = issue(tier=2, hardware_factor=factor)
    return measuring.measure_machine(topology(), ticket, Path("/tmp"), lambda _text: None)


def test_what_fails_is_a_verdict_with_its_fix(monkeypatch: pytest.MonkeyPatch, issue: Issue) -> None:
    """Named with tier and role, and every failed line."""
    with pytest.raises(VerdictFailed, match=r"tier 2 of role resource asks for: mine: cores.* 2, .*take another"):
        measured(monkeypatch, issue, line("cores", "fail"), line("memory", "pass"))


def test_a_machine_out_of_reach_is_no_verdict(monkeypatch: pytest.MonkeyPatch, issue: Issue) -> None:
    """Nothing was measured, so nothing is said about tier or role."""
    with pytest.raises(EnvironmentFault, match="could not be measured"):
        measured(monkeypatch, issue, line("connection", "fail"))


def test_the_coordinators_factor_counts(monkeypatch: pytest.MonkeyPatch, issue: Issue) -> None:
    """Not what the participant's inventory says; warnings are passed on."""
    [note] = measured(monkeypatch, issue, line("address", "warn"), line("cores", "pass"), factor=0.25)
    assert note.startswith("warning: mine: address")
