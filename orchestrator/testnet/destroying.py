"""`destroy`: a testnet gone from everywhere, and each host as it was found.

More than `down --purge`: it says beforehand what goes, and on machines it can leave the nodes' data behind (`keep_data`), with the folder and its
keys, so that a later `up` goes on from there. Everything converges: what an interrupted or partly unreachable run left is found by the next
one, because the folder, which knows the machines, goes last. A machine that will never answer again would keep it for ever, so it can be given up
by word (`abandon`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from msgspec import Struct

from orchestrator.errors import PartialFailure
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.process import ProcessRuntime
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet
from orchestrator.topology.topology import MACHINES

STOP_SECONDS = 30.0


class Holding(Struct, frozen=True, kw_only=True):
    """What there is to destroy. `there` is false when there is no such testnet."""

    testnet: str
    folder: str
    runtime: str
    nodes: tuple[str, ...]
    machines: tuple[str, ...]
    there: bool

    @property
    def sentence(self) -> str:
        """What would go."""
        places = {
            "machines": f" on {len(self.machines)} machine{'s' if len(self.machines) != 1 else ''}: {', '.join(self.machines)}",
            "docker": " in containers, with their volumes and networks",
        }
        count = len(self.nodes)
        nodes = f"{count} node{'s' if count != 1 else ''}{places.get(self.runtime, '')}"
        return f"testnet {self.testnet}: {nodes}; and {self.folder} with its keys and runs"


class DestroyReport(Struct, frozen=True, kw_only=True):
    """`stopped` ran before; `kept` says where data was left; `abandoned`: nodes whose hosts were given up, and why."""

    testnet: str
    changed: int
    stopped: tuple[str, ...]
    machines: tuple[str, ...]
    kept: str
    seconds: float
    abandoned: dict[str, str] = {}


def holding(folder: TestnetFolder) -> Holding:
    """What a destroy would take away."""
    plan = folder.plan()
    machines = [machine.name for machine in plan.machines] if plan is not None and plan.runtime == MACHINES else []
    return Holding(
        testnet=folder.name,
        folder=str(folder.path),
        runtime=plan.runtime if plan is not None else "process",
        nodes=tuple(node.name for node in plan.operated) if plan is not None else (),
        machines=tuple(machines),
        there=folder.path.is_dir(),
    )


def destroy_testnet(
    folder: TestnetFolder,
    *,
    keep_data: bool = False,
    abandon: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> DestroyReport:
    """Take the testnet away; raises PartialFailure naming hosts that could not be reached, unless those are to be abandoned,
    EnvironmentFault."""
    began = time.monotonic()
    before = holding(folder)
    stopped: tuple[str, ...] = ()
    abandoned: dict[str, str] = {}
    with hold_testnet(folder.path.parent, folder.name):
        if before.there:
            journal = Journal(folder.journal_file, "destroy")
            journal.step("begun", keep_data=keep_data)
            runtime = _runtime(folder, say)
            try:
                say("stopping nodes")
                stopped = tuple(sorted(runtime.finish(timeout_seconds=STOP_SECONDS)))
                journal.step("stopped", nodes=stopped)
                say("leaving hosts as they were found")
                _take_away(runtime, keep_data=keep_data)
            finally:
                runtime.close()
            if runtime.quarantine and abandon:
                abandoned = dict(runtime.quarantine)
                journal.step("abandoned", nodes=sorted(abandoned))
            elif runtime.quarantine:
                raise PartialFailure(
                    f"testnet {folder.name} is destroyed but for {', '.join(sorted(runtime.quarantine))}: "
                    + "; ".join(dict.fromkeys(runtime.quarantine.values()))
                    + f"; {folder.path} stays until they are done; run the same command again, or give them up with --abandon"
                )
            journal.step("hosts as found")
            if not keep_data:
                # The plan first: half a folder must not look like a testnet.
                folder.plan_file.unlink(missing_ok=True)
                folder.genesis_file.unlink(missing_ok=True)
                shutil.rmtree(folder.path)
    return DestroyReport(
        testnet=folder.name,
        changed=len(stopped) + int(before.there and not keep_data),
        stopped=stopped,
        machines=before.machines,
        kept=str(folder.path) if keep_data and before.there else "",
        seconds=round(time.monotonic() - began, 3),
        abandoned=abandoned,
    )


def _take_away(runtime: Runtime, *, keep_data: bool) -> None:
    """Machines are left as found either way, and their homes go or stay; volumes of containers go or stay."""
    if not keep_data:
        runtime.purge()
        return
    from orchestrator.runtimes.machines import MachinesRuntime  # after the choice: it imports SSH

    if isinstance(runtime, MachinesRuntime):
        runtime.purge(keep_data=True)


def _runtime(folder: TestnetFolder, say: Callable[[str], None]) -> Runtime:
    plan = folder.plan()
    return runtime_for(plan, folder.path, code="", say=say) if plan is not None else ProcessRuntime(folder.path)
