"""`stratosctl proof KEY`: a state value, or its absence, proved with nothing but the genesis file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

EXAMPLES = """  stratosctl proof bank/balance/st1...        a wallet's balance
  stratosctl proof register/resource/stsds1...  a node's record, or that there is none
  stratosctl proof hex:62616e6b2f...            any key
  stratosctl proof bank/balance/user            names of this testnet's wallets and nodes work too
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code (1 when the proof does not hold)."""
    options = _options(argv)
    from orchestrator.chain_api import ChainApi  # after parsing: --help must be quick
    from orchestrator.testnet.locate import locate
    from orchestrator.testnet.trust import proven_value
    from stratos.state.keys import KeyTextError, key_from_text, key_to_text

    if "/" not in options.key and not options.key.startswith("hex:"):
        raise BadInput(f"{options.key[:80]!r} is not a state key; write room/name/<address, name or hex>, or hex:<hex>")
    folder = locate(options.inventory)
    genesis = folder.need_genesis()
    try:
        key = key_from_text(_with_addresses(folder, options.key))
    except KeyTextError as error:
        raise BadInput(str(error)) from error
    proven = proven_value(genesis, ChainApi(folder.endpoints()), key)
    document = {
        "key": key_to_text(key),
        "present": proven.value is not None,
        "value": None if proven.value is None else _readable(proven.value),
        "value_hex": None if proven.value is None else proven.value.hex(),
        "height": proven.height,
        "time_ms": proven.time_ms,
        "state_root": proven.state_root.hex(),
        "block_hash": proven.block_hash.hex(),
        "signatures": proven.signers,
        "verified": True,
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return OK
    text = document["value"] if isinstance(document["value"], str) else json.dumps(document["value"])
    what = f"= {text}" if proven.value is not None else "does not exist"
    print(f"{document['key']} {what}")
    print(
        f"verified from the genesis file: block {proven.height}, {proven.signers} signatures, state root {proven.state_root.hex()}"
    )
    return OK


def _with_addresses(folder: Any, text: str) -> str:
    """A last part that is a name of this testnet is replaced by its address."""
    room, separator, last = text.rpartition("/")
    if not separator or text.startswith("hex:"):
        return text
    from orchestrator.testnet import addresses

    if (folder.wallets / f"{last}.json").exists():
        return f"{room}/{addresses.wallet_address(folder, last).text}"
    if any(node.name == last for node in folder.need_plan().nodes):
        return f"{room}/{addresses.node_address(folder, last).text}"
    return text


def _readable(value: bytes) -> Any:
    """Text for numbers and text; records as JSON; hex for the rest."""
    if value.isascii() and value.decode().isprintable():
        return value.decode()
    import msgspec

    try:
        return json.loads(json.dumps(msgspec.msgpack.decode(value), default=lambda raw: raw.hex()))
    except (msgspec.DecodeError, AttributeError):
        return value.hex()


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("proof", "Prove a state value, or its absence, with only the genesis file.", examples=EXAMPLES)
    command.add_argument("key", metavar="KEY", help="room/name/<address, name or hex>, or hex:<hex>")
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--json", action="store_true", help="print one JSON document")
    return command.parse_args(argv)
