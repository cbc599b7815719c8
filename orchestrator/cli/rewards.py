"""`stratosctl rewards`: who earned what; `--prove NODE EPOCH` verifies one payout with only the genesis file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.client_sentences import client_sentences
from orchestrator.cli.exit_codes import OK, VERDICT_FAILED
from orchestrator.cli.parsing import parser
from orchestrator.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.rewards.table import RewardTable
    from stratos.client.observer import Observer
    from stratos.client.testnet import Testnet

EXAMPLES = """  stratosctl rewards
  stratosctl rewards --json
  stratosctl rewards --prove resource-1 3
"""
_PRICES_SHOWN = 8
_EPOCHS_SHOWN = 8


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from orchestrator.testnet.locate import locate  # after parsing: --help must be quick
    from stratos.client.observer import Observer
    from stratos.client.testnet import load_testnet

    folder = locate(options.inventory).path
    with client_sentences():
        testnet = load_testnet(folder)
        observer = Observer(testnet.genesis, testnet.endpoints)
    with client_sentences(), observer:
        if options.prove:
            return _prove(testnet, observer, options)
        return _table(testnet, observer, options)


def _table(testnet: Testnet, observer: Observer, options: argparse.Namespace) -> int:
    from orchestrator.chain_api import ChainApi
    from orchestrator.rewards.table import read_rewards

    _, table = read_rewards(testnet.genesis, observer, ChainApi(testnet.endpoints))
    if options.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(table), indent=2).decode())
        return OK
    print_rewards(table)
    return OK


def print_rewards(table: RewardTable) -> None:
    """The reward table for people."""
    from orchestrator.cli.tables import aligned
    from orchestrator.report.amounts import data_size, money, significant
    from orchestrator.report.data import fraction

    rows: list[tuple[str, ...]] = [
        ("NODE", "ROLE", "TRAFFIC", "SHARE", "MINING", "TRAFFIC REWARD", "IMMATURE", "MATURE")
    ]
    for node in table.nodes:
        traffic = data_size(node.traffic_noz) if node.traffic_noz else "-"
        amounts = (money(wei) for wei in (node.mining_wei, node.traffic_wei, node.immature_wei, node.mature_wei))
        rows.append((node.node, node.role, traffic, node.share, *amounts))
    print(aligned(rows))
    print()
    layers = [("LAYER", "MINING", "TRAFFIC REWARD")]
    layers += [(role, money(layer.mining_wei), money(layer.traffic_wei)) for role, layer in table.layers.items()]
    print(aligned(layers))
    print()
    newest = ", ".join(str(flow.epoch) for flow in table.flows[-_EPOCHS_SHOWN:])
    which = f" ({'the newest: ' if len(table.flows) > _EPOCHS_SHOWN else ''}{newest})" if table.flows else ""
    print(f"{table.epochs} epochs settled{which} at height {table.height}")
    prices = table.prices
    shown = prices if len(prices) <= _PRICES_SHOWN else (*prices[:2], *prices[-(_PRICES_SHOWN - 2) :])
    steps = "  ".join(f"{significant(fraction(point.price), 9)} @ {point.height}" for point in shown)
    print(f"ozone, wei per noz @ block: {steps}" if shown else "ozone: none was sold yet")
    if table.differences:
        print(f"{table.differences} figures of the chain are not what the rules give; `stratosctl audit` names them")


def _prove(testnet: Testnet, observer: Observer, options: argparse.Namespace) -> int:
    from orchestrator.errors import VerdictFailed
    from orchestrator.rewards.proof import prove_payout

    node, epoch = options.prove
    if not epoch.isascii() or not epoch.isdecimal() or len(epoch) > 18:
        raise BadInput(f"--prove: {epoch[:40]!r} is no epoch number; write it like --prove {node[:40]} 3")
    try:
        proof = prove_payout(testnet.genesis, observer, node=node, epoch=int(epoch))
    except VerdictFailed as error:
        if not options.json:
            raise
        import msgspec

        print(msgspec.json.encode({"proven": False, "node": node, "epoch": int(epoch), "reason": str(error)}).decode())
        return VERDICT_FAILED
    if options.json:
        import msgspec

        print(
            msgspec.json.format(
                msgspec.json.encode({"proven": True, **msgspec.structs.asdict(proof)}), indent=2
            ).decode()
        )
        return OK
    print(f"payout of {proof.node} in epoch {proof.epoch}, verified with only {testnet.folder / 'genesis.json'}:")
    for link in proof.links:
        print(f"  {link.name:<10} {link.detail}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = parser("rewards", "Per node: traffic, share, rewards, what is immature and mature.", examples=EXAMPLES)
    command.add_argument("-i", "--inventory", type=Path, help="Ansible inventory (default: inventories/local.yml)")
    command.add_argument("--prove", nargs=2, metavar=("NODE", "EPOCH"), help="verify one payout from receipts to state")
    command.add_argument(
        "--json", action="store_true", help="print one JSON document; amounts are integers of wei and noz"
    )
    return command.parse_args(argv)
