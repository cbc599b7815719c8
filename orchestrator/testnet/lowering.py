"""`down`: every process of a testnet ends; with purge its folder goes too.

The wish is written first and processes are looked for after, by the locks they hold, so nothing that starts meanwhile
stays behind. Done twice it does nothing the second time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing

from msgspec import Struct

from orchestrator.errors import PartialFailure
from orchestrator.runtimes.choose import runtime_for
from orchestrator.runtimes.process import ProcessRuntime
from orchestrator.runtimes.protocol import Runtime
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.testnet.journal import Journal
from orchestrator.testnet.lock import hold_testnet

STOP_SECONDS = 30.0


class DownReport(Struct, frozen=True, kw_only=True):
    """`stopped`: names of the nodes that ran. `changed` counts them, and the folder when it was removed."""

    testnet: str
    changed: int
    stopped: tuple[str, ...]
    purged: bool
    seconds: float


def lower_testnet(
    folder: TestnetFolder, *, purge: bool = False, say: Callable[[str], None] = lambda _text: None
) -> DownReport:
    """Stop everything of the testnet; raises EnvironmentFault when a process cannot be ended."""
    began = time.monotonic()
    with hold_testnet(folder.path.parent, folder.name):
        there = folder.path.is_dir()
        stopped: tuple[str, ...] = ()
        if there:
            journal = Journal(folder.journal_file, "down")
            journal.step("begun")
            with closing(_runtime(folder, say)) as runtime:
                say("stopping nodes")
                ran = runtime.finish(timeout_seconds=STOP_SECONDS)
                stopped = tuple(sorted(ran))
                journal.step("stopped", nodes=stopped)
                purging = purge and not runtime.quarantine
                if purging:
                    say("removing what they left")
                    runtime.purge()
                if runtime.quarantine:
                    raise PartialFailure(
                        f"stopped {len(stopped)} nodes of testnet {folder.name}, but not all is done: "
                        + "; ".join(dict.fromkeys(runtime.quarantine.values()))
                        + f"; {'the folder stays' if purging else 'nothing was purged'}; run the same command again"
                    )
        purged = purge and there
        if purged:
            # The plan first: half a folder must not look like a testnet.
            folder.plan_file.unlink(missing_ok=True)
            folder.genesis_file.unlink(missing_ok=True)
            shutil.rmtree(folder.path)
    return DownReport(
        testnet=folder.name,
        changed=len(stopped) + int(purged),
        stopped=stopped,
        purged=purged,
        seconds=round(time.monotonic() - began, 3),
    )


def _runtime(folder: TestnetFolder, say: Callable[[str], None]) -> Runtime:
    """The plan's runtime; processes when there is no plan yet, because an `up` may have been killed before it."""
    plan = folder.plan()
    return runtime_for(plan, folder.path, code="", say=say) if plan is not None else ProcessRuntime(folder.path)
