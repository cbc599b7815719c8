"""`stratosctl get`: download a file by its handle, every byte verified, and put it in place when it is whole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.storage import Progress, human_bytes, opened, print_json, storage_parser
from orchestrator.errors import BadInput

EXAMPLES = """  stratosctl get sdm://st1.../v.../report.pdf
  stratosctl get sdm://st1.../v... -o copy.pdf
  stratosctl get sdm://st1.../v... -o - | tar t
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from stratos.crypto.handle import parse_handle  # after parsing: --help must be quick

    handle = parse_handle(options.handle)
    target = options.output or handle.name
    if target is None:
        raise BadInput("this handle carries no name; say where the file goes with -o PATH")
    path = Path(target)
    if target != "-" and path.is_dir():
        raise BadInput(f"{path} is a folder; name the file to write with -o")
    if target == "-" and options.json:
        raise BadInput("--json and -o - both want standard output; choose one")
    with opened(options) as client, Progress(f"get {handle.name or 'file'}", wanted=not options.json) as progress:
        sink = cast(BinaryIO, sys.stdout.buffer) if target == "-" else path
        result = client.get(options.handle, sink, progress=progress)
    if options.json:
        print_json(result)
    elif target != "-":
        speed = result.bytes / result.seconds / 1e6 if result.seconds else 0.0
        print(
            f"{path}: {human_bytes(result.bytes)} verified, {result.charged_noz} noz, {result.seconds:.2f} s ({speed:.0f} MB/s)"
        )
    return OK


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser("get", "Download and verify a file by its handle.", examples=EXAMPLES)
    command.add_argument("handle", help="sdm://<wallet>/<content name>[/<file name>]")
    command.add_argument(
        "-o", "--output", metavar="PATH", help="where to write (default: the handle's name); - is stdout"
    )
    return command.parse_args(argv)
