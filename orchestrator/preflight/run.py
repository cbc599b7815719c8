"""Preflight of a whole topology: every machine measured at once, then the network between them, then judged.

Nothing is changed anywhere: probes live in memory and end with their sessions. First each machine measures itself; then every machine binds its nodes'
ports and the controller (or, where it cannot reach, another machine) connects; bandwidth is measured four machines at a time, and those that
came out too slow once more alone, because sharing the controller's link must not fail a machine. A machine that is unreachable is
a failed line like any other, so that the report always covers the whole inventory.
"""

from __future__ import annotations

import functools
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from orchestrator.fleet.connections import each
from orchestrator.fleet.failures import Failure, HostFailed
from orchestrator.fleet.ssh_route import label
from orchestrator.fleet.sudo_passwords import use_inventory
from orchestrator.plan.ports import PortMap, SlotRequest, assign_slots
from orchestrator.preflight import bandwidth, probe
from orchestrator.preflight.bandwidth import Pace, Place
from orchestrator.preflight.clock import estimate
from orchestrator.preflight.judge import FAIL, WARN, Line, Setting, judge, worst
from orchestrator.preflight.measurements import Clock, Findings, Measured, Port, Rate, read_measured
from orchestrator.preflight.requirements import Duty, needs_of_machine
from orchestrator.preflight.session import ProbeRefused, ProbeSession
from orchestrator.topology.machine import Machine
from orchestrator.topology.topology import MACHINES, Topology

MEASURE_SECONDS = 60.0
NETWORK_SECONDS = 40.0
CLOCK_SAMPLES = 12
KNOCK_SECONDS = 3.0
TOGETHER = 4
ENFORCE, JUST_WARN, OFF = "enforce", "warn", "off"


class MachineReport(Struct, frozen=True, kw_only=True):
    """One machine's verdict. `name` is the machine's, `host` its first inventory name, `nodes` what it is to carry."""

    name: str
    host: str
    nodes: tuple[str, ...]
    verdict: str
    lines: tuple[Line, ...]
    seconds: float


class PreflightReport(Struct, frozen=True, kw_only=True):
    """All machines; `verdict` is the worst of theirs."""

    testnet: str
    factor: float
    verdict: str
    machines: tuple[MachineReport, ...]
    seconds: float

    def failed(self) -> tuple[MachineReport, ...]:
        """The machines that may not be provisioned."""
        return tuple(machine for machine in self.machines if machine.verdict == FAIL)

    def failures(self) -> dict[str, str]:
        """Machine name -> the sentences of its failed lines."""
        return {
            machine.name: ". ".join(line.sentence for line in machine.lines if line.verdict == FAIL)
            for machine in self.failed()
        }


def policy_of(topology: Topology) -> str:
    """enforce, warn or off."""
    return topology.preflight or (ENFORCE if topology.runtime == MACHINES else OFF)


def duties_of(topology: Topology, known: PortMap | None = None) -> dict[str, tuple[Duty, ...]]:
    """Machine name -> the nodes it is to carry; ports only where nodes have the machine's own."""
    on_machines = topology.runtime == MACHINES
    requests = [SlotRequest(node.name, node.role, node.machine, node.port_slot) for node in topology.nodes]
    ports = assign_slots(known or PortMap(), requests) if on_machines else PortMap()
    found: dict[str, list[Duty]] = {machine.name: [] for machine in _machines(topology)}
    for node in topology.nodes:
        numbers = ports.ports_of(node.name, node.role) if on_machines else None
        duty = Duty(
            name=node.name,
            role=node.role,
            tier=node.tier,
            offered_bytes=node.disk_bytes,
            ports=tuple(sorted({numbers.p2p, numbers.http, numbers.bulk} - {0})) if numbers else (),
        )
        found[node.machine if on_machines else HERE.name].append(duty)
    return {name: tuple(duties) for name, duties in found.items()}


HERE = Machine(name="localhost", address="127.0.0.1", connection="local", hosts=("localhost",), groups=(), become=False)
"""This machine, which carries every process and container."""


def _machines(topology: Topology) -> tuple[Machine, ...]:
    return topology.machines if topology.runtime == MACHINES else (HERE,)


