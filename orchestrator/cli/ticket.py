"""`stratosctl ticket`: invite a participant's node (create), or look at what a ticket says (show)."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser, whole_number

if TYPE_CHECKING:
    from stratos.wire.ticket import Ticket

EXAMPLES = """  stratosctl ticket create --role resource --tier 1 --expires 7d
  stratosctl ticket create -i inventories/fleet.yml --role meta --expires 24h -o alice.ticket
  stratosctl ticket create --role resource --uses 20 --public-files https://testnet.example.org/net
  stratosctl ticket create --role validator --grant 50000    stakes what the faucet pays, less fees
  stratosctl ticket show alice.ticket

The participant runs `stratosctl join TICKET`. Whoever has the ticket can use it: send it to one person.
"""
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    return int(options.run(options))


def _create(options: argparse.Namespace) -> int:
    import os
    import time

    from orchestrator.joining.issuing import TicketWish, make_ticket  # after parsing: --help must be quick
    from orchestrator.joining.text import wrapped
    from orchestrator.testnet.locate import default_inventory, locate
    from orchestrator.testnet.planning import topology_at
    from stratos.wire.ticket import dump_ticket

    inventory = options.inventory or default_inventory()
    wish = TicketWish(
        role=options.role,
        tier=options.tier,
        expires_seconds=options.expires,
        uses=options.uses,
        grant_wei=int(options.grant) if options.grant is not None else None,
        public_files=options.public_files or "",
        hardware_factor=topology_at(inventory).hardware_factor,
    )
    now_ms = time.time_ns() // 1_000_000
    ticket = make_ticket(locate(inventory), wish, now_ms=now_ms, ticket_id=os.urandom(16))
    text = dump_ticket(ticket)
    if options.output is not None:
        from orchestrator.runtimes.placing import replace_file

        replace_file(options.output, wrapped(text).encode() + b"\n")
    if options.json:
        _print_json(ticket, text)
    elif options.output is not None:
        print(f"wrote {options.output}: {_summary(ticket)}")
    else:
        print(wrapped(text))
    return OK


def _show(options: argparse.Namespace) -> int:
    import time

    from orchestrator.errors import BadInput
    from orchestrator.joining.text import ticket_text
    from stratos.wire.ticket import TicketError, dump_ticket, read_ticket, refuse_ticket

    try:
        ticket = read_ticket(ticket_text(options.ticket))
        if options.json:
            _print_json(ticket, dump_ticket(ticket))
        else:
            for name, value in _fields(ticket).items():
                print(f"{name:<14} {value}")
        refuse_ticket(ticket, now_ms=time.time_ns() // 1_000_000, coordinator=options.coordinator_key)
    except TicketError as error:
        raise BadInput(str(error)) from error
    return OK


def _print_json(ticket: Ticket, text: str) -> None:
    import json

    print(json.dumps({"ticket": text, **_document(ticket)}, indent=2))


def _document(ticket: Ticket) -> dict[str, Any]:
    body = ticket.body
    return {
        "network": body.network,
        "genesis_hash": body.genesis_hash.hex(),
        "role": body.role,
        "tier": body.tier,
        "hardware_factor": body.hardware_permille / 1000,
        "grant_wei": str(body.grant_wei),
        "uses": body.uses,
        "issued_ms": body.issued_ms,
        "expires_ms": body.expires_ms,
        "coordinator": body.coordinator.hex(),
        "meta": [
            {"name": one.name, "rpc": one.rpc, "http": one.http, "key": one.public_key.hex()} for one in body.meta
        ],
        "validators": [
            {"name": one.name, "rest": one.rest, "p2p": one.p2p, "key": one.public_key.hex()} for one in body.validators
        ],
        "faucet": body.faucet,
        "public_files": body.public_files,
        "slice_transport": body.slice_transport,
    }


def _fields(ticket: Ticket) -> dict[str, str]:
    from orchestrator.cli.tables import stos

    body = ticket.body
    return {
        "network": body.network,
        "genesis hash": body.genesis_hash.hex(),
        "invites": f"{body.uses} {body.role} node{'s' * (body.uses > 1)}"
        + (f" of tier {body.tier}" if body.tier else ""),
        "asks for": "the recommended hardware"
        if body.hardware_permille == 1_000
        else f"{body.hardware_permille / 10:g} % of the recommended hardware",
        "grants": f"{stos(int(body.grant_wei))} STOS each" if int(body.grant_wei) else "nothing: bring a wallet",
        "expires": _time(body.expires_ms),
        "coordinator": body.coordinator.hex(),
        "meta nodes": ", ".join(f"{one.name} {one.rpc}" for one in body.meta),
        "validators": ", ".join(f"{one.name} {one.rest}" for one in body.validators),
        "faucet": body.faucet or "none",
        "public files": body.public_files or "none",
    }


def _summary(ticket: Ticket) -> str:
    fields = _fields(ticket)
    return f"{fields['invites']} in network {fields['network']}, until {fields['expires']}"


def _time(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasting(text: str) -> int:
    """Seconds of `7d`, `12h`, `90m`; an argparse type."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not how long, such as 7d, 12h or 90m")
    return int(match[1]) * _UNITS[match[2]]


def coordinator_key(text: str) -> bytes:
    """A coordinator's public key, 64 hex digits; an argparse type."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError(f"{text[:70]!r} is not a coordinator's key of 64 hex digits")
    return bytes.fromhex(text)


def public_url(text: str) -> str:
    """An http or https URL that fits a ticket; an argparse type."""
    if not re.fullmatch(r"https?://[!-~]{1,200}", text):
        raise argparse.ArgumentTypeError(f"{text[:70]!r} is not an http or https URL of at most 200 characters")
    return text


def grant(text: str) -> str:
    """Wei of an amount in STOS, `0` included; an argparse type."""
    from orchestrator.cli.tx import amount_wei

    return "0" if text == "0" else amount_wei(text)


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("ticket", "Invite participants' nodes to your testnet.", examples=EXAMPLES)
    verbs = command.add_subparsers(dest="verb", required=True, metavar="create|show")
    text = "make a ticket, signed with the testnet's coordinator key"
    create = verbs.add_parser("create", help=text, description=text, allow_abbrev=False)
    create.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    create.add_argument(
        "--role", required=True, choices=("resource", "meta", "validator"), help="what the node shall be"
    )
    create.add_argument("--tier", type=whole_number(1, 3), default=0, help="tier of a resource node (default: 1)")
    create.add_argument(
        "--expires", type=lasting, default=lasting("7d"), help="how long it is good, as 12h (default: 7d)"
    )
    create.add_argument("--uses", type=whole_number(1, 10_000), default=1, help="how many nodes may join (default: 1)")
    create.add_argument(
        "--grant",
        type=grant,
        metavar="STOS",
        help="what the faucet pays each node (default: deposit and fees; nothing for a validator, which then brings its stake)",
    )
    create.add_argument("--public-files", type=public_url, metavar="URL", help="where `publish` files are served")
    create.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there, readable by you only")
    create.add_argument("--json", action="store_true", help="print one JSON document")
    create.set_defaults(run=_create)
    text = "verify a ticket and print what it says; exit code 2 when it is forged or has expired"
    show = verbs.add_parser("show", help=text, description=text, allow_abbrev=False)
    show.add_argument("ticket", help="the ticket, its file, or - for standard input")
    show.add_argument(
        "--coordinator-key", type=coordinator_key, metavar="HEX", help="refuse a ticket by another coordinator"
    )
    show.add_argument("--json", action="store_true", help="print one JSON document")
    show.set_defaults(run=_show)
    return command.parse_args(argv)
