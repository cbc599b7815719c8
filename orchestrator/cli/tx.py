"""`stratosctl tx`: sign a transaction with a wallet of this testnet, submit it and wait for its block."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.exit_codes import BAD_INPUT, OK
from orchestrator.cli.parsing import parser, whole_number
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.testnet.folder import TestnetFolder
    from stratos.wire.txs import Message

EXAMPLES = """  stratosctl tx send alice 2.5                      from the wallet `user`
  stratosctl tx send st1... 10 --from alice
  stratosctl tx delegate validator-1 100
  stratosctl tx deposit resource-1 50 --from resource-1   a node's name is its owner's wallet
  stratosctl tx unbond resource-1 --from resource-1
  stratosctl tx vote meta-5 --voter meta-1 --from meta-1
  stratosctl tx withdraw 1.5
  stratosctl tx propose-upgrade 2 --height 5000 --validator validator-1
  stratosctl tx vote-upgrade 2 --height 5000 --validator validator-2 --against
  stratosctl tx propose-upgrade 1 --height 0 --validator validator-1   cancels the plan while version 1 holds
  stratosctl tx show HASH

amounts are STOS; write 5wei for wei
"""


def main(argv: list[str]) -> int:
    """Run the command; 0 when the transaction is committed with code ok, 2 when the chain refused it."""
    options = _options(argv)
    from orchestrator.chain_api import ChainApi, Refused  # after parsing: --help must be quick
    from orchestrator.testnet.addresses import with_names
    from orchestrator.testnet.locate import locate

    folder = locate(options.inventory)
    folder.need_plan()
    api = ChainApi(folder.endpoints())
    if options.verb == "show":
        if not re.fullmatch("[0-9a-f]{64}", options.hash):
            raise BadInput(f"{options.hash[:70]!r} is no transaction hash; it has 64 hex digits")
        done = api.transaction(options.hash)
    else:
        from orchestrator.testnet.addresses import wallet_key
        from stratos.wire.genesis import genesis_hash

        key = wallet_key(folder, options.sender or options.validator)
        message: Message = options.make(folder, options, key)
        try:
            done = api.send(key, message, genesis_hash=genesis_hash(folder.need_genesis()), memo=options.memo)
        except Refused as error:
            raise BadInput(f"the chain refused this ({error.code}): {with_names(folder, str(error))}") from error
    import msgspec

    if options.json:
        print(msgspec.json.format(msgspec.json.encode(done), indent=2).decode())
    elif done.code == "ok":
        print(f"committed in block {done.height}: {done.hash}")
        for event in done.events:
            told = " ".join(f"{name}={with_names(folder, value)}" for name, value in event["attributes"].items())
            print(f"  {event['kind']} {told}")
        if options.verb == "show":
            print(json.dumps(done.tx, indent=2))
    else:
        reason = with_names(folder, done.error)
        print(f"stratosctl: in block {done.height} but refused ({done.code}): {reason}", file=sys.stderr)
    return OK if done.code == "ok" else BAD_INPUT


def amount_wei(text: str) -> str:
    """Canonical wei of `2.5`, `1,000` or `5wei`; raises ArgumentTypeError."""
    exact = re.fullmatch(r"([1-9][0-9]{0,30})wei", text)
    if exact:
        return exact[1]
    match = re.fullmatch(r"([0-9][0-9,]{0,15})(?:\.([0-9]{1,18}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:50]!r} is not an amount of STOS such as 2.5, or of wei such as 5wei")
    wei = int(match[1].replace(",", "")) * 10**18 + int((match[2] or "").ljust(18, "0"))
    if wei == 0:
        raise argparse.ArgumentTypeError("an amount must be more than 0")
    return str(wei)


def _send(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import wallet_address
    from stratos.wire.txs import Send

    return Send(wallet_address(folder, options.to).raw, options.amount)


def _delegate(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import Delegate

    return Delegate(node_address(folder, options.node).raw, options.amount)


def _undelegate(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import Undelegate

    return Undelegate(node_address(folder, options.node).raw, options.amount)


def _deposit(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import AddDeposit

    return AddDeposit(node_address(folder, options.node).raw, options.amount)


def _unbond(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import Unbond

    return Unbond(node_address(folder, options.node).raw)


def _withdraw(folder: TestnetFolder, options: argparse.Namespace, key: Any) -> Message:
    from orchestrator.testnet.addresses import wallet_address
    from stratos.wire.txs import Withdraw

    recipient = wallet_address(folder, options.to).raw if options.to else key.address
    return Withdraw(options.amount, recipient)


def _vote(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import Vote

    candidate = node_address(folder, options.node).raw
    return Vote(node_address(folder, options.voter).raw, candidate, not options.against)


def _propose_upgrade(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import ProposeUpgrade

    return ProposeUpgrade(node_address(folder, options.validator).raw, options.version, options.height)


def _vote_upgrade(folder: TestnetFolder, options: argparse.Namespace, _key: Any) -> Message:
    from orchestrator.testnet.addresses import node_address
    from stratos.wire.txs import VoteUpgrade

    validator = node_address(folder, options.validator).raw
    return VoteUpgrade(validator, options.version, options.height, not options.against)


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("tx", "Sign a transaction, submit it and wait for its block.", examples=EXAMPLES)
    verbs = command.add_subparsers(
        dest="verb",
        required=True,
        metavar="send|delegate|undelegate|deposit|unbond|withdraw|vote|propose-upgrade|vote-upgrade|show",
    )

    def add(name: str, text: str, make: Any = None, signer: str = "user") -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        verb.set_defaults(make=make)
        if make is not None:
            verb.add_argument(
                "--from",
                dest="sender",
                default="user" if signer == "user" else "",
                metavar="WALLET",
                help=f"who signs (default: {signer})",
            )
            verb.add_argument("--memo", default="", help="a note in the transaction")
        verb.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        return verb

    def amount(verb: argparse.ArgumentParser) -> None:
        verb.add_argument("amount", type=amount_wei, help="STOS, or wei as 5wei")

    verb = add("send", "move STOS to a wallet", _send)
    verb.add_argument("to", help="a wallet's name or address")
    amount(verb)
    for name, text, make in (
        ("delegate", "stake STOS with a validator", _delegate),
        ("undelegate", "take stake back; it returns after the unbonding time", _undelegate),
        ("deposit", "add to the deposit of a node", _deposit),
    ):
        verb = add(name, text, make)
        verb.add_argument("node", help="a node's name or address")
        amount(verb)
    verb = add("unbond", "take a node out of the network; its deposit returns after the lock", _unbond)
    verb.add_argument("node", help="a node's name or address")
    verb = add("withdraw", "move matured rewards to a wallet", _withdraw)
    amount(verb)
    verb.add_argument("--to", default="", help="recipient (default: the signer)")
    verb = add("vote", "vote on the admission of a meta node, as owner of an active one", _vote)
    verb.add_argument("node", help="the candidate's name or address")
    verb.add_argument("--voter", required=True, help="the active meta node in whose name to vote")
    verb.add_argument("--against", action="store_true", help="vote no")
    for name, text, make in (
        (
            "propose-upgrade",
            "propose newer rules of the ledger from a height on, as a validator's operator",
            _propose_upgrade,
        ),
        ("vote-upgrade", "vote on proposed rules, as a validator's operator", _vote_upgrade),
    ):
        verb = add(name, text, make, signer="the validator's operator")
        verb.add_argument("version", type=whole_number(1, 2**31 - 1), help="the rules version")
        verb.add_argument("--height", type=whole_number(0, 2**53), required=True, help="first block under these rules")
        verb.add_argument("--validator", required=True, help="the validator in whose name; its operator signs")
    verb.add_argument("--against", action="store_true", help="vote no")
    verb = add("show", "a committed transaction")
    verb.add_argument("hash", help="its hash, 64 hex digits")
    return command.parse_args(argv)
