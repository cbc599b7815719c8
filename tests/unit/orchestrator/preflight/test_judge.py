"""Judging a machine: protocol 9 by role and tier, scaled, and never stronger than what was measured."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.preflight.addresses import kind_of, translated
from orchestrator.preflight.clock import Sample, estimate
from orchestrator.preflight.judge import FAIL, PASS, WARN, Line, Setting, judge, worst
from orchestrator.preflight.measurements import Clock, Findings, Measured, Port, Rate, read_measured
from orchestrator.preflight.requirements import GB, TB, Duty, needs_of, needs_of_machine

VALIDATOR = Duty(name="v1", role="validator", ports=(26_656, 1_317))
META = Duty(name="m1", role="meta", ports=(8_888,))
RESOURCE = Duty(name="r1", role="resource", tier=1, offered_bytes=100 * GB, ports=(18_081,))
GOOD = Measured(
    version=1,
    cores=64,
    cores_online=64,
    base_ghz_said=3.0,
    ghz_measured=4.0,
    memory_bytes=256 * GB,
    disk_folder="/var/lib",
    disk_bytes=40 * TB,
    disk_free_bytes=30 * TB,
    write_mb_s=2_000,
    sync_ms=0.2,
    sync_worst_ms=1,
    kernel="6.1.0-18",
    distribution="debian",
    distribution_name="Debian 12",
    python="3.11.2",
    cgroup_version=2,
    engine_version="20.10.24",
    engine_api="1.41",
    addresses=("192.0.2.7",),
)
REACHED = (Port(number=18_081, node="r1", state="open", seen_from="the controller"),)
FINE = Findings(
    measured=GOOD,
    clock=Clock(offset_seconds=0.01, error_seconds=0.005, samples=9),
    up=Rate(mbit=5_000, way="with the controller"),
    down=Rate(mbit=5_000, way="with the controller"),
    ports=REACHED,
    address="192.0.2.7",
    dialled="192.0.2.7",
)
FLEET = Setting(machines=9)


def lines(*duties: Duty, setting: Setting = FLEET, **changes: Any) -> dict[str, Line]:
    """check -> line, with fields of the findings, or of what was measured, replaced."""
    own = {key: value for key, value in changes.items() if key in Measured.__struct_fields__}
    rest = {key: value for key, value in changes.items() if key not in own}
    found = msgspec.structs.replace(FINE, measured=msgspec.structs.replace(GOOD, **own), **rest)
    return {line.check: line for line in judge("box", found, duties or (RESOURCE,), setting)}


def test_a_good_machine_passes_every_line() -> None:
    """What is more than enough passes, and no passed line has a fix."""
    found = lines()
    assert {line.verdict for line in found.values()} == {PASS}
    assert not any(line.fix for line in found.values())


@pytest.mark.parametrize(
    ("duty", "cores", "memory", "disk", "up", "down"),
    [
        (Duty(name="r", role="resource", tier=0), 4, 16, 2, 100, 100),
        (Duty(name="r", role="resource", tier=1), 8, 16, 4, 50, 100),
        (Duty(name="r", role="resource", tier=2), 16, 32, 8, 100, 100),
        (Duty(name="r", role="resource", tier=3), 32, 64, 16, 1_000, 1_000),
        (VALIDATOR, 8, 32, 2, 50, 50),
        (META, 8, 32, 1, 100, 100),
    ],
)
def test_the_table_is_the_protocols(duty: Duty, cores: int, memory: int, disk: int, up: int, down: int) -> None:
    """Every row of protocol 9 is asked for as it is written there; only validators have a base clock."""
    row = needs_of(duty)
    assert (row.cores, row.memory_bytes, row.disk_bytes) == (cores, memory * GB, disk * TB)
    assert (row.up_mbit, row.down_mbit) == (up, down)
    assert row.base_ghz == (2.5 if duty.role == "validator" else 0)


def test_nodes_of_one_machine_add_up_and_the_factor_scales_hardware() -> None:
    """Two nodes need the sum, the fastest base clock counts once, and a tenth asks for a tenth."""
    whole, tenth = needs_of_machine([VALIDATOR, META], 1.0), needs_of_machine([VALIDATOR, META], 0.1)
    assert (whole.cores, whole.memory_bytes, whole.base_ghz) == (16, 64 * GB, 2.5)
    assert (tenth.cores, tenth.memory_bytes) == (pytest.approx(1.6), 6_400_000_000)
    small = lines(VALIDATOR, META, setting=Setting(factor=0.1, machines=9), cores=2, memory_bytes=7 * GB)
    assert (small["cores"].verdict, small["memory"].verdict) == (PASS, PASS)


@pytest.mark.parametrize(
    ("check", "changes", "words"),
    [
        ("cores", {"cores": 2.0}, "use a larger machine, or for a small testnet set stratos_hardware_factor to 0.25"),
        ("memory", {"memory_bytes": 8 * GB}, "stratos_hardware_factor"),
        ("disk", {"disk_bytes": TB}, "stratos_hardware_factor"),
        ("disk free", {"disk_free_bytes": 10 * GB}, "free 90 GB at /var/lib, or lower stratos_disk"),
        ("disk write", {"write_mb_s": 5.0}, "use a faster disk at /var/lib"),
        ("disk write", {"disk_problem": "/var/lib: No space left on device"}, "No space left on device"),
        ("bandwidth up", {"up": Rate(mbit=10, way="with the controller")}, "use a faster link"),
        ("clock", {"clock": Clock(offset_seconds=-10.0, error_seconds=0.01, samples=9)}, "synchronise it"),
        ("kernel", {"kernel": "3.10.0-1160.el7"}, "upgrade the distribution"),
        ("engine", {"engine_version": "18.09.1", "engine_api": "1.39"}, "upgrade docker to 20.10"),
        ("engine", {"engine_api": "", "distribution": "arch"}, "install docker"),
        ("python", {"python": "3.6.8"}, "install a newer python3"),
        ("sudo", {"sudo_problem": "sudo refuses user admin; let admin run sudo"}, "let admin run sudo"),
        ("address", {"dialled": "127.0.0.1"}, "set ansible_host or stratos_address"),
        ("address", {"dialled": "169.254.3.4"}, "link-local ones change"),
        (
            "port 18081",
            {"ports": (Port(number=18_081, node="r1", state="taken", by="nginx (pid 9)"),)},
            "end nginx (pid 9), or move r1",
        ),
        (
            "port 18081",
            {"ports": (Port(number=18_081, node="r1", state="closed", seen_from="the controller"),)},
            "open TCP port 18081 in every firewall",
        ),
    ],
)
def test_each_shortage_fails_its_own_line_with_a_fix(check: str, changes: dict[str, Any], words: str) -> None:
    """One thing wrong fails one line, whose sentence names the host, the value and the fix."""
    found = lines(**changes)
    failed = [line for line in found.values() if line.verdict == FAIL]
    assert [line.check for line in failed] == [check]
    assert words in failed[0].fix
    assert failed[0].sentence.startswith(f"box: {check}: ")


def test_two_nodes_on_one_port_are_found_without_a_machine() -> None:
    """Nodes that would collide are named together."""
    other = Duty(name="r2", role="resource", tier=1, ports=(18_081,))
    line = lines(RESOURCE, other)["port 18081"]
    assert (line.verdict, line.fix) == (
        FAIL,
        "give r1 and r2 different ports, or put them on different machines",
    )


def test_a_processor_that_says_more_than_it_has_is_found_out() -> None:
    """The timed loop overrules the label when it is far below it; boost above the label does not raise it."""
    liar = lines(VALIDATOR, base_ghz_said=3.5, ghz_measured=1.2)["base clock"]
    assert (liar.verdict, liar.measured) == (FAIL, "1.20 GHz in a timed loop, 3.50 GHz said")
    assert lines(VALIDATOR, base_ghz_said=2.0, ghz_measured=4.0)["base clock"].verdict == FAIL
    assert lines(VALIDATOR, base_ghz_said=2.5, ghz_measured=3.9)["base clock"].verdict == PASS
    assert lines(VALIDATOR, base_ghz_said=3.0, ghz_measured=0.0)["base clock"].verdict == WARN


def test_a_lower_bound_can_pass_and_cannot_fail() -> None:
    """Bytes through SSH prove what they carried and nothing about what else could be carried."""
    enough = lines(up=Rate(mbit=80, way="through SSH", lower_bound=True))["bandwidth up"]
    short = lines(up=Rate(mbit=20, way="through SSH", lower_bound=True))["bandwidth up"]
    assert (enough.verdict, short.verdict) == (PASS, WARN)
    assert short.measured == "at least 20 Mbit/s through SSH"


def test_a_clock_is_judged_by_what_is_certain() -> None:
    """An offset within its error is no offset; a slow link makes a warning, not a failure."""

    def verdict(offset: float, error: float) -> str:
        return lines(clock=Clock(offset_seconds=offset, error_seconds=error, samples=5))["clock"].verdict

    assert (verdict(0.05, 0.01), verdict(-0.5, 0.01), verdict(1.5, 0.01)) == (PASS, WARN, FAIL)
    assert (verdict(1.5, 1.5), verdict(10, 2)) == (WARN, FAIL)


def test_nat_and_carrier_nat_are_told() -> None:
    """A translated address is a warning; a carrier's is a failure for those who need a fixed one."""
    behind = lines(dialled="203.0.113.9")["address"]
    assert (behind.verdict, "behind NAT" in behind.measured) == (WARN, True)
    carrier = {"dialled": "100.70.1.2", "addresses": ("100.70.1.2",)}
    assert lines(**carrier)["address"].verdict == WARN
    assert lines(META, **carrier)["address"].verdict == FAIL


