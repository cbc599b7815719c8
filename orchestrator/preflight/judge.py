"""Measurements of one machine against what its nodes need -> one line a check: measured, wanted, verdict and fix. Pure.

A verdict is never stronger than its evidence: what could not be measured is a warning that says why, never a pass and never a failure of the
machine. Tolerances are for what is lost between a label and a measurement: firmware keeps memory, file systems keep disk, frames
keep bandwidth. Everything hardware is scaled by the inventory's factor; clocks, ports, sudo and the engine are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from orchestrator.preflight import requirements as needed
from orchestrator.preflight.addresses import CARRIER, LINK_LOCAL, LOOPBACK, NAMED, PUBLIC, kind_of, translated
from orchestrator.preflight.measurements import Findings, Measured, Port, Rate
from orchestrator.preflight.requirements import GB, TB, Duty, Hardware, needs_of_machine

PASS, WARN, FAIL = "pass", "warn", "fail"
CLOCK_TOLERANCE = 0.97
MEMORY_TOLERANCE = 0.93
DISK_TOLERANCE = 0.93
RATE_TOLERANCE = 0.9
LIE_TOLERANCE = 0.85


class Line(Struct, frozen=True, kw_only=True):
    """One check of one machine. `fix` is empty when it passed."""

    machine: str
    check: str
    measured: str
    wanted: str
    verdict: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """`machine: check: measured, wanted wanted; fix`."""
        return f"{self.machine}: {self.check}: {self.measured}, wanted {self.wanted}; {self.fix}"


class Setting(Struct, frozen=True, kw_only=True):
    """What judging depends on besides the machine. `machines`: how many the testnet has; `engine`: whether nodes are containers."""

    factor: float = 1.0
    machines: int = 1
    engine: bool = True
    becomes: bool = True
    network: bool = True
    """Whether others connect to the machine: processes and containers of one host meet on the host."""


def judge(machine: str, found: Findings, duties: Sequence[Duty], setting: Setting) -> tuple[Line, ...]:
    """All lines of one machine, in the order of the table."""
    return tuple(_Judge(machine, found, duties, setting).lines())


def worst(lines: Sequence[Line]) -> str:
    """The verdict over lines."""
    verdicts = {line.verdict for line in lines}
    return FAIL if FAIL in verdicts else WARN if WARN in verdicts else PASS


class _Judge:
    def __init__(self, machine: str, found: Findings, duties: Sequence[Duty], setting: Setting) -> None:
        self._machine = machine
        self._found = found
        self._duties = duties
        self._setting = setting
        self._needs: Hardware = needs_of_machine(duties, setting.factor)

    def lines(self) -> Iterator[Line]:
        yield from self._hardware()
        yield from self._disk()
        if self._duties and self._setting.network:
            yield self._bandwidth("bandwidth up", self._found.up, self._needs.up_mbit)
            yield self._bandwidth("bandwidth down", self._found.down, self._needs.down_mbit)
        yield self._clock()
        if self._setting.network:
            yield from self._ports()
            yield self._address()
        yield from self._system()

    def _line(self, check: str, measured: str, wanted: str, verdict: str, fix: str = "") -> Line:
        return Line(
            machine=self._machine,
            check=check,
            measured=measured,
            wanted=wanted,
            verdict=verdict,
            fix="" if verdict == PASS else fix,
        )

    def _unmeasured(self, check: str, wanted: str) -> Line:
        why = self._found.notes.get(check) or self._problem_of(check) or "the probe could not tell"
        return self._line(check, "not measured", wanted, WARN, why)

    def _problem_of(self, check: str) -> str:
        part = {"memory": "memory", "cores": "cores", "base clock": "clock_speed"}.get(check, check)
        return next((text for text in self._found.measured.problems if text.startswith(f"{part}:")), "")

    def _smaller(self, share: float) -> str:
        """The two ways out when a machine has only `share` of what is asked."""
        many = "move nodes elsewhere" if len(self._duties) > 1 else "use a larger machine"
        enough = f"{share * self._setting.factor * 0.99:.2g}"
        return f"{many}, or for a small testnet set stratos_hardware_factor to {enough} (now {self._setting.factor:g})"

    # --- processor and memory

    def _hardware(self) -> Iterator[Line]:
        seen, needs = self._found.measured, self._needs
        if seen.cores:
            limited = seen.cores_online and seen.cores < seen.cores_online
            text = f"{seen.cores:g}" + (f" of {seen.cores_online} (limited by cgroup or affinity)" if limited else "")
            yield self._at_least("cores", seen.cores, needs.cores, text, f"{needs.cores:g}", 1.0)
        else:
            yield self._unmeasured("cores", f"{needs.cores:g}")
        if needs.base_ghz:
            yield self._base_clock()
        if seen.memory_bytes:
            text, wanted = _size(seen.memory_bytes), _size(needs.memory_bytes)
            yield self._at_least("memory", seen.memory_bytes, needs.memory_bytes, text, wanted, MEMORY_TOLERANCE)
        else:
            yield self._unmeasured("memory", _size(needs.memory_bytes))

    def _at_least(self, check: str, value: float, need: float, text: str, wanted: str, tolerance: float) -> Line:
        verdict = PASS if value >= need * tolerance else FAIL
        return self._line(check, text, f"at least {wanted}", verdict, self._smaller(value / need if need else 1.0))

    def _base_clock(self) -> Line:
        seen, need = self._found.measured, self._needs.base_ghz
        said, measured = seen.base_ghz_said, seen.ghz_measured
        wanted = f"at least {need:.2f} GHz"
        if not said and not measured:
            return self._unmeasured("base clock", wanted)
        if not measured:
            enough = said >= need * CLOCK_TOLERANCE
            fix = "machine code could not be timed there, so this is only what the system says"
            return self._line("base clock", f"{said:.2f} GHz said", wanted, WARN if enough else FAIL, fix)
        if said and measured < said * LIE_TOLERANCE:
            text = f"{measured:.2f} GHz in a timed loop, {said:.2f} GHz said"
            fix = "the machine is throttled, shared or says more than it has; use another"
            return self._line("base clock", text, wanted, PASS if measured >= need * CLOCK_TOLERANCE else FAIL, fix)
        base = min(said, measured) if said else measured
        text = f"{base:.2f} GHz" + (
            f" ({measured:.2f} in a timed loop)" if said else " in a timed loop, boost included"
        )
        return self._line(
            "base clock", text, wanted, PASS if base >= need * CLOCK_TOLERANCE else FAIL, self._smaller(base / need)
        )

    # --- disk

    def _disk(self) -> Iterator[Line]:
        seen, needs = self._found.measured, self._needs
        where = f" at {seen.disk_folder}" if seen.disk_folder else ""
        if not seen.disk_bytes:
            yield self._unmeasured("disk", _size(needs.disk_bytes))
            return
        text, wanted = f"{_size(seen.disk_bytes)}{where}", _size(needs.disk_bytes)
        yield self._at_least("disk", seen.disk_bytes, needs.disk_bytes, text, wanted, DISK_TOLERANCE)
        offered = sum(duty.offered_bytes for duty in self._duties)
        room = max(offered, GB)
        fix = f"free {_size(max(0, room - seen.disk_free_bytes))}{where}"
        fix += ", or lower stratos_disk of its nodes" if offered > GB else ""
        lacking = FAIL if self._setting.network else WARN  # on one host nodes are rarely filled to what they offer
        enough = PASS if seen.disk_free_bytes >= room else lacking
        yield self._line("disk free", _size(seen.disk_free_bytes), f"at least {_size(room)}", enough, fix)
        wanted = f"at least {needs.write_mb_s:g} MB/s"
        if seen.disk_problem:
            yield self._line("disk write", "refused", wanted, FAIL, f"make it writable: {seen.disk_problem}")
        elif not seen.write_mb_s:
            yield self._unmeasured("disk write", wanted)
        else:
            speed, fix = f"{seen.write_mb_s:g} MB/s", f"use a faster disk{where}, or lower stratos_hardware_factor"
            yield self._line("disk write", speed, wanted, PASS if seen.write_mb_s >= needs.write_mb_s else FAIL, fix)
            yield self._sync(seen)

    def _sync(self, seen: Measured) -> Line:
        waits = any(duty.role in ("validator", "meta") for duty in self._duties)
        limit = needed.SYNC_FAIL_MS if waits else 10 * needed.SYNC_FAIL_MS
        verdict = FAIL if seen.sync_ms > limit else WARN if waits and seen.sync_ms > needed.SYNC_WARN_MS else PASS
        text = f"{seen.sync_ms:.2g} ms, worst {seen.sync_worst_ms:.2g} ms"
        fix = "every block waits for this; use a disk with a write cache that survives power loss"
        return self._line("disk sync", text, f"at most {needed.SYNC_WARN_MS if waits else limit:g} ms", verdict, fix)

    # --- network

    def _bandwidth(self, check: str, rate: Rate | None, need: float) -> Line:
        wanted = f"at least {need:g} Mbit/s"
        if rate is None or rate.mbit <= 0:
            return self._unmeasured(check, wanted)
        text = f"{'at least ' if rate.lower_bound else ''}{_rate(rate.mbit)} {rate.way}"
        if rate.mbit >= need * RATE_TOLERANCE:
            return self._line(check, text, wanted, PASS)
        if rate.lower_bound:
            fix = "only a lower bound could be measured; open the node's ports and run preflight again"
            return self._line(check, text, wanted, WARN, fix)
        fix = "use a faster link or end what else uses it, or lower stratos_hardware_factor"
        return self._line(check, text, wanted, FAIL, fix)

    def _clock(self) -> Line:
        clock = self._found.clock
        wanted = f"within {needed.CLOCK_WARN_SECONDS:g} s of the controller"
        if clock is None:
            return self._unmeasured("clock", wanted)
        surely = max(0.0, abs(clock.offset_seconds) - clock.error_seconds)
        side = "ahead" if clock.offset_seconds > 0 else "behind"
        text = f"{_span(abs(clock.offset_seconds))} {side} (±{_span(clock.error_seconds)})"
        fix = "synchronise it (role stratos_time, or chrony/systemd-timesyncd by hand)"
        if surely > needed.CLOCK_FAIL_SECONDS:
            return self._line("clock", text, wanted, FAIL, fix)
        if surely > needed.CLOCK_WARN_SECONDS:
            return self._line("clock", text, wanted, WARN, fix)
        if clock.error_seconds > needed.CLOCK_FAIL_SECONDS:
            return self._line("clock", text, wanted, WARN, "the round trips are too slow to tell; look at the link")
        return self._line("clock", text, wanted, PASS)

    def _ports(self) -> Iterator[Line]:
        names = Counter(port for duty in self._duties for port in set(duty.ports))
        for number, count in sorted(names.items()):
            if count > 1:
                both = " and ".join(duty.name for duty in self._duties if number in duty.ports)
                fix = f"give {both} different ports, or put them on different machines"
                yield self._line(f"port {number}", f"wanted by {both}", "one node", FAIL, fix)
        for port in self._found.ports:
            if names[port.number] == 1:
                yield self._port(port)
        if not self._found.ports and names:
            yield self._unmeasured("ports", "reachable from outside")

    def _port(self, port: Port) -> Line:
        check, wanted = f"port {port.number}", f"reachable, for {port.node}"
        if port.state == "open":
            return self._line(check, f"reached from {port.seen_from}", wanted, PASS)
        if port.state == "ours":
            return self._line(check, f"{port.node} listens", wanted, PASS)
        if port.state == "taken":
            fix = f"end {port.by or 'what listens there'}, or move {port.node} to another machine"
            return self._line(check, f"taken by {port.by or 'another program'}", wanted, FAIL, fix)
        if port.state == "closed":
            fix = f"open TCP port {port.number} in every firewall and port forwarding before the machine"
            text = f"not reached from {port.seen_from}" + (f" ({port.problem})" if port.problem else "")
            return self._line(check, text, wanted, FAIL, fix)
        return self._line(check, "not measured", wanted, WARN, port.problem or "nobody could try to connect")

    def _address(self) -> Line:
        found, alone = self._found, self._setting.machines == 1
        where = found.dialled or found.address
        kind = kind_of(where)
        behind = bool(found.dialled) and bool(found.measured.addresses) and translated(where, found.measured.addresses)
        text = f"{where} ({kind}{', behind NAT' if behind else ''})"
        wanted = "an address all others reach" + (", fixed" if self._needs.fixed_address else "")
        if kind == LOOPBACK and not alone:
            fix = "set ansible_host or stratos_address to an address the other machines can reach"
            return self._line("address", text, wanted, FAIL, fix)
        if kind == LINK_LOCAL:
            fix = "give the machine an address by DHCP or by hand; link-local ones change"
            return self._line("address", text, wanted, FAIL, fix)
        if kind == CARRIER:
            fix = "ask the provider for an address of its own: nobody can connect to this one from outside"
            return self._line("address", text, wanted, FAIL if self._needs.fixed_address else WARN, fix)
        if kind == NAMED:
            return self._unmeasured("address", wanted)
        if behind:
            fix = "forward the node's ports to this machine for good; the port lines say which are"
            return self._line("address", text, wanted, WARN, fix)
        if kind != PUBLIC and not alone:
            return self._line("address", f"{text}: for this network only", wanted, PASS)
        return self._line("address", text, wanted, PASS)

    # --- system

    def _system(self) -> Iterator[Line]:
        seen, kernel = self._found.measured, _version(self._found.measured.kernel)
        wanted = f"Linux {_dotted(needed.KERNEL_WANTED)} or newer"
        if kernel:
            verdict = FAIL if kernel < needed.KERNEL_NEEDED else WARN if kernel < needed.KERNEL_WANTED else PASS
            yield self._line("kernel", seen.kernel, wanted, verdict, "upgrade the distribution")
        else:
            yield self._unmeasured("kernel", wanted)
        if self._setting.engine:
            yield from self._for_containers(seen)
        if self._setting.becomes:
            yield self._sudo()

    def _for_containers(self, seen: Measured) -> Iterator[Line]:
        names = {seen.distribution, *seen.distribution_like.split()}
        packaged = bool(names & set(needed.PACKAGED))
        fix = "packages are installed on Debian and Ubuntu only; install a container engine and chrony by hand"
        text = seen.distribution_name or seen.distribution or "unknown"
        yield self._line("distribution", text, "Debian or Ubuntu", PASS if packaged else WARN, fix)
        wanted = f"API {_dotted(needed.ENGINE_API)} or newer"
        if seen.engine_api:
            text = f"{seen.engine_version}, API {seen.engine_api}"
            verdict = PASS if _version(seen.engine_api) >= needed.ENGINE_API else FAIL
            yield self._line("engine", text, wanted, verdict, "upgrade docker to 20.10 or newer")
        elif seen.engine_problem:
            fix = f"its socket refuses: {seen.engine_problem}; let the user become root or join group docker"
            yield self._line("engine", "not measured", wanted, WARN, fix)
        elif packaged:
            yield self._line("engine", "none; role stratos_engine installs it", wanted, PASS)
        else:
            yield self._line("engine", "none", wanted, FAIL, "install docker 20.10 or newer by hand")
        yield self._line("cgroups", f"v{seen.cgroup_version}" if seen.cgroup_version else "none", "v1 or v2", PASS)
        python = _version(seen.python)
        verdict = PASS if python >= needed.PYTHON_NEEDED else FAIL
        text = f"{_dotted(needed.PYTHON_NEEDED)} or newer"
        yield self._line("python", seen.python or "none", text, verdict, "install a newer python3")

    def _sudo(self) -> Line:
        problem = self._found.sudo_problem
        text = "works" if not problem else "refused"
        return self._line("sudo", text, "root without a question", FAIL if problem else PASS, problem)


def _version(text: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _size(count: float) -> str:
    """Decimal units, as the requirements are written."""
    for unit, name in ((TB, "TB"), (GB, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def _rate(mbit: float) -> str:
    return f"{mbit / 1000:.3g} Gbit/s" if mbit >= 1000 else f"{mbit:.3g} Mbit/s"


def _span(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
