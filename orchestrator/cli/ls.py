"""`stratosctl ls`: the files of a wallet."""

from __future__ import annotations

import argparse
import time

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.storage import human_bytes, opened, print_json, storage_parser

EXAMPLES = """  stratosctl ls
  stratosctl ls --wallet alice --json
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    with opened(options) as client:
        files = client.ls()
    if options.json:
        print_json({"files": files})
        return OK
    if not files:
        print(f"wallet {options.wallet} has stored nothing yet; stratosctl put FILE")
    for each in files:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.created_ms / 1000))
        kind = "video" if each.video else "file"
        print(f"{when}  {human_bytes(each.size):>10}  {each.copies} copies  {kind:<5}  {each.handle}")
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    return storage_parser("ls", "List a wallet's files with their handles.", examples=EXAMPLES).parse_args(argv)
