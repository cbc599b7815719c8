"""`stratosctl lab`: machines in containers, for rehearsing a fleet before there is one."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import CommandParser, parser, whole_number
from orchestrator.cli.telling import Teller

if TYPE_CHECKING:
    from orchestrator.lab.lab import LabState

_EXAMPLES = """  stratosctl lab create rehearsal --machines 7
  stratosctl lab inventory rehearsal --validators 4 --meta 3 --resource 6 -o fleet.yml
  stratosctl up -i fleet.yml
  stratosctl lab kill rehearsal machine3        a host that lost its power
  stratosctl lab start rehearsal machine3
  stratosctl lab destroy rehearsal
"""
_SUFFIXES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST_MEMORY = 128 << 20
_MOST_CPUS = 1024.0
_MOST_NODES = 500
_GROUPS = ("validators", "meta", "resource", "load", "monitor")


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    return int(options.action(options))


def _create(options: argparse.Namespace) -> int:
    from orchestrator.cli.termination import sigterm_interrupts
    from orchestrator.lab.lab import create

    with sigterm_interrupts(), Teller(wanted=not options.json) as say:
        done = create(
            options.name,
            machines=options.machines,
            memory_bytes=options.memory,
            cpus=options.cpus,
            seed_image=options.seed_image,
            prepared=options.prepared,
            say=say,
        )
    if options.json:
        return _print_json(done)
    what = f"{done.made} machines made" if done.made else "nothing to make"
    print(f"lab {options.name} is up: {what}, {done.boot_seconds:.1f} s; {done.lab.folder}")
    _print_machines(done.lab)
    print(
        f"next: stratosctl lab inventory {options.name}, stratosctl lab ssh {options.name} machine1, stratosctl lab destroy {options.name}"
    )
    return OK


def _list(options: argparse.Namespace) -> int:
    from orchestrator.cli.tables import aligned
    from orchestrator.lab.lab import states

    labs = list(states())
    if options.json:
        return _print_json(labs)
    if not labs:
        print("there is no lab; make one with `stratosctl lab create NAME --machines 7`")
        return OK
    rows = [("LAB", "MACHINES", "RUNNING", "SUBNET", "FOLDER")]
    for lab in labs:
        running = sum(machine.state == "running" for machine in lab.machines)
        rows.append((lab.name, str(len(lab.machines)), str(running), lab.subnet, lab.folder))
    print(aligned(rows))
    return OK


def _show(options: argparse.Namespace) -> int:
    from orchestrator.lab.lab import state

    lab = state(options.name)
    if options.json:
        return _print_json(lab)
    _print_machines(lab)
    return OK


def _inventory(options: argparse.Namespace) -> int:
    from orchestrator.lab import inventory
    from orchestrator.lab.folder import LabFolder
    from orchestrator.runtimes.placing import replace_file

    folder = LabFolder(options.name)
    lab = folder.need_lab()
    groups = {group: getattr(options, group) for group in _GROUPS}
    if any(groups.values()):
        made = inventory.fleet_inventory(
            lab, groups, dict(options.set), key_file=folder.key_file, known_hosts=folder.known_hosts
        )
    else:
        made = inventory.machines_inventory(lab, key_file=folder.key_file, known_hosts=folder.known_hosts)
    if options.json:
        return _print_json(made)
    text = inventory.render(made, comment=f"Machines of lab {lab.name}; made by stratosctl lab inventory.")
    if options.output is None:
        print(text.decode(), end="")
    else:
        replace_file(options.output, text)
        print(f"wrote {options.output}", file=sys.stderr)
    return OK


def _destroy(options: argparse.Namespace) -> int:
    from orchestrator.lab.lab import destroy

    removed = destroy(options.name)
    if options.json:
        return _print_json({"lab": options.name, "removed": removed})
    print(f"lab {options.name} is gone" if removed else f"lab {options.name} was gone already")
    return OK


def _control(options: argparse.Namespace) -> int:
    from orchestrator.lab import lab

    {"start": lab.start, "stop": lab.stop, "kill": lab.kill}[options.verb](options.name, options.machine)
    return _show(options)


def _ssh(options: argparse.Namespace) -> NoReturn:
    import shlex

    from orchestrator.lab import inventory
    from orchestrator.lab.folder import LabFolder
    from orchestrator.lab.records import SSH_PORT, USER

    folder = LabFolder(options.name)
    machine = folder.need_lab().machine(options.machine)
    known = shlex.split(inventory.ssh_options(folder.known_hosts))
    target = ["-p", str(SSH_PORT), "-i", str(folder.key_file), *known, f"{USER}@{machine.address}"]
    sys.stdout.flush()
    os.execvp("ssh", ["ssh", *target, *options.command])


def _print_machines(lab: LabState) -> None:
    from orchestrator.cli.tables import aligned

    rows = [("MACHINE", "ADDRESS", "STATE"), *((host.name, host.address, host.state) for host in lab.machines)]
    print(aligned(rows))


def _print_json(record: Any) -> int:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())
    return OK


def memory(text: str) -> int:
    """An argparse type: bytes, with k, m or g for multiples of 1024."""
    digits, suffix = (text[:-1], text[-1].lower()) if text[-1:].lower() in _SUFFIXES else (text, "")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 15):
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a size such as 512m or 2g")
    size = int(digits) * _SUFFIXES.get(suffix, 1)
    if size < _LEAST_MEMORY:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is less than the 128m that a machine needs to boot")
    return size


def cpus(text: str) -> float:
    """An argparse type: a number of processors above 0, fractions allowed."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= _MOST_CPUS:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not a number of processors from 0.1 to {_MOST_CPUS:.0f}")
    return number


