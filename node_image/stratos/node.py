"""The node's entry: `stratosd run --home DIR [--log stdout]`, and `run_node` for a fork parent that has preloaded this module.

Importing this module and calling `preload` opens nothing (no loop, thread, socket or store), so a parent may fork
afterwards. `run_node` reads the home, runs the room of the node's role until SIGTERM, and exits with 0; whatever
ends a node otherwise is one sentence on stderr and in node.log, and an exit code:

    0  stopped on request                         1  a duty of the node died; the log says which
    2  bad input: config, genesis, key or store   3  environment: port taken, disk full, store locked

Code 2 is also how a validator ends whose program does not know the rules of the next block (`ledger.rulebook`): its store
is whole, and an image that knows them goes on with it. `STRATOS_RULES_UP_TO` lowers what a program claims to know.
"""

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - found by name when a node resolves its first address; forked nodes share it
import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog
import uvloop

from stratos import __version__
from stratos.crypto.errors import CryptoError
from stratos.net.guard import set_failure_sink
from stratos.net.node_log import configure_log
from stratos.wire.codec import prepare_decoders
from stratos.wire.config import ConfigError, NodeConfig, load_config
from stratos.wire.genesis import GenesisError

EXIT_STOPPED = 0
EXIT_DUTY = 1
EXIT_INPUT = 2
EXIT_ENVIRONMENT = 3
ROOMS = {"validator": "stratos.chain.node", "meta": "stratos.meta.node", "resource": "stratos.resource.node"}


class Node(Protocol):
    """What a room's `open_node(home, config)` gives."""

    async def start(self) -> dict[str, Any]:
        """Begin to serve; the ports."""

    async def stop(self) -> None:
        """Serve no more and close everything; also after a start that failed."""


OpenNode = Callable[[Path, NodeConfig], Node]

_log = structlog.get_logger("stratos.node")


class DutyFailed(Exception):
    """A guarded task of the node died."""


def preload() -> None:
    """Import everything any role needs; opens nothing."""
    for module in ROOMS.values():
        importlib.import_module(module)
    prepare()


def prepare() -> None:
    """Work out once, for all nodes forked later, what depends on the code loaded so far and on nothing else."""
    prepare_decoders("stratos")


def run_node(home: Path, *, log_to_stdout: bool = False) -> None:
    """Be the node whose home this is until it is told to stop; SystemExit with a code when it cannot go on."""
    home = Path(home).absolute()
    try:
        config = load_config(home / "config.json")
        log = None if log_to_stdout else home / "node.log"
        configure_log(log, level=config.log_level, max_bytes=config.limits.log_bytes, node=config.name)
        room = importlib.import_module(ROOMS[config.role])
        with contextlib.suppress(FileNotFoundError):
            (home / "ready.json").unlink()
        uvloop.run(_supervised(room.open_node, home, config))
    except Exception as error:  # noqa: BLE001 - the outermost frame turns whatever it was into a sentence and a code
        code, sentence = explain(error)
        _log.error("node ends", code=code, reason=sentence, exc_info=error if code == EXIT_DUTY else None)
        print(f"stratosd: {sentence}", file=sys.stderr)
        raise SystemExit(code) from None


def explain(error: BaseException) -> tuple[int, str]:
    """(exit code, one sentence with the fix) for what ended a node."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__
    for one in chain:
        text = str(one)
        if (
            isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)
        ) or "No space left on device" in text:
            return EXIT_ENVIRONMENT, "the disk is full; make room in the node's data folder and start it again"
    for one in chain:
        if isinstance(one, OSError) and one.errno is not None:  # a time-out has none: whoever let it through died of it
            sentence = str(one.strerror or one)
            where = f" ({one.filename})" if one.filename else ""
            return EXIT_ENVIRONMENT, sentence + where
        if isinstance(one, (ConfigError, GenesisError, CryptoError)) or type(one).__name__ in _INPUT_ERRORS:
            return EXIT_INPUT, str(one)
        if type(one).__name__ == "StateError":
            locked = "another process" in str(one)
            return (EXIT_ENVIRONMENT if locked else EXIT_INPUT), str(one)
    return EXIT_DUTY, f"{type(error).__name__}: {error}"


_INPUT_ERRORS = frozenset(
    {"StoreMismatch", "LedgerError", "WalError", "UnknownVersion", "UnknownRules", "RulesSettingError"}
)
"""By name, because importing their rooms here would load them into nodes of other roles."""


async def _supervised(open_node: OpenNode, home: Path, config: NodeConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    failures: list[tuple[str, BaseException]] = []

    def failed(name: str, error: BaseException) -> None:
        failures.append((name, error))
        loop.call_soon_threadsafe(stop.set)

    set_failure_sink(failed)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = open_node(home, config)
    try:
        _write_ready(home, config, await node.start())
        gc.freeze()
        gc.enable()  # whoever started this process may have disabled it while so much was imported
        await stop.wait()
    finally:
        await node.stop()
    with contextlib.suppress(FileNotFoundError):
        (home / "ready.json").unlink()
    if failures:
        name, error = failures[0]
        raise DutyFailed(f"{name} failed: {error}") from error


def _write_ready(home: Path, config: NodeConfig, ports: dict[str, Any]) -> None:
    document = {"pid": os.getpid(), "name": config.name, "role": config.role, "ports": ports}
    fresh = home / ".ready.json.new"
    fresh.write_bytes(msgspec.json.encode(document) + b"\n")
    os.replace(fresh, home / "ready.json")


def main(arguments: list[str] | None = None) -> int:
    """The program `stratosd`; returns the exit code (or leaves with it)."""
    import argparse  # forked nodes never parse a command line

    parser = argparse.ArgumentParser(prog="stratosd", description="A node of a Stratos network.")
    parser.add_argument(
        "--version", action="store_true", help="show the program's version and the ledger rules it knows"
    )
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="be the node whose home this is, until SIGTERM")
    run.add_argument("--home", type=Path, required=True, help="folder with config.json, genesis.json and node.key")
    run.add_argument(
        "--log", choices=("file", "stdout"), default="file", help="node.log in the home (default), or stdout"
    )
    options = parser.parse_args(arguments)
    if options.version:
        try:
            print(version_text())
        except ValueError as error:
            print(f"stratosd: {error}", file=sys.stderr)
            return EXIT_INPUT
        return EXIT_STOPPED
    if options.command is None:
        parser.error("say what to do: run --home DIR")
    run_node(options.home, log_to_stdout=options.log == "stdout")
    return EXIT_STOPPED


def version_text() -> str:
    """What `stratosd --version` prints: the program's version and the newest version of the ledger's rules it applies.

    ValueError when `STRATOS_RULES_UP_TO` is no version.
    """
    from stratos.ledger.rulebook import known_rules  # the ledger is not loaded into nodes of other roles

    return f"stratosd {__version__}, ledger rules {known_rules(os.environ)}"


if __name__ == "__main__":
    sys.exit(main())
