"""`stratosctl why NODE|SLICE|HANDLE`: the history behind a node's score, the lottery behind a slice's holders.

The lottery is drawn again here, from a seed whose random part is checked against a header verified from the genesis
file; exit code 1 says that it came out differently.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.exit_codes import OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput, StratosctlError

if TYPE_CHECKING:
    from orchestrator.testnet.folder import TestnetFolder
    from stratos.client.observer import Observer
    from stratos.client.why import SliceReason

EXAMPLES = """  stratosctl why resource-3               a node of this testnet, by name or stsds1... address
  stratosctl why 6bbcad9827fb...          a slice, by the 64 hex digits of its BLAKE3 digest
  stratosctl why sdm://st1.../v05j...     every slice of a file
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code (1 when a lottery does not come out as it was decided)."""
    options = _options(argv)
    from orchestrator.testnet import addresses  # after parsing: --help must be quick
    from orchestrator.testnet.locate import locate
    from stratos.client.errors import ClientError
    from stratos.client.observer import Observer
    from stratos.client.testnet import load_testnet
    from stratos.crypto.keys import node_address

    folder = locate(options.inventory)
    try:
        testnet = load_testnet(folder.path)
        names = {node_address(bytes.fromhex(node.public_key)): node.name for node in testnet.endpoints.resource}
        with Observer(testnet.genesis, testnet.endpoints) as observer:
            digests = _digests(observer, options.about)
            if digests is None:
                _need_score(folder, options.about)
                return _node(observer, addresses.node_address(folder, options.about).raw, as_json=options.json)
            return _slices(observer, digests, names, as_json=options.json)
    except ClientError as error:
        raise _Failed(str(error), error.exit_code) from error


class _Failed(StratosctlError):
    """A sentence from the network, with the exit code it asks for."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def _need_score(folder: TestnetFolder, about: str) -> None:
    """Refuse what has no score: a node of another layer, a digest that is not whole."""
    node = next((one for one in folder.need_plan().nodes if about in (one.name, one.node)), None)
    if node is not None and node.role != "resource":
        raise BadInput(f"{about} is a {node.role} node, and only resource nodes have a score; name one of those")
    if node is None and re.fullmatch(r"[0-9a-f]{4,63}", about):
        raise BadInput(f"{about!r} is no whole slice digest; it has 64 hex digits, this has {len(about)}")


def _digests(observer: Observer, about: str) -> tuple[bytes, ...] | None:
    """Slices that the argument means; None when it means a node."""
    if about.startswith("sdm://"):
        from stratos.client.why import slices_of_file
        from stratos.crypto.handle import HandleError, parse_handle

        try:
            handle = parse_handle(about)
        except HandleError as error:
            raise BadInput(str(error)) from error
        return slices_of_file(observer, handle.wallet, handle.cid)
    if len(about) == 64:
        try:
            return (bytes.fromhex(about),)
        except ValueError:
            return None
    return None


def _node(observer: Observer, address: bytes, *, as_json: bool) -> int:
    from stratos.client.why import explain_node
    from stratos.crypto import bech32

    found = explain_node(observer, address)
    holder = found.holder
    history = [{"time_ms": at, "reason": reason, "change": change} for at, reason, change in found.history]
    if as_json:
        document = {
            "node": bech32.encode(bech32.NODE, address),
            "name": holder.name,
            "status": holder.status,
            "score": holder.score,
            "start": observer.genesis.meta.score_start,
            "floor": observer.genesis.meta.score_floor,
            "last_status_ms": holder.last_status_ms,
            "history": history,
            "height": found.stamp.height,
        }
        print(json.dumps(document, indent=2))
        return OK
    start, floor = observer.genesis.meta.score_start, observer.genesis.meta.score_floor
    print(f"{holder.name or bech32.encode(bech32.NODE, address)} is {holder.status}, score {holder.score:,}")
    print(f"everybody starts at {start:,}; work is given in proportion; below {floor:,} a node is suspended")
    for at, reason, change in found.history:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1000))
        print(f"  {when}  {change:+6,}  {_REASONS.get(reason, reason)}")
    if not found.history:
        print("  nothing has changed its score yet")
    return OK


_REASONS = {
    "on_time": "reported its status in time",
    "stored": "stored slices of uploads",
    "served": "served downloads",
    "repaired": "made lost copies again",
    "unavailable": "fell silent",
    "undelivered": "did not confirm a copy it was assigned",
    "repair_expired": "did not carry out a repair in time",
    "dispute": "fell silent in a step of a transfer",
    "possession": "could not prove that it has a slice",
}


def _slices(observer: Observer, digests: tuple[bytes, ...], names: dict[bytes, str], *, as_json: bool) -> int:
    from stratos.client.why import explain_slice

    reasons = [explain_slice(observer, digest) for digest in digests]
    code = OK
    documents = []
    for reason in reasons:
        kept = bool(reason.answer.candidates)
        if not reason.seed_proven or (kept and not reason.agrees):
            code = VERDICT_FAILED
        if as_json:
            documents.append(_document(reason, names))
        else:
            _print_slice(reason, names)
    if as_json:
        print(json.dumps({"slices": documents, "agrees": code == OK}, indent=2))
    elif not reasons:
        print("an empty file has no slices")
    return code


def _document(reason: SliceReason, names: dict[bytes, str]) -> dict[str, Any]:
    answer = reason.answer
    return {
        "slice": answer.slice.spec.digest.hex(),
        "bytes": answer.slice.spec.length,
        "holders": [names.get(a, a.hex()) for a in answer.slice.holders],
        "copies_wanted": answer.copies,
        "references": answer.references,
        "seed": answer.seed.hex(),
        "block": answer.placed_height,
        "certificate": reason.certificate.hex(),
        "beacon": answer.beacon.hex(),
        "chosen": [names.get(a, a.hex()) for a in answer.chosen],
        "drawn_again": [names.get(a, a.hex()) for a in reason.drawn],
        "table": [
            {"node": names.get(row.address, row.address.hex()), "host": row.host, "score": row.weight, "tier": row.tier}
            for row in answer.candidates
        ],
        "seed_proven": reason.seed_proven,
        "agrees": reason.agrees if answer.candidates else None,
    }


def _print_slice(reason: SliceReason, names: dict[bytes, str]) -> None:
    answer = reason.answer

    def named(addresses: tuple[bytes, ...]) -> str:
        return ", ".join(names.get(address, address.hex()[:12]) for address in addresses) or "nobody"

    print(f"slice {answer.slice.spec.digest.hex()}, {answer.slice.spec.length:,} bytes")
    print(f"  held by        {named(answer.slice.holders)} (wanted: {answer.copies}; references: {answer.references})")
    print(f"  lottery        meta block {answer.placed_height}, chose {named(answer.chosen)}")
    print("  seed           BLAKE3(slice, wallet, session, certificate of the block before, epoch beacon)")
    print(
        f"                 {answer.seed.hex()}: {'verified from the genesis file' if reason.seed_proven else 'DOES NOT FIT'}"
    )
    if not answer.candidates:
        print("  drawn again    the table of that lottery is no longer kept")
        return
    table = ", ".join(f"{names.get(row.address, row.address.hex()[:12])} {row.weight:,}" for row in answer.candidates)
    print(f"  table          {table}")
    print(f"  drawn again    {named(reason.drawn)}: {'agrees' if reason.agrees else 'DIFFERS'}")


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("why", "Explain a node's score, or draw the lottery that placed a slice again.", examples=EXAMPLES)
    command.add_argument(
        "about", metavar="NODE|SLICE|HANDLE", help="a node's name or address, a slice digest, or a handle"
    )
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