def variable(text: str) -> tuple[str, Any]:
    """An argparse type: NAME=VALUE, the value as YAML reads it."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not NAME=VALUE, for example stratos_replicas=2")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} has a value that is no YAML") from error


def _options(argv: list[str]) -> argparse.Namespace:
    from orchestrator.lab.records import MOST_MACHINES

    command = parser(
        "lab",
        "Machines in containers (systemd, sshd, sudo, an own engine) on which fleets are rehearsed.",
        examples=_EXAMPLES,
    )
    verbs = command.add_subparsers(dest="verb", required=True, metavar="ACTION")

    def verb(name: str, text: str, action: Any, *, named: bool = True) -> CommandParser:
        row: CommandParser = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        if named:
            row.add_argument("name", help="the lab")
        row.set_defaults(action=action)
        return row

    row = verb("create", "make a lab, or finish, restart or enlarge the one there is", _create)
    row.add_argument(
        "--machines", type=whole_number(1, MOST_MACHINES), help="how many (default: 1, or as many as it has)"
    )
    row.add_argument("--memory", type=memory, default=0, metavar="SIZE", help="limit of each machine, such as 1g")
    row.add_argument("--cpus", type=cpus, default=0.0, metavar="N", help="limit of each machine, such as 0.5")
    row.add_argument(
        "--prepared", action="store_true", help="new machines come with the packages that our roles would install"
    )
    row.add_argument(
        "--seed-image", type=Path, metavar="FILE", help="a saved image that new machines' engines hold from the start"
    )
    _json(row)
    _json(verb("list", "labs and how many of their machines run", _list, named=False))
    _json(verb("show", "the machines of a lab", _show))
    row = verb(
        "inventory", "the lab as an Ansible inventory, machines only or with nodes dealt out to them", _inventory
    )
    for group in _GROUPS:
        row.add_argument(
            f"--{group}", type=whole_number(0, _MOST_NODES), default=0, metavar="N", help=f"hosts of group {group}"
        )
    row.add_argument(
        "--set", type=variable, action="append", default=[], metavar="NAME=VALUE", help="a variable of all hosts"
    )
    row.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    _json(row)
    for name, text in (
        ("start", "boot machines and wait for them"),
        ("stop", "shut machines down in order"),
        ("kill", "cut machines' power"),
    ):
        row = verb(name, text, _control)
        row.add_argument("machine", nargs="+")
        _json(row)
    row = verb("ssh", "log in to a machine, or run a command there", _ssh)
    row.add_argument("machine")
    row.add_argument("command", nargs=argparse.REMAINDER, help="what to run instead of a shell")
    _json(verb("destroy", "remove a lab and all it held", _destroy))
    return command.parse_args(argv)


def _json(command: CommandParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON document")