def preflight(
    topology: Topology,
    *,
    say: Callable[[str], None] = lambda _text: None,
    quick: bool = False,
    limit: Iterable[str] = (),
    known: PortMap | None = None,
    folder: str = "/var/lib/stratos",
) -> PreflightReport:
    """Measure and judge every machine (or those with a host in `limit`). `known` are ports of an earlier plan, `folder` where data goes."""
    began = time.monotonic()
    use_inventory(topology.source)
    wanted = set(limit)
    chosen = [one for one in _machines(topology) if not wanted or wanted & {one.name, *one.hosts}]
    duties = duties_of(topology, known)
    network = topology.runtime == MACHINES
    setting = Setting(
        factor=topology.hardware_factor,
        machines=len(_machines(topology)),
        engine=topology.runtime != "process",
        network=network,
    )
    reach = {node.machine: node.address for node in reversed(topology.nodes)} if network else {}
    visits = [
        _Visit(machine, duties[machine.name], topology, reach.get(machine.name, ""), quick, folder)
        for machine in chosen
    ]
    try:
        say(f"measuring {len(visits)} machine{'s' if len(visits) != 1 else ''}")
        _together(visits, _Visit.measure_itself, MEASURE_SECONDS, say)
        there = [visit for visit in visits if visit.failure is None]
        if network and there:
            say("measuring the network between them")
            _together(there, _Visit.bind_ports, NETWORK_SECONDS, say)
            _network(there, quick, say)
    finally:
        for visit in visits:
            visit.end()
    reports = _own_clock_wrong([visit.report(setting) for visit in visits], visits)
    return PreflightReport(
        testnet=topology.name,
        factor=topology.hardware_factor,
        verdict=worst([line for report in reports for line in report.lines]),
        machines=tuple(reports),
        seconds=round(time.monotonic() - began, 2),
    )


class _Visit:
    """One machine while it is examined: its session and what was found so far."""

    def __init__(
        self, machine: Machine, duties: tuple[Duty, ...], topology: Topology, reach: str, quick: bool, folder: str
    ) -> None:
        self.machine = machine
        self.name = machine.name
        self.duties = duties
        self.session = ProbeSession(machine)
        self.failure: Failure | None = None
        self.place = Place(address=reach or machine.address, port=0, token=secrets.token_hex(16))
        self.needs = needs_of_machine(duties, topology.hardware_factor)
        self.rates: tuple[Rate | None, Rate | None, str] = (None, None, "")
        self._quick, self._folder, self._testnet = quick, folder, topology.name
        self._measured = Measured()
        self._clock: Clock | None = None
        self._ports: dict[int, Port] = {}
        self._notes: dict[str, str] = {}
        self._began = time.monotonic()
        self._seconds = 0.0

    def measure_itself(self) -> None:
        self.session.start(become=self.machine.become)
        self._clock = estimate(self.session.sample_clock(CLOCK_SAMPLES))
        answer = self.session.ask(
            "measure", timeout=MEASURE_SECONDS, folder=self._folder, quick=self._quick, testnet=self._testnet
        )
        self._measured = read_measured(answer)

    def bind_ports(self) -> None:
        node_of = {port: duty.name for duty in self.duties for port in duty.ports}
        answer = self.session.ask("hold", token=self.place.token, ports=[*sorted(node_of), 0] if node_of else [])
        bound, taken = [int(port) for port in answer["bound"]], dict(answer["taken"])
        for number, node in node_of.items():
            if number in bound:
                self._ports[number] = Port(number=number, node=node, state="bound")
            elif node in self._measured.ours:
                self._ports[number] = Port(number=number, node=node, state="ours")
            else:
                by = str(taken.get(str(number), ""))[:100]
                self._ports[number] = Port(number=number, node=node, state="taken", by=by)

    def to_knock(self) -> list[int]:
        """Ports that wait for somebody to connect."""
        return [number for number, port in self._ports.items() if port.state == "bound"]

    def knock(self, by: ProbeSession | None) -> None:
        """Let the controller (None) or another machine connect to every bound port that nobody has reached."""
        seen_from = "the controller" if by is None else label(by.machine)
        for number in self.to_knock():
            port = self._ports[number]
            try:
                if by is None:
                    probe.knock(self.place.address, number, self.place.token, seconds=KNOCK_SECONDS)
                else:
                    by.ask("knock", timeout=10, host=self.place.address, port=number, token=self.place.token)
            except (OSError, ValueError, HostFailed, ProbeRefused) as error:
                problem = str(getattr(error, "strerror", None) or error)[:80]
                tried = f"{port.seen_from} and {seen_from}" if port.seen_from else seen_from
                self._ports[number] = msgspec.structs.replace(port, seen_from=tried, problem=problem)
                continue
            self._ports[number] = msgspec.structs.replace(port, state="open", seen_from=seen_from, problem="")
            self.place = msgspec.structs.replace(self.place, port=self.place.port or number)

    def measure_bandwidth(self, peers: Sequence[ProbeSession], quick: bool) -> None:
        seconds = bandwidth.SECONDS_QUICK if quick else bandwidth.SECONDS
        pace = Pace(up_mbit=self.needs.up_mbit, down_mbit=self.needs.down_mbit, seconds=seconds)
        self.rates = bandwidth.measure(self.session, self.place, pace, peers=peers)

    def fast_enough(self) -> bool:
        up, down, _ = self.rates
        wanted = ((up, self.needs.up_mbit), (down, self.needs.down_mbit))
        return all(rate is not None and rate.mbit >= need for rate, need in wanted)

    def end(self) -> None:
        self._seconds = self._seconds or time.monotonic() - self._began
        threading.Thread(target=self.session.close, daemon=True).start()  # a dead link must not hold up the report

    def report(self, setting: Setting) -> MachineReport:
        lines: tuple[Line, ...]
        if self.failure is not None:
            lines = (_unreachable(self.failure),)
        else:
            setting = msgspec.structs.replace(setting, becomes=self.machine.become)
            lines = judge(label(self.machine), self._findings(), self.duties, setting)
        return MachineReport(
            name=self.name,
            host=label(self.machine),
            nodes=tuple(duty.name for duty in self.duties),
            verdict=worst(lines),
            lines=lines,
            seconds=round(self._seconds, 2),
        )

    def clock(self) -> Clock | None:
        return self._clock

    def _findings(self) -> Findings:
        up, down, why = self.rates
        notes = {"bandwidth up": why, "bandwidth down": why} if why else {}
        ports = [
            msgspec.structs.replace(port, state="closed" if port.seen_from else "unknown")
            if port.state == "bound"
            else port
            for _, port in sorted(self._ports.items())
        ]
        return Findings(
            measured=self._measured,
            clock=self._clock,
            up=up,
            down=down,
            ports=tuple(ports),
            sudo_problem=self.session.sudo_problem,
            address=self.place.address,
            dialled=_dialled(self.place.address),
            notes=notes,
        )


