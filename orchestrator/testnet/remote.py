"""Commands where nodes run: in a process's home, in a container, on a machine or in its container. And the way there by hand.

The answer is bytes and an exit code wherever it came from. Nothing here decides what is right to run: these are for people who look.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from orchestrator.errors import StratosctlError
from orchestrator.plan.plan import NodePlan, Plan
from orchestrator.runtimes.protocol import Runtime
from orchestrator.runtimes.units import container_name, home_of
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.topology.machine import Machine
from orchestrator.topology.topology import DOCKER, MACHINES

AT_ONCE = 16


class Outcome(Struct, frozen=True, kw_only=True):
    """What a command did on one node; `problem` is not empty when it could not be run at all."""

    node: str
    code: int = 0
    output: str = ""
    errors: str = ""
    problem: str = ""
    seconds: float = 0.0


def execute(
    folder: TestnetFolder,
    plan: Plan,
    runtime: Runtime,
    nodes: Sequence[NodePlan],
    command: Sequence[str],
    *,
    timeout: float,
    container: bool = False,
) -> tuple[Outcome, ...]:
    """Run a command for each of `nodes` at once; on machines as root beside the container, or inside it with `container`."""

    def one(node: NodePlan) -> Outcome:
        began = time.monotonic()
        try:
            code, output, errors = _one(folder, plan, runtime, node, command, timeout=timeout, container=container)
        except StratosctlError as error:
            return Outcome(node=node.name, problem=str(error))
        return Outcome(
            node=node.name,
            code=code,
            output=output.decode(errors="replace"),
            errors=errors.decode(errors="replace"),
            seconds=round(time.monotonic() - began, 3),
        )

    with ThreadPoolExecutor(min(AT_ONCE, max(1, len(nodes)))) as pool:
        return tuple(pool.map(one, nodes))


def _one(
    folder: TestnetFolder,
    plan: Plan,
    runtime: Runtime,
    node: NodePlan,
    command: Sequence[str],
    *,
    timeout: float,
    container: bool,
) -> tuple[int, bytes, bytes]:
    if plan.runtime == MACHINES:
        from orchestrator.fleet.connections import run  # SSH only where there are machines
        from orchestrator.runtimes.machines import need_machine

        if container:
            words = ["docker", "exec", container_name(plan.name, node.name), *command]
            text = shlex.join(words)
        else:
            text = f"cd {shlex.quote(home_of(plan.name, node.name))} 2>/dev/null; {shlex.join(command)}"
        done = run(need_machine(runtime, node.name), text, timeout=timeout, sudo=True)
        return done.code, done.stdout, done.stderr
    if plan.runtime == DOCKER:
        from orchestrator.runtimes.docker import DockerRuntime

        assert isinstance(runtime, DockerRuntime)
        code, output = runtime.execute(node.name, command)
        return code, output, b""
    home = folder.nodes / node.name
    try:
        ran = subprocess.run(
            list(command), cwd=home, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        return 127, b"", f"{error.filename}: not found\n".encode()
    except subprocess.TimeoutExpired as error:
        return 124, error.stdout or b"", f"not done in {timeout:g} s\n".encode()
    return ran.returncode, ran.stdout, ran.stderr


def way_to(folder: TestnetFolder, plan: Plan, runtime: Runtime, node: NodePlan) -> list[str]:
    """The program and arguments that open a shell where a node runs."""
    if plan.runtime == MACHINES:
        from orchestrator.runtimes.machines import need_machine

        return ssh_words(need_machine(runtime, node.name))
    if plan.runtime == DOCKER:
        return ["docker", "exec", "-it", container_name(plan.name, node.name), "sh"]
    home = folder.nodes / node.name
    return ["sh", "-c", f'cd {shlex.quote(str(home))} && exec "${{SHELL:-sh}}"']


def ssh_words(machine: Machine) -> list[str]:
    """`ssh` as Ansible would call it for this machine."""
    if machine.connection == "local":
        return [os.environ.get("SHELL", "sh")]
    words = ["ssh", *shlex.split(machine.ssh_args)]
    if machine.port != 22:
        words += ["-p", str(machine.port)]
    if machine.key_file:
        words += ["-i", os.path.expanduser(machine.key_file)]  # noqa: PTH111 - text for another program
    if machine.user:
        words += ["-l", machine.user]
    return [*words, machine.address]
