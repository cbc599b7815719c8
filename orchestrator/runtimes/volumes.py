"""Files in nodes' volumes that are changed while their containers do not run: by a short-lived helper of the node's own image.

`filled` puts in what nodes start from, for all of them through one helper that is never started: an engine mounts a container's file
system and starts a process that unpacks for every archive it is given, which costs about as much as starting the container.

The engine's API can put files into a container that is stopped and cannot take any away, and a node that was brought down has no
container at all. A helper mounts the volume as the node's user, without network and capabilities, and is gone at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from docker.errors import DockerException
from docker.types import Mount

from orchestrator.errors import EnvironmentFault
from orchestrator.runtimes.containers import ContainerWish, home_mount, packed
from orchestrator.runtimes.holdings import Holdings
from orchestrator.runtimes.units import CONTAINER_HOME, CONTAINER_UID

_HOMES = "stratos-homes"
_PYTHON = ("python3", "-I", "-S", "-B", "-c")
_FLAG = """
import os, sys
there, wanted = os.path.exists(sys.argv[1]), sys.argv[2] == "on"
if there != wanted:
    open(sys.argv[1], "x").close() if wanted else os.remove(sys.argv[1])
print(int(there != wanted))
"""
_REMOVE = """
import os, sys
found = [path for path in sys.argv[1:] if os.path.lexists(path)]
for path in found:
    os.remove(path)
print(len(found))
"""


@contextlib.contextmanager
def filled(held: Holdings, wishes: Sequence[ContainerWish]) -> Iterator[None]:
    """Make these nodes' volumes hold their files; the helper is removed at the end of the block, when there is time for it."""
    if not wishes:
        yield
        return
    host = held.api.create_host_config(
        network_mode="none", mounts=[home_mount(wish, f"/{_HOMES}/{wish.name}") for wish in wishes]
    )
    with held.told("testnet " + wishes[0].testnet, "fill the volumes of"):
        helper = held.api.create_container(wishes[0].image_id, ["true"], labels=held.helper_labels, host_config=host)[
            "Id"
        ]
    try:
        with held.told("testnet " + wishes[0].testnet, "fill the volumes of"):
            held.api.put_archive(helper, "/", packed_homes(wishes))
        yield
    finally:
        with contextlib.suppress(DockerException):  # what stays is removed with the testnet
            held.api.remove_container(helper, force=True)


def packed_homes(wishes: Sequence[ContainerWish]) -> bytes:
    """The nodes' homes as the tar that is unpacked at / of a helper."""
    content: dict[str, bytes | None] = {}
    for wish in wishes:
        content[f"{_HOMES}/{wish.name}"] = None
        content |= {f"{_HOMES}/{wish.name}/{name}": data for name, data in wish.files.items()}
    return packed(content)


def flag_command(flag: str, *, on: bool) -> list[str]:
    """A program that makes or removes an empty file in a node's home and prints 1 when that changed anything, else 0."""
    return [*_PYTHON, _FLAG, f"{CONTAINER_HOME}/{flag}", "on" if on else "off"]


def set_flag(held: Holdings, wish: ContainerWish, flag: str, *, on: bool) -> bool:
    """Do that in the volume of a node that does not run; whether it changed anything."""
    return _help(held, wish, flag_command(flag, on=on)) != 0


def remove_files(held: Holdings, wish: ContainerWish, names: Sequence[str]) -> int:
    """Take these files out of the volume of a node that does not run; how many were there."""
    return _help(held, wish, [*_PYTHON, _REMOVE, *(f"{CONTAINER_HOME}/{name}" for name in names)])


def _help(held: Holdings, wish: ContainerWish, command: list[str]) -> int:
    try:
        output = held.client.containers.run(
            wish.image_id,
            command,
            network_mode="none",
            user=f"{CONTAINER_UID}:{CONTAINER_UID}",
            mounts=[Mount(target=CONTAINER_HOME, source=wish.name, type="volume", labels=wish.owner_labels)],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            remove=True,
            labels=held.helper_labels,
            healthcheck={"test": ["NONE"]},
        )
        return int(output)
    except (DockerException, ValueError) as error:
        raise EnvironmentFault(
            f"the files of {wish.node.name} cannot be changed ({' '.join(str(error).split())[-300:]}); look at the engine's log"
        ) from error