def _network(visits: Sequence[_Visit], quick: bool, say: Callable[[str], None]) -> None:
    _together(visits, lambda visit: visit.knock(None), NETWORK_SECONDS, say)
    for number, visit in enumerate(visits):
        if visit.to_knock() and len(visits) > 1:  # the controller may be where the network's firewalls do not let it in
            visit.knock(visits[(number + 1) % len(visits)].session)
    loaded = [visit for visit in visits if visit.duties]
    for first in range(0, len(loaded), TOGETHER):
        group = loaded[first : first + TOGETHER]
        _together(group, lambda visit: visit.measure_bandwidth((), quick), NETWORK_SECONDS, say)
    for visit in loaded:
        if not visit.fast_enough() and visit.failure is None:
            at = visits.index(visit)
            others = [*visits[at + 1 :], *visits[:at]]
            peers = [other.session for other in others if other.failure is None]
            _together(
                [visit], functools.partial(_Visit.measure_bandwidth, peers=peers, quick=quick), NETWORK_SECONDS, say
            )


def _together(
    visits: Sequence[_Visit], work: Callable[[_Visit], None], seconds: float, say: Callable[[str], None]
) -> None:
    """`work` for all at once; a machine that fails keeps its first failure and is not asked again."""
    by_name = {visit.name: visit for visit in visits if visit.failure is None}
    found = each(
        [visit.machine for visit in by_name.values()],
        lambda machine: work(by_name[machine.name]),
        timeout=seconds,
        say=say,
        what="preflight",
    )
    for name, outcome in found.items():
        if isinstance(outcome, Failure):
            by_name[name].failure = outcome


def _unreachable(failure: Failure) -> Line:
    wanted = "an answer over SSH"
    return Line(
        machine=failure.machine,
        check="connection",
        measured=f"{failure.kind.replace('_', ' ')}: {failure.reason}",
        wanted=wanted,
        verdict=FAIL,
        fix=failure.fix,
    )


def _own_clock_wrong(reports: list[MachineReport], visits: Sequence[_Visit]) -> list[MachineReport]:
    """Where several clocks fail and agree with each other, it is the controller's that is wrong; the fix says so."""
    offsets = [clock.offset_seconds for visit in visits if (clock := visit.clock()) is not None]
    failing = [line for report in reports for line in report.lines if line.check == "clock" and line.verdict == FAIL]
    if len(failing) < 2 or len(failing) != len(offsets) or max(offsets) - min(offsets) > 1.0:
        return reports
    fix = "the machines agree with each other: synchronise the clock of the controller"

    def told(line: Line) -> Line:
        return (
            msgspec.structs.replace(line, fix=fix) if line.check == "clock" and line.verdict in (FAIL, WARN) else line
        )

    return [msgspec.structs.replace(one, lines=tuple(told(line) for line in one.lines)) for one in reports]


def _dialled(address: str) -> str:
    """The IP address a name means here; empty when it means none."""
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""
