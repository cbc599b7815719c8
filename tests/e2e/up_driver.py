"""Runs `stratosctl` as a user does: its own process, its own testnets folder, an inventory written by the test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from orchestrator.plan.ports import PortMap, PortSearch, assign_ports
from orchestrator.testnet.ports_in_use import ephemeral_range

ROOT = Path(__file__).resolve().parents[2]
COMMAND_SECONDS = 300.0
"""A command that takes longer hangs, on the slowest machine too."""

SMALL = """
all:
  vars:
    ansible_connection: local
    stratos_copies: 1
    stratos_block_seconds: 0.5
    stratos_meta_block_seconds: 0.5
    stratos_epoch_seconds: 5
    stratos_day_seconds: 10
    stratos_status_seconds: 2
    stratos_suspend_offline_seconds: 60
    stratos_settlement: all
  children:
    validators: {hosts: {v1: }}
    meta: {hosts: {m1: }}
    resource: {hosts: {"r[1:2]": }}
"""

_STOP_AFTER_STEP = """
import os, signal, sys
from orchestrator.testnet import journal
wanted, real = sys.argv.pop(1), journal.Journal.step
def step(self, name, **details):
    real(self, name, **details)
    if name == wanted:
        os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.step = step
from orchestrator.cli.main import main
sys.exit(main())
"""


class BlockClaim:
    """That no other test of this machine uses a block of ports; ends with the last tool that holds it."""

    def __init__(self, root: Path, block: int) -> None:
        self.root = root
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(f"\0stratos-test-block-{block}")
        except OSError:
            self._socket.close()
            raise

    def __del__(self) -> None:
        self._socket.close()


_claims: WeakValueDictionary[int, BlockClaim] = WeakValueDictionary()


class Tool:
    """One testnets folder and one inventory.

    The first block of ports that `up` will look at follows from the folder's name. It is chosen so that no other test of
    this machine has the same: such a one could take the ports while this testnet is down or its `up` was killed.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._claim = _own_root(folder)
        self.inventory = folder / "net.yml"
        self.environment = {**os.environ, "STRATOS_TESTNETS": str(self.root)}
        self.write(SMALL)

    def write(self, text: str) -> None:
        """Write the inventory."""
        self.inventory.write_text(text)

    def command(self, *arguments: str) -> list[str]:
        """The command line of a subcommand on this inventory."""
        program = [sys.executable, "-P", "-m", "orchestrator.cli.main"]
        return [*program, *arguments, "-i", str(self.inventory)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run with --json, which must succeed; the document."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr or done.stdout
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def run_until_step(self, step: str, *arguments: str) -> int:
        """Run a subcommand that kills itself (-9) after a journalled step; its return code."""
        return self.run_until_step_of(step, *arguments[:1], "-i", str(self.inventory), *arguments[1:])

    def run_until_step_of(self, step: str, *command: str) -> int:
        """The same for a whole command line, which need not be about the inventory."""
        program = [sys.executable, "-P", "-c", _STOP_AFTER_STEP, step]
        return subprocess.run(
            [*program, *command], env=self.environment, capture_output=True, timeout=COMMAND_SECONDS, check=False
        ).returncode

    def run_for(self, seconds: float, *arguments: str) -> None:
        """Run a subcommand and kill it (-9) after so many seconds, wherever it is then."""
        with subprocess.Popen(
            self.command(*arguments), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()

    def processes(self) -> list[str]:
        """Command lines of live processes that belong to this folder: by their output, or by their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                ours = str((entry / "fd" / "1").readlink()).startswith(str(self.root))
                ours = ours or f"STRATOS_TESTNETS={self.root}\0".encode() in (entry / "environ").read_bytes()
                if ours and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


def _own_root(folder: Path) -> tuple[Path, BlockClaim | None]:
    """A testnets folder in `folder` whose block is ours, and the claim on it; any folder when too many run here."""
    for number in range(500):
        root = folder / f"testnets{number or ''}"
        search = PortSearch(hint=str(root / "net"), ephemeral=ephemeral_range())
        [block] = assign_ports(PortMap(), ["node"], search, is_free=lambda _: True).blocks
        claim = _claims.get(block)
        if claim is not None and claim.root != root:
            continue
        try:
            claim = claim or BlockClaim(root, block)
        except OSError:
            continue
        _claims[block] = claim
        return root, claim
    return folder / "testnets", None


def eventually(condition: Callable[[], object], *, seconds: float = 120.0) -> None:
    """Wait until the condition holds; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)
