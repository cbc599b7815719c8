"""`stratosctl prepay`: buy ozone for STOS; one noz of it pays for one byte of traffic."""

from __future__ import annotations

import argparse

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.storage import StorageFailure, human_bytes, opened, print_json, storage_parser, testnet_folder
from orchestrator.cli.tx import amount_wei

EXAMPLES = """  stratosctl prepay 10
  stratosctl prepay 5000000000wei --wallet alice
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    try:
        with opened(options) as client:
            result = client.prepay(int(options.amount))
            balance = client.balance()
    except StorageFailure as error:
        from orchestrator.testnet.addresses import with_names  # the chain's sentences know addresses only
        from orchestrator.testnet.folder import TestnetFolder

        folder = TestnetFolder(testnet_folder(options))
        raise StorageFailure(with_names(folder, str(error)), error.exit_code) from error
    if options.json:
        print_json(
            {
                "tx_hash": result.tx_hash,
                "height": result.height,
                "amount_wei": str(result.amount_wei),
                "bought_noz": str(result.bought_noz),
                "available_noz": str(balance.available_noz),
            }
        )
    else:
        print(
            f"bought {result.bought_noz} noz at height {result.height}; wallet {options.wallet} has {balance.available_noz} noz, "
            f"good for {human_bytes(balance.available_noz)} of traffic"
        )
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser("prepay", "Buy ozone, which pays for traffic.", examples=EXAMPLES)
    command.add_argument("amount", type=amount_wei, help="STOS, or wei as 5wei")
    return command.parse_args(argv)
