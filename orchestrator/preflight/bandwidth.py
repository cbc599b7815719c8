"""Bandwidth of a machine in both directions, against a probe: the controller, another machine of the inventory, or SSH itself.

The receiving side counts. A measurement shows what the way carried, so the best of the ways is what the machine can do at least: the controller's own link
may be the thinner one, and then another machine is asked. Where no port of the machine can be reached, bytes go through the SSH session: encryption
in Python is the limit there, so that is a lower bound and says so. Every transfer is bounded in time and bytes, needs
the session's token, and goes to addresses of the inventory only.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from orchestrator.fleet.failures import HostFailed
from orchestrator.fleet.ssh_route import label
from orchestrator.preflight import probe
from orchestrator.preflight.measurements import Rate
from orchestrator.preflight.session import ProbeRefused, ProbeSession

SECONDS = 3.0
SECONDS_QUICK = 1.0
LEAST_BYTES = 4 << 20
SSH_BYTES = 24 << 20
PEERS_ASKED = 2


class Place(Struct, frozen=True, kw_only=True):
    """Where the probe of a machine listens, 0 when it could bind nothing, and the secret that opens it."""

    address: str
    port: int
    token: str


class Pace(Struct, frozen=True, kw_only=True):
    """How much is wanted and how long it may take to see it."""

    up_mbit: float
    down_mbit: float
    seconds: float = SECONDS

    def bytes_for(self, mbit: float) -> int:
        """Enough to keep the wanted rate busy for most of the time, and no more."""
        return max(LEAST_BYTES, min(probe.MAX_BYTES, int(mbit * 1e6 / 8 * self.seconds * 0.8)))


def measure(
    session: ProbeSession | None, place: Place, pace: Pace, *, peers: Sequence[ProbeSession] = ()
) -> tuple[Rate | None, Rate | None, str]:
    """(up, down, why not) of the machine at `place`, which `session` talks to; later ways are tried only while the wanted rate was not seen."""
    up: Rate | None = None
    down: Rate | None = None
    why = ""
    ways: list[ProbeSession | None] = [None, *peers[:PEERS_ASKED]] if place.port else []
    for way in ways:
        if _enough(up, pace.up_mbit) and _enough(down, pace.down_mbit):
            break
        name = "with the controller" if way is None else f"with {label(way.machine)}"
        try:
            if not _enough(up, pace.up_mbit):
                up = _better(up, _transfer(way, place, pace, to_machine=False, name=name))
            if not _enough(down, pace.down_mbit):
                down = _better(down, _transfer(way, place, pace, to_machine=True, name=name))
        except (OSError, ValueError, KeyError, HostFailed, ProbeRefused) as error:
            why = why or f"{name}: {error}"
    if session is not None and session.machine.connection != "local":
        try:
            if up is None:
                up = _pulled(session, pace)
            if down is None:
                down = _pushed(session, pace)
        except (HostFailed, ProbeRefused) as error:
            why = why or str(error)
    return up, down, why


def _enough(rate: Rate | None, wanted: float) -> bool:
    return rate is not None and rate.mbit >= wanted


def _better(known: Rate | None, new: Rate | None) -> Rate | None:
    if known is None or (new is not None and new.mbit > known.mbit):
        return new
    return known


def _transfer(way: ProbeSession | None, place: Place, pace: Pace, *, to_machine: bool, name: str) -> Rate | None:
    """One bounded transfer between the machine's holder and the controller (`way` None) or another machine's probe."""
    size = pace.bytes_for(pace.down_mbit if to_machine else pace.up_mbit)
    if way is None:
        seen = probe.transfer(
            place.address, place.port, place.token, to_holder=to_machine, size=size, seconds=pace.seconds
        )
    else:
        seen = way.ask(
            "transfer",
            timeout=pace.seconds + 10,
            host=place.address,
            port=place.port,
            token=place.token,
            to_holder=to_machine,
            bytes=size,
            seconds=pace.seconds,
        )
    return _rate(int(seen["bytes"]), float(seen["seconds"]), name)


def _rate(count: int, seconds: float, way: str, *, lower_bound: bool = False) -> Rate | None:
    if count <= 0:
        return None
    return Rate(mbit=count * 8 / 1e6 / max(seconds, 1e-6), way=way, lower_bound=lower_bound)


def _pushed(session: ProbeSession, pace: Pace) -> Rate | None:
    size = min(SSH_BYTES, pace.bytes_for(pace.down_mbit))
    seen = session.push(size, timeout=20)
    return _rate(int(seen["bytes"]), float(seen["seconds"]), "through SSH", lower_bound=True)


def _pulled(session: ProbeSession, pace: Pace) -> Rate | None:
    size = min(SSH_BYTES, pace.bytes_for(pace.up_mbit))
    return _rate(size, session.pull(size, timeout=20), "through SSH", lower_bound=True)
