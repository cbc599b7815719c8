"""`stratosctl wallet`: make, import, list wallets of a testnet, and read balances.

Secret words are printed once, when a wallet is made, and are read from the terminal or stdin, never from the command
line, where every user of the machine could see them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.testnet.folder import TestnetFolder

EXAMPLES = """  stratosctl wallet new alice
  stratosctl wallet import bob <words.txt
  stratosctl wallet list
  stratosctl wallet balance alice
  stratosctl wallet balance st1...
"""
ENTROPY_BYTES = 32


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick

    folder = locate(options.inventory)
    folder.need_plan()
    document: dict[str, Any] = options.run(folder, options)
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        print(options.show(document))
    return OK


def _new(folder: TestnetFolder, options: argparse.Namespace) -> dict[str, Any]:
    from stratos.crypto.hd import new_mnemonic  # the word list: only here
    from stratos.crypto.keys import WalletKey

    words = new_mnemonic(os.urandom(ENTROPY_BYTES))
    key = WalletKey.from_mnemonic(words)
    _save(folder, options.name, key)
    return {"name": options.name, "address": key.text, "mnemonic": words}


def _import(folder: TestnetFolder, options: argparse.Namespace) -> dict[str, Any]:
    from stratos.crypto.keys import WalletKey

    if sys.stdin.isatty():
        import getpass  # only at a terminal

        words = getpass.getpass("secret words: ")
    else:
        words = sys.stdin.read(4096)
    key = WalletKey.from_mnemonic(words)
    _save(folder, options.name, key)
    return {"name": options.name, "address": key.text}


def _list(folder: TestnetFolder, _options: argparse.Namespace) -> dict[str, Any]:
    from orchestrator.testnet.folder import wallet_of

    names = sorted(path.stem for path in folder.wallets.glob("*.json"))
    return {"wallets": [{"name": name, "address": wallet_of(folder, name).text} for name in names]}


def _balance(folder: TestnetFolder, options: argparse.Namespace) -> dict[str, Any]:
    from orchestrator.chain_api import ChainApi
    from orchestrator.testnet.addresses import wallet_address

    address = wallet_address(folder, options.wallet)
    account = ChainApi(folder.endpoints()).account(address.text)
    document: dict[str, Any] = {
        "wallet": options.wallet,
        "address": address.text,
        "balance_wei": str(account.balance_wei),
        "sequence": account.sequence,
        "height": account.height,
    }
    if (folder.wallets / f"{options.wallet}.json").exists():  # a question about ozone is signed with the client's key
        from stratos.client.blocking import Client
        from stratos.client.errors import ClientError

        try:
            with Client.from_testnet(folder.path, wallet=options.wallet, deadline_seconds=5.0) as client:
                ozone = client.balance()
            document |= {"available_noz": str(ozone.available_noz), "reserved_noz": str(ozone.reserved_noz)}
        except ClientError as error:
            document["ozone"] = f"unknown: {error}"
    return document


def _save(folder: TestnetFolder, name: str, key: Any) -> None:
    from stratos.crypto.keyfile import save_key

    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii() or len(name) > 64:
        raise BadInput(f"{name[:70]!r} is no wallet name; use letters, digits, - and _, at most 64")
    folder.wallets.mkdir(mode=0o700, parents=True, exist_ok=True)
    save_key(folder.wallets / f"{name}.json", key)


def _show_new(document: dict[str, Any]) -> str:
    words = document["mnemonic"]
    return f"wallet {document['name']}: {document['address']}\nsecret words (write them down, they are not shown again):\n{words}"


def _show_list(document: dict[str, Any]) -> str:
    from orchestrator.cli.tables import aligned

    return aligned([("WALLET", "ADDRESS"), *((entry["name"], entry["address"]) for entry in document["wallets"])])


def _show_balance(document: dict[str, Any]) -> str:
    from orchestrator.cli.tables import stos

    named = "" if document["wallet"] == document["address"] else f" ({document['address']})"
    text = f"{document['wallet']}{named}: {stos(int(document['balance_wei']))} STOS"
    if "available_noz" in document:
        available, reserved = int(document["available_noz"]), int(document["reserved_noz"])
        text += f"; ozone for {available:,} bytes of traffic" + (f", {reserved:,} reserved" if reserved else "")
    elif "ozone" in document:
        text += f"; ozone {document['ozone']}"
    return text


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("wallet", "Make, import and list wallets of a testnet; read balances.", examples=EXAMPLES)
    verbs = command.add_subparsers(dest="verb", required=True, metavar="new|import|list|balance")
    rows: list[tuple[str, str, Any, Any]] = [
        ("new", "make a wallet from new secret words", _new, _show_new),
        (
            "import",
            "make a wallet from secret words on stdin",
            _import,
            lambda d: f"wallet {d['name']}: {d['address']}",
        ),
        ("list", "wallets of this testnet", _list, _show_list),
        ("balance", "STOS and ozone of a wallet", _balance, _show_balance),
    ]
    for name, text, run, show in rows:
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name in ("new", "import"):
            verb.add_argument("name", help="what to call it here")
        if name == "balance":
            verb.add_argument("wallet", nargs="?", default="user", help="a wallet's name here, or an address st1...")
        verb.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        verb.set_defaults(run=run, show=show)
    return command.parse_args(argv)