@pytest.mark.parametrize("field", ["cores", "memory_bytes", "disk_bytes", "write_mb_s", "kernel"])
def test_what_was_not_measured_neither_passes_nor_fails(field: str) -> None:
    """Zero is never a result: the line is a warning that says so."""
    empty: Any = "" if field == "kernel" else 0
    changed = [line for line in lines(**{field: empty}).values() if line.verdict != PASS]
    assert [line.verdict for line in changed] == [WARN]
    assert changed[0].measured == "not measured"
    assert changed[0].fix


@given(
    measured=st.builds(
        Measured,
        cores=st.floats(0, 128),
        memory_bytes=st.integers(0, 512 * GB),
        disk_bytes=st.integers(0, 40 * TB),
        disk_free_bytes=st.integers(0, 40 * TB),
        write_mb_s=st.floats(0, 5_000),
        sync_ms=st.floats(0, 3_000),
        base_ghz_said=st.floats(0, 6),
        ghz_measured=st.floats(0, 6),
        kernel=st.sampled_from(["", "6.1.0", "4.19", "2.6.32", "nonsense"]),
    ),
    duties=st.lists(st.sampled_from([VALIDATOR, META, RESOURCE]), unique=True, max_size=3),
    factor=st.floats(0.01, 1),
)
def test_less_is_never_asked_for_in_vain(measured: Measured, duties: list[Duty], factor: float) -> None:
    """Whatever was measured: every line that does not pass has a fix, and a smaller factor never makes a verdict worse."""
    found = Findings(measured=measured, address="192.0.2.7")
    strict = judge("box", found, duties, Setting(factor=factor))
    lenient = judge("box", found, duties, Setting(factor=factor / 2))
    rank = {PASS: 0, WARN: 1, FAIL: 2}
    assert all(line.fix for line in strict if line.verdict != PASS)
    assert all(rank[easy.verdict] <= rank[hard.verdict] for easy, hard in zip(lenient, strict, strict=True))
    assert rank[worst(strict)] == max((rank[line.verdict] for line in strict), default=0)


