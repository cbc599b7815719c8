"""The fast path for an image that every machine needs: one machine's engine loads it, the others get a copy of that engine's data.

Loading a saved image costs seconds of CPU in each engine, a copy of its folder a fraction of that. It is for tests and benchmarks of
something else; without it machines get the image as real ones do, over SSH. It happens before the other machines' first boot.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.image.rootfs import Say
from orchestrator.lab.engine import LabEngine, telling
from orchestrator.lab.records import object_name

_ARCHIVE = "seed-image.tar"
_DATA = "lib/docker"
_UNITS = ("docker.socket", "docker.service", "containerd.service")


def seed(
    engine: LabEngine,
    machines: Sequence[str],
    image_file: Path,
    *,
    image: str,
    boot: Callable[[str], None],
    say: Say,
) -> None:
    """Put the saved image into the engines of `machines`, of which the first is booted for it."""
    first, others = machines[0], machines[1:]
    say(f"loading {image_file.name} into the engine of {first}")
    boot(first)
    _copy_in(engine, first, image_file)
    _need(engine, first, "docker", "load", "--quiet", "--input", f"/var/{_ARCHIVE}")
    _need(engine, first, "rm", f"/var/{_ARCHIVE}")
    if not others:
        return
    say(f"copying its engine's data to {len(others)} more")
    _need(engine, first, "systemctl", "stop", *_UNITS)
    try:
        _copy_data(engine, first, others, image=image)
    finally:
        _need(engine, first, "systemctl", "start", *reversed(_UNITS))


def _copy_in(engine: LabEngine, machine: str, file: Path) -> None:
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as tar:
            member = tarfile.TarInfo(_ARCHIVE)
            member.size, member.mode = file.stat().st_size, 0o600
            with file.open("rb") as content:
                tar.addfile(member, content)
        spool.seek(0)
        with telling(f"copy {file} into machine {machine}"):
            engine.need_container(machine).put_archive("/var", spool)


def _copy_data(engine: LabEngine, source: str, targets: Sequence[str], *, image: str) -> None:
    volumes = {object_name(engine.name, source): {"bind": "/from", "mode": "ro"}}
    volumes |= {object_name(engine.name, name): {"bind": f"/to/{name}", "mode": "rw"} for name in targets}
    # The volume of a machine that never booted is empty: the container that runs here fills it from its image's /var first.
    script = (
        "set -e; for to in /to/*; do [ -e $to/lib/dpkg ] || cp -a /var/. $to/; "
        f"rm -rf $to/{_DATA}; cp -a /from/{_DATA} $to/lib/; rm -f $to/{_DATA}/engine-id; done"
    )
    with telling("copy an engine's data"):
        engine.client.containers.run(
            image,
            command=["/bin/sh", "-c", script],
            labels=engine.labels,
            volumes=volumes,
            network_mode="none",
            remove=True,
        )


def _need(engine: LabEngine, machine: str, *command: str) -> None:
    code, said = engine.run(machine, *command)
    if code != 0:
        raise EnvironmentFault(f"`{' '.join(command)}` failed on machine {machine}: {said[-300:]}")
