"""`stratosctl join TICKET`: a node of yours takes part in a network that others run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.parsing import parser
from orchestrator.cli.telling import Teller

EXAMPLES = """  stratosctl join alice.ticket                            this machine (needs root and a container engine, or installs one)
  stratosctl join alice.ticket --host admin@203.0.113.7   a machine of yours over SSH
  stratosctl join alice.ticket --runtime process          a trial: one process of this machine, no root, no container
  stratosctl join - --coordinator-key 5f1e... < mail.txt  only when the coordinator you know signed it

Nothing is asked: what is missing is found out, or refused with the option to give. The inventory it writes is yours;
the same command finishes an interrupted join, and changes nothing when all is done.
"""


def main(argv: list[str]) -> int:
    """Run the command; 0 when the node is active."""
    options = _options(argv)
    from orchestrator.joining.joining import Joining, JoinWish  # after parsing: --help must be quick
    from orchestrator.joining.text import ticket_text

    wish = JoinWish(
        ticket=ticket_text(options.ticket),
        coordinator=options.coordinator_key,
        output=options.output,
        testnet=options.testnet or "",
        host=options.host or "",
        ssh_key=options.ssh_key,
        name=options.name or "",
        address=options.address or "",
        region=options.region or "",
        disk=options.disk,
        runtime=options.runtime,
        wallet=options.wallet,
        stake_wei=int(options.stake or 0),
        measure=options.measure,
    )
    with Teller(wanted=not options.json) as say:
        report = Joining(wish, say=say).run()
    code = OK if report.active else PARTIAL
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return code
    for note in report.notes:
        print(note)
    done = "was so already; nothing changed" if not report.changed else f"{report.seconds:.1f} s"
    state = "active" if report.active else "not active yet: run the same command again"
    tier = f", tier {report.tier}" if report.tier else ""
    print(f"{report.node} ({report.role}{tier}) takes part in {report.network} and is {state}; {done}")
    print(f"node {report.address}    owner {report.owner}")
    print(f"its keys are in {report.folder}/keys: keep a copy, they are the node and its money")
    inventory = report.inventory
    print(
        f"next: stratosctl status -i {inventory}    stratosctl rewards -i {inventory}    stratosctl logs -f -i {inventory}"
    )
    if report.role == "validator":
        leave = f"undelegate {report.node} {report.stake_wei}wei"
        then = "when it votes no more"
    else:
        leave, then = f"unbond {report.node}", "when the cooling-off has passed"
    print(
        f"to leave: stratosctl tx {leave} --from {report.node} -i {inventory}, and `stratosctl down -i {inventory}` {then}"
    )
    return code


def _options(argv: list[str]) -> argparse.Namespace:
    from orchestrator.cli.ticket import coordinator_key, grant

    command = parser("join", "Take part with one node in a network that others run.", examples=EXAMPLES)
    command.add_argument("ticket", help="the ticket, its file, or - for standard input")
    command.add_argument(
        "--coordinator-key", type=coordinator_key, metavar="HEX", help="refuse a ticket by another coordinator"
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the inventory to write (default: ./NETWORK.yml)"
    )
    command.add_argument("--testnet", type=_name, help="what to call it here (default: the network's name)")
    command.add_argument(
        "--host", metavar="USER@ADDRESS", help="put the node on this machine, over SSH (default: here)"
    )
    command.add_argument(
        "--ssh-key", type=Path, metavar="FILE", help="private key for --host (default: as ssh finds one)"
    )
    command.add_argument("--name", type=_name, help="the node's name (default: role and this machine's name)")
    command.add_argument("--address", type=_address, help="where others reach the node (default: found out)")
    command.add_argument("--region", type=_name, help="region label")
    command.add_argument("--disk", type=_disk, default="16 GiB", help="what a resource node offers (default: 16 GiB)")
    command.add_argument(
        "--runtime",
        choices=("machines", "process"),
        default="machines",
        help="how it runs (default: machines)",
    )
    command.add_argument(
        "--wallet", type=Path, metavar="FILE", help="key file of the owner's wallet (default: a new one)"
    )
    command.add_argument(
        "--stake",
        type=grant,
        metavar="STOS",
        help="what a validator stakes (default: what the ticket grants, else as the genesis's smallest)",
    )
    command.add_argument("--measure", action="store_true", help="measure the machine also for a trial by process")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,62})", text):
        raise argparse.ArgumentTypeError(f"{text[:70]!r} is not a name of lower-case letters, digits, '.', '_' and '-'")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252})", text):
        raise argparse.ArgumentTypeError(f"{text[:70]!r} is not a host name or an address")
    return text


def _disk(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,19}\s*(|B|KiB|MiB|GiB|TiB)", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a size such as 2 TiB or 500 GiB")
    return text
