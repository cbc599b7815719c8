"""`stratosctl stream`: verified bytes in order, as they arrive, to standard output or a file.

A stored video is a sequence of MPEG-TS segments, so its stream plays in any player that reads a pipe; `stratosctl gateway`
serves it with a playlist and seeking.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import whole_number
from orchestrator.cli.storage import Progress, opened, print_json, storage_parser
from orchestrator.errors import BadInput, EnvironmentFault

EXAMPLES = """  stratosctl stream sdm://st1.../v.../film.mp4 | ffplay -
  stratosctl stream sdm://st1.../v... --offset 1048576 --length 65536 -o part.bin
"""
MOST = 2**62


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    from stratos.crypto.handle import parse_handle  # after parsing: --help must be quick

    handle = parse_handle(options.handle)
    if options.output == "-" and sys.stdout.isatty():
        raise BadInput("the stream is not text; pipe it into a player, or write it to a file with -o PATH")
    if options.output == "-" and options.json:
        raise BadInput("--json needs the stream elsewhere; give -o PATH")
    started = time.monotonic()
    first = 0.0
    done = 0
    with opened(options) as client:
        size = client.open(options.handle).size
        if options.offset > size:  # said before the output is opened, which empties a file that is there
            raise BadInput(f"--offset {options.offset} is outside the file of {size} bytes; choose a smaller one")
        whole = min(options.length or MOST, size - options.offset)
        shown = f"stream {handle.name or 'file'}"
        with _sink(options.output) as sink, Progress(shown, wanted=not options.json) as progress:
            for chunk in client.stream(options.handle, offset=options.offset, length=options.length):
                first = first or time.monotonic() - started
                sink.write(chunk)
                done += len(chunk)
                progress(done, whole)
            sink.flush()
    if options.json:
        seconds = round(time.monotonic() - started, 6)
        print_json({"handle": options.handle, "bytes": done, "first_byte_seconds": round(first, 6), "seconds": seconds})
    return OK


@contextmanager
def _sink(output: str) -> Iterator[BinaryIO]:
    if output == "-":
        yield sys.stdout.buffer
        return
    try:
        with Path(output).open("wb") as file:
            yield file
    except OSError as error:
        raise EnvironmentFault(f"cannot write {output}: {error.strerror}; choose another place") from error


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser("stream", "Read a file or video in order while it arrives.", examples=EXAMPLES)
    command.add_argument("handle", help="sdm://<wallet>/<content name>[/<file name>]")
    command.add_argument(
        "-o", "--output", metavar="PATH", default="-", help="where to write (default: standard output)"
    )
    command.add_argument("--offset", type=whole_number(0, MOST), default=0, help="first byte (default 0)")
    command.add_argument("--length", type=whole_number(1, MOST), help="bytes to read (default: to the end)")
    return command.parse_args(argv)
