"""`stratosctl put`: store a file (or segment and store a video) and print its handle."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.cli.exit_codes import OK, PARTIAL
from orchestrator.cli.parsing import whole_number
from orchestrator.cli.storage import Progress, counted, human_bytes, opened, print_json, storage_parser
from orchestrator.errors import BadInput

MAX_TAG_CHARS = 8
"""What a file's record in the meta layer holds."""

EXAMPLES = """  stratosctl put report.pdf
  stratosctl put film.mp4 --video
  stratosctl put backup.tar --name monday.tar --copies 5 --json
  tar c folder | stratosctl put - --name folder.tar
"""


def main(argv: list[str]) -> int:
    """Run the command; the exit code."""
    options = _options(argv)
    if options.file == "-" and (options.video or not options.name):
        raise BadInput("reading from standard input needs --name NAME and cannot be a video; name a file instead")
    path = Path(options.file)
    if options.file != "-" and not path.is_file():
        raise BadInput(f"{path} is not a file; name the file to put")
    if len(options.tag) > MAX_TAG_CHARS or not options.tag.isascii():
        raise BadInput(f"--tag {options.tag[:40]!r} is not ASCII of at most {MAX_TAG_CHARS} characters; choose another")
    if options.tag and options.video:
        raise BadInput("--tag is not for a --video; leave one of them out")
    with opened(options) as client:
        name = options.name or path.name
        with Progress(f"put {name}", wanted=not options.json, unit="time" if options.video else "bytes") as progress:
            if options.video:
                from stratos.client.video import put_video  # brings ffmpeg's wrapper

                result = put_video(
                    client,
                    path,
                    name=name,
                    copies=options.copies,
                    seconds=options.segment_seconds,
                    progress=progress,
                    started=_say_playable,
                )
            else:
                source = cast(BinaryIO, sys.stdin.buffer) if options.file == "-" else path
                result = client.put(source, name=name, copies=options.copies, tag=options.tag, progress=progress)
    if options.json:
        print_json(
            {
                "handle": result.handle,
                "bytes": result.bytes,
                "copies": result.copies,
                "charged_noz": result.charged_noz,
                "degraded": result.degraded,
                "slices": result.slices,
                "seconds": result.seconds,
            }
        )
    else:
        print(result.handle)
        speed = result.bytes / result.seconds / 1e6 if result.seconds else 0.0
        print(
            f"{human_bytes(result.bytes)} in {counted(result.slices, 'slice')}, {result.copies} copies each, "
            f"{result.charged_noz} noz, {result.seconds:.2f} s ({speed:.0f} MB/s)",
            file=sys.stderr,
        )
    if result.degraded:
        print(
            f"stratosctl: stored with {result.copies} copies only, because too few holders live; "
            "the missing ones are made when more come",
            file=sys.stderr,
        )
        return PARTIAL
    return OK


def _say_playable(upload_id: bytes) -> None:
    print(
        f"plays from its first segment on: `stratosctl gateway`, then its address + /upload/{upload_id.hex()}/index.m3u8",
        file=sys.stderr,
    )


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser("put", "Upload a file, verified and replicated, and print its handle.", examples=EXAMPLES)
    command.add_argument("file", help="the file to store; - reads standard input")
    command.add_argument("--name", help="name in the network (default: the file's own)")
    command.add_argument("--copies", type=whole_number(1, 16), help="copies of every slice (default: the network's)")
    command.add_argument("--tag", default="", help="encryption tag in the file's content name (at most 8 characters)")
    command.add_argument("--video", action="store_true", help="cut into segments that play before the upload is whole")
    command.add_argument(
        "--segment-seconds", type=whole_number(1, 3_600), help="segment length of a video (default: from its size)"
    )
    return command.parse_args(argv)
