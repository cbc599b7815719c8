"""What the storage commands (put, get, stream, ls, rm, prepay) share: which testnet, which wallet, progress, sentences.

The testnet is found by its folder: `--testnet NAME`, else the one that the inventory describes (`-i`), else `local`. All
these commands need of it is `genesis.json`, `endpoints.json` and a wallet, so they work from another terminal, while
the inventory is being edited, and against a testnet whose orchestrator is gone.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.parsing import CommandParser, parser
from orchestrator.errors import BAD_INPUT, ENVIRONMENT, PARTIAL, VERDICT_FAILED, StratosctlError

if TYPE_CHECKING:
    from stratos.client.blocking import Client

REFRESH_SECONDS = 0.2
ANSWER_SECONDS = 2.0


class StorageFailure(StratosctlError):
    """A sentence from the client, with the exit code it asks for."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code if exit_code in (VERDICT_FAILED, BAD_INPUT, ENVIRONMENT, PARTIAL) else ENVIRONMENT


def storage_parser(command: str, description: str, *, examples: str) -> CommandParser:
    """A parser with the options every storage command has."""
    made = parser(command, description, examples=examples)
    made.add_argument("-i", "--inventory", type=Path, help="the testnet's inventory (default: inventories/local.yml)")
    made.add_argument("--testnet", metavar="NAME", help="the testnet by name, without looking at an inventory")
    made.add_argument("--wallet", default="user", metavar="NAME", help="whose wallet pays (default: user)")
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def testnet_folder(options: argparse.Namespace) -> Path:
    """The folder of the testnet that the options mean."""
    from orchestrator.testnet.folder import testnets_root
    from orchestrator.testnet.locate import default_inventory, locate

    if options.testnet:
        if "/" in options.testnet or options.testnet.startswith("."):
            raise StorageFailure(
                f"{options.testnet[:60]!r} is not a testnet's name; stratosctl status shows it", BAD_INPUT
            )
        return testnets_root() / str(options.testnet)
    if options.inventory is None:
        # The default testnet is found without reading an inventory, which would take longer than the command itself.
        usual = testnets_root() / default_inventory().stem
        if (usual / "endpoints.json").exists():
            return usual
    return locate(options.inventory).path


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Client]:
    """A client of the testnet with the chosen wallet; its errors become sentences with exit codes."""
    from stratos.client.blocking import Client
    from stratos.client.errors import ClientError

    folder = testnet_folder(options)
    try:
        _need_somebody(folder)
        with Client.from_testnet(folder, wallet=options.wallet) as client:
            yield client
    except ClientError as error:
        raise StorageFailure(str(error), error.exit_code) from error


def _need_somebody(folder: Path) -> None:
    """Refuse at once when no meta node even accepts a connection: a client would go on trying for its whole deadline."""
    from stratos.client.testnet import load_testnet

    testnet = load_testnet(folder)
    for node in testnet.endpoints.meta:
        host, _, port = node.rpc.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        except ConnectionRefusedError:
            continue
        except OSError:
            return  # slow or far away: the client knows how to wait
        return
    raise StorageFailure(
        f"testnet {folder.name} is not running: none of its {len(testnet.endpoints.meta)} meta nodes listens; "
        f"start it with `stratosctl up{'' if folder.name == 'local' else ' -i INVENTORY'}`",
        ENVIRONMENT,
    )


class Progress:
    """A bar on a terminal, nothing elsewhere. Called from worker threads; drawn by rich in a thread of its own."""

    def __init__(self, title: str, *, wanted: bool = True, unit: str = "bytes") -> None:
        self._title = title
        self._unit = unit
        self._wanted = wanted and sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        if self._wanted:
            from rich.console import Console  # only for a person at a terminal
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import (
                Progress as RichProgress,
            )

            columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
            if self._unit == "bytes":
                columns += [DownloadColumn(), TransferSpeedColumn()]
            self._bar = RichProgress(
                *columns,
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=1 / REFRESH_SECONDS,
            )
            self._task = self._bar.add_task(self._title, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """So many of so many are done."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(self._task, completed=done, total=total or None)


def counted(number: int, thing: str) -> str:
    """`1 slice`, `2 slices`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def human_bytes(count: int) -> str:
    """A size for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{count} B"


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
