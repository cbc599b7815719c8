"""Finds the command, imports only its module, and turns errors into one sentence and an exit code.

`COMMANDS` is the one table of commands. Each row's module under `orchestrator/cli` has `main(argv: list[str]) -> int` and builds its
own parser with `parsing.parser`; nothing of it is imported before the command is chosen, because start-up time is part
of every command. A row whose module is not there is not offered.
"""

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import orchestrator
from orchestrator.cli import exit_codes
from orchestrator.errors import StratosctlError


class Command(NamedTuple):
    """One row: what to type, where it lives, one line of help."""

    name: str
    module: str
    help: str


COMMANDS: dict[str, tuple[Command, ...]] = {
    "Run a testnet": (
        Command("demo", "demo", "the whole story in a minute: up, traffic, epochs, audit, report, down"),
        Command("plan", "plan", "show what an inventory would become, touching nothing"),
        Command("preflight", "preflight", "measure the machines of an inventory against what their nodes need"),
        Command("up", "up", "bring a testnet to what its inventory says"),
        Command("down", "down", "stop every node of a testnet"),
        Command("status", "status", "nodes, heights, roots and health"),
        Command("maintenance", "maintenance", "keep tasks and penalties off resource nodes while you work on them"),
        Command("logs", "logs", "read or follow the nodes' logs"),
    ),
    "Fleet": (
        Command("inventory", "inventory", "check an inventory: every mistake at once, nothing touched"),
        Command("node", "node", "start, stop, kill, pause, unpause single nodes, or say what they use"),
        Command("upgrade", "upgrade", "give every node another image, batch by batch; --rollback"),
        Command("ssh", "ssh", "log in to the machine of a node"),
        Command("exec", "exec", "run a command where nodes run"),
        Command("collect", "collect", "one archive of logs, configs without secrets, metrics and versions"),
        Command("destroy", "destroy", "take a testnet off its machines and leave them as found"),
        Command("load", "load", "traffic from every load host at once, verified, as one result"),
        Command("image", "image", "build, save, load and list the node's container image"),
        Command("bundle", "bundle", "render what belongs on each machine, for running the playbooks by hand"),
        Command("lab", "lab", "machines in containers, to rehearse a fleet on"),
    ),
    "Take part": (
        Command("ticket", "ticket", "create or show a signed ticket with which others join"),
        Command("join", "join", "join a network with a ticket: one machine, measured and provisioned"),
        Command("publish", "publish", "write the public files of a testnet as static files"),
    ),
    "Store and stream": (
        Command("put", "put", "upload a file (or --video) and print its handle"),
        Command("get", "get", "download and verify a file by its handle"),
        Command("stream", "stream", "play a video by its handle"),
        Command("ls", "ls", "list a wallet's files"),
        Command("rm", "rm", "delete a file"),
        Command("gateway", "gateway", "serve playlists and segments to any player"),
        Command("prepay", "prepay", "buy ozone, which pays for traffic"),
    ),
    "Wallets and chain": (
        Command("wallet", "wallet", "new, import, list, balance"),
        Command("tx", "tx", "send, delegate, undelegate, deposit, unbond, withdraw, vote, show"),
        Command("upgrade-rules", "upgrade_rules", "vote newer rules of the ledger into force at a height"),
        Command("proof", "proof", "prove a state value with only the genesis file"),
    ),
    "Money": (
        Command("rewards", "rewards", "who earned what; --prove verifies one payout"),
        Command("audit", "audit", "recompute every payout from three independent ledgers"),
        Command("why", "why", "explain a node's score or a slice's placement"),
    ),
    "Without a network": (
        Command("cid", "cid", "content name of a file or of one of its slices"),
        Command("ledger", "ledger", "replay a script of messages: the ledger as a calculator"),
        Command("simulate", "simulate", "run the protocol core in virtual time from seeds"),
        Command("test", "test_command", "run the tests of this checkout"),
    ),
}

_FOLDER = Path(__file__).parent
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _dispatch(arguments)
        if sys.stdout is not None:  # None: the caller closed it, and wants the exit code only
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _give_up_stdout()  # whoever read our output left
        return exit_codes.PIPE_CLOSED
    except KeyboardInterrupt as error:
        terminated = type(error).__name__ == "Terminated"  # by name: its module is imported by few commands only
        print(f"stratosctl: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        return exit_codes.TERMINATED if terminated else exit_codes.INTERRUPTED
    except StratosctlError as error:
        print(f"stratosctl: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        return _other_failure(error)


def offered() -> dict[str, tuple[Command, ...]]:
    """The table without rows whose module is not there and groups without rows."""
    rows = {group: tuple(row for row in commands if _exists(row)) for group, commands in COMMANDS.items()}
    return {group: commands for group, commands in rows.items() if commands}


def overview() -> str:
    """What `stratosctl --help` prints."""
    lines = [
        "stratosctl: an inventory goes in; a running Stratos testnet, measured traffic and audited rewards come out.",
        "",
        "usage: stratosctl COMMAND [OPTIONS]        stratosctl help COMMAND tells more",
    ]
    for group, commands in offered().items():
        lines += ["", f"{group}:"] + [f"  {command.name:<13} {command.help}" for command in commands]
    lines += ["", "Exit codes:"] + [f"  {code:<13} {meaning}" for code, meaning in exit_codes.MEANINGS.items()]
    return "\n".join(lines)


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        arguments = [*arguments[1:], "--help"]  # `help tx send` is `tx send --help`
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return exit_codes.OK if arguments else exit_codes.BAD_INPUT
    if arguments[0] == "--version":
        print(f"stratosctl {orchestrator.__version__}")
        return exit_codes.OK
    name = arguments[0]
    for commands in COMMANDS.values():
        for command in commands:
            if command.name == name and _exists(command):
                module = importlib.import_module(f"orchestrator.cli.{command.module}")
                return int(module.main(arguments[1:]))
    print(f"stratosctl: {_unknown(name)}", file=sys.stderr)
    return exit_codes.BAD_INPUT


def _exists(command: Command) -> bool:
    return (_FOLDER / f"{command.module}.py").exists()


def _unknown(name: str) -> str:
    import difflib  # only for a mistyped command

    names = [command.name for commands in offered().values() for command in commands]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "stratosctl --help lists the commands"
    return f"there is no command {name[:60]!r}; {hint}"


def _other_failure(error: Exception) -> int:
    from stratos.crypto.errors import CryptoError  # the node's words for malformed input from a person

    if isinstance(error, CryptoError):
        print(f"stratosctl: {error}", file=sys.stderr)
        return exit_codes.BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        print(
            f"stratosctl: {error.filename}: {error.strerror}; check the path, its rights and the disk", file=sys.stderr
        )
        return exit_codes.ENVIRONMENT
    if isinstance(error, OSError) and error.errno in _NO_ROOM:  # of a write, which names no file
        print(
            f"stratosctl: cannot write: {error.strerror}; make room where the output and the testnet's folder go",
            file=sys.stderr,
        )
        _give_up_stdout()
        return exit_codes.ENVIRONMENT
    import traceback  # only for a defect

    traceback.print_exc()
    print("stratosctl: this is a defect in stratosctl; please report it with the lines above", file=sys.stderr)
    return exit_codes.INTERNAL_ERROR


def _give_up_stdout() -> None:
    """Point stdout elsewhere, so that the interpreter's last flush stays quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
