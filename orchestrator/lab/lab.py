"""Create, start, stop, kill and destroy: the lab's life, each step repeatable, so that an interrupted command run again finishes.

`create` is done when every machine says that it runs and its sshd answers at its address from here. Machines boot in parallel.
"""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.errors import BadInput, EnvironmentFault
from orchestrator.image.engine import engine as connect
from orchestrator.image.rootfs import Say
from orchestrator.lab import records, seeding
from orchestrator.lab.engine import LabEngine
from orchestrator.lab.folder import LabFolder, lab_names
from orchestrator.lab.image import lab_image
from orchestrator.lab.records import SSH_PORT, Lab, object_name
from orchestrator.testnet.lock import hold_testnet

BOOT_SECONDS = 120.0
_AT_ONCE = 8
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_BOOTED = ("running", "degraded")


class MachineState(Struct, frozen=True):
    """A machine and whether it is up."""

    name: str
    address: str
    state: str


class LabState(Struct, frozen=True):
    """A lab as it is now."""

    name: str
    folder: str
    subnet: str
    machines: tuple[MachineState, ...]


class Created(Struct, frozen=True):
    """What `create` did."""

    lab: LabState
    made: int
    image_seconds: float
    boot_seconds: float


def create(
    name: str,
    *,
    machines: int | None,
    memory_bytes: int = 0,
    cpus: float = 0.0,
    seed_image: Path | None = None,
    prepared: bool = False,
    say: Say,
) -> Created:
    """Make the lab, or finish or enlarge the one there is; `machines` None keeps its number, or makes one machine."""
    folder = LabFolder(name)
    if seed_image is not None and not seed_image.is_file():
        raise BadInput(f"there is no file {seed_image} to seed the machines' engines with; make it with `image save`")
    with hold_testnet(folder.path.parent, name):
        engine = LabEngine(connect(), name, folder.path)
        engine.check_ours()
        begun = time.monotonic()
        image = lab_image(engine.client, prepared=prepared, say=say)
        imaged = time.monotonic()
        lab = _wanted(folder, engine, machines=machines, memory_bytes=memory_bytes, cpus=cpus)
        folder.save(lab)
        engine.ensure_network(lab.subnet)
        login = folder.login_line()
        before = engine.states()
        unfinished = [machine.name for machine in lab.machines if before.get(machine.name, "created") == "created"]
        _each(
            lambda machine: engine.ensure_machine(
                lab, lab.machine(machine), image=image, host_key=folder.host_key(machine), login=login
            ),
            unfinished,
        )
        if unfinished and seed_image is not None:
            seeding.seed(
                engine, unfinished, seed_image, image=image, boot=lambda name: boot(engine, lab, [name]), say=say
            )
        down = [machine.name for machine in lab.machines if before.get(machine.name) != "running"]
        if down:
            say(f"booting {len(down)} machines" if len(down) > 1 else f"booting {down[0]}")
        boot(engine, lab, [machine.name for machine in lab.machines])
        return Created(_state(folder, lab, engine), len(unfinished), imaged - begun, time.monotonic() - imaged)


def destroy(name: str) -> int:
    """Remove all of a lab, also one whose record is lost; how many objects the engine held."""
    folder = LabFolder(name)
    with hold_testnet(folder.path.parent, name):
        engine = LabEngine(connect(), name, folder.path)
        engine.check_ours()
        removed = engine.destroy()
        folder.remove()
    return removed


def start(name: str, machines: Sequence[str]) -> None:
    """Boot machines and wait until they can be logged into."""
    lab, engine = _opened(name, machines)
    boot(engine, lab, machines)


def stop(name: str, machines: Sequence[str]) -> None:
    """Shut machines down in order."""
    _, engine = _opened(name, machines)
    _each(engine.stop, machines)


def kill(name: str, machines: Sequence[str]) -> None:
    """Cut the machines' power."""
    _, engine = _opened(name, machines)
    _each(engine.kill, machines)


def state(name: str) -> LabState:
    """A lab that must exist."""
    folder = LabFolder(name)
    return _state(folder, folder.need_lab(), LabEngine(connect(), name, folder.path))


def states() -> Iterator[LabState]:
    """Every lab that has a folder."""
    for name in lab_names():
        yield state(name)


def boot(engine: LabEngine, lab: Lab, machines: Sequence[str]) -> None:
    """Start machines and wait for each; raises EnvironmentFault naming the first that did not come up."""

    def one(name: str) -> None:
        engine.start(name)
        _wait_for_sshd(name, lab.machine(name).address)  # cheap to ask; by then there is a bus to ask about the rest
        _wait_for_boot(engine, name)

    _each(one, machines)


def _wanted(folder: LabFolder, engine: LabEngine, *, machines: int | None, memory_bytes: int, cpus: float) -> Lab:
    lab = folder.lab()
    if lab is None:
        taken = [*engine.subnets(), *_routes()]
        return records.new_lab(folder.name, machines=machines or 1, memory_bytes=memory_bytes, cpus=cpus, taken=taken)
    if (memory_bytes and memory_bytes != lab.memory_bytes) or (cpus and cpus != lab.cpus):
        raise BadInput(
            f"lab {lab.name} was made with other limits (--memory {lab.memory_bytes} --cpus {lab.cpus:g}); "
            f"leave them out, or destroy it first (stratosctl lab destroy {lab.name})"
        )
    return lab if machines is None else records.grown(lab, machines)


def _routes() -> list[str]:
    try:
        return records.host_routes(Path("/proc/net/route").read_text())
    except OSError:  # no Linux: the engine itself refuses a subnet that overlaps
        return []


def _opened(name: str, machines: Iterable[str]) -> tuple[Lab, LabEngine]:
    folder = LabFolder(name)
    lab = folder.need_lab()
    for machine in machines:
        lab.machine(machine)
    return lab, LabEngine(connect(), name, folder.path)


def _state(folder: LabFolder, lab: Lab, engine: LabEngine) -> LabState:
    known = engine.states()
    machines = tuple(
        MachineState(machine.name, machine.address, known.get(machine.name, "missing")) for machine in lab.machines
    )
    return LabState(lab.name, str(folder.path), lab.subnet, machines)


def _each(action: Callable[[str], None], names: Sequence[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="lab") as pool:
        for done in [pool.submit(action, name) for name in names]:
            done.result()


def _wait_for_sshd(name: str, address: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    reason = ""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, SSH_PORT), timeout=_ANSWER_SECONDS) as connection:
                connection.settimeout(_ANSWER_SECONDS)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            reason = str(error)
        time.sleep(_POLL_SECONDS)
    raise EnvironmentFault(
        f"sshd of machine {name} did not answer at {address}:{SSH_PORT} within {BOOT_SECONDS:.0f} s "
        f"({reason or 'no greeting'}); see `docker logs`, and whether the engine runs on this host: a lab's network is "
        "reached from there only"
    )


def _wait_for_boot(engine: LabEngine, name: str) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    said = ""
    while time.monotonic() < deadline:
        _, said = engine.run(name, "systemctl", "is-system-running", "--wait")
        if said in _BOOTED:
            return
        time.sleep(_POLL_SECONDS)  # its bus is not there yet
    raise EnvironmentFault(
        f"machine {name} did not finish booting within {BOOT_SECONDS:.0f} s (it says {said[-200:]!r}); look with "
        f"`docker exec {object_name(engine.name, name)} systemctl --failed`"
    )
