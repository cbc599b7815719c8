"""Which runtime a plan asks for: the one place where the three are told apart.

Modules of runtimes that are not asked for are not imported: what containers and machines need costs half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.plan.plan import Plan
from orchestrator.runtimes.launch import LaunchedParent
from orchestrator.runtimes.protocol import Runtime
from orchestrator.topology.topology import DOCKER, MACHINES


def _silent(_text: str) -> None:
    """Nobody wants to hear."""


def runtime_for(
    plan: Plan,
    folder: Path,
    *,
    launched: LaunchedParent | None = None,
    code: str | None = None,
    say: Callable[[str], None] = _silent,
) -> Runtime:
    """The runtime of the testnet in `folder`. `launched` is a fork parent that is preloading already, `code` the digest of
    the sources that processes should run (None: those a running parent has, else today's)."""
    if plan.runtime == MACHINES:
        from orchestrator.runtimes.machines import MachinesRuntime  # only where there are machines

        return MachinesRuntime(folder, plan, say=say)
    if plan.runtime == DOCKER:
        from orchestrator.runtimes.docker import DockerRuntime

        return DockerRuntime(plan, folder, say=say)
    from orchestrator.runtimes.process import ProcessRuntime, source_digest

    if code is None:
        code = ProcessRuntime(folder).parent_code() or source_digest()
    return ProcessRuntime(folder, spawn=plan.spawn, code=code, launched=launched)