@given(
    offset=st.floats(-1e5, 1e5),
    delays=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20),
)
def test_the_true_offset_is_within_the_error(offset: float, delays: list[tuple[float, float]]) -> None:
    """However long requests and answers take, the estimate and its error hold the truth, 10 s off as well as none."""
    samples, now = [], 1_000.0
    for out, back in delays:
        samples.append(Sample(now, now + out + offset, now + out + back))
        now += out + back + 0.1
    clock = estimate(samples)
    assert clock is not None
    assert abs(clock.offset_seconds - offset) <= clock.error_seconds + 1e-6
    assert clock.error_seconds <= min((out + back) / 2 for out, back in delays) + 1e-6


def test_a_clock_set_between_samples_is_read_from_the_quickest() -> None:
    """Samples that contradict each other leave the best of them."""
    clock = estimate([Sample(0, 0.5, 1), Sample(2, 12.05, 2.1)])
    assert clock is not None
    assert clock.offset_seconds == pytest.approx(10.0)
    assert estimate([Sample(2, 2, 1)]) is None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("100.64.0.1", "carrier NAT"),
        ("fe80::1%eth0", "link-local"),
        ("8.8.8.8", "public"),
        ("2001:4860:4860::8888", "public"),
        ("box.example", "not an address"),
    ],
)
def test_kinds_of_address(address: str, kind: str) -> None:
    """Each kind is known in both families."""
    assert kind_of(address) == kind
    assert not translated(address, [address])


def test_a_probe_that_answers_nonsense_is_refused() -> None:
    """An answer is bounded and typed before anything looks at it."""
    with pytest.raises(msgspec.ValidationError):
        read_measured({"cores": "many"})
    with pytest.raises(msgspec.ValidationError):
        read_measured({"hostname": "x" * 1_000})
