"""`stratosctl cid`: the content name of a file, or of one of its slices.

The file is read once, in pieces; the bytes of the wanted slice go into both hashes as they pass, so a file of any size needs
the same small memory.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from orchestrator.cli import exit_codes
from orchestrator.cli.parsing import parser, whole_number
from orchestrator.cli.telling import Teller
from orchestrator.errors import BadInput
from stratos.crypto.cid import SLICE_BYTES, FileHasher, SliceHasher, cid_text, file_cid

_PIECE_BYTES = 1 << 20
_SHOW_PROGRESS_FROM = 512 << 20

_EXAMPLES = """\
  stratosctl cid film.mp4                   the file's name
  stratosctl cid film.mp4 --video           its name as a video
  stratosctl cid film.mp4 --slice 2         the name of its second 32 MiB slice
"""


def main(argv: list[str]) -> int:
    """Print the text CID alone."""
    options_of = parser("cid", "Print the content name (CID) of a file, or of one of its slices.", examples=_EXAMPLES)
    options_of.add_argument("file", metavar="FILE", help="the file to name; - reads standard input")
    options_of.add_argument(
        "--slice", metavar="N", type=whole_number(1, (1 << 64) - 1), help="name slice N instead (the first is 1)"
    )
    options_of.add_argument("--tag", metavar="T", default="", help="the ASCII encryption tag that is part of the name")
    options_of.add_argument("--video", action="store_true", help="name the file as a video")
    options = options_of.parse_args(argv)

    if options.file == "-":
        cid = _name(sys.stdin.buffer, 0, "standard input", number=options.slice, tag=options.tag, video=options.video)
    else:
        path = Path(options.file)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                cid = _name(file, size, str(path), number=options.slice, tag=options.tag, video=options.video)
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}; name a readable file") from error
    print(cid_text(cid))
    return exit_codes.OK


def _name(file: BinaryIO, size: int, shown: str, *, number: int | None, tag: str, video: bool) -> bytes:
    file_cid(_EMPTY_HASH, tag=tag, video=video)  # a bad tag is refused before a long read, not after it
    whole = FileHasher()
    part = None if number is None else SliceHasher(number)
    start = 0 if number is None else (number - 1) * SLICE_BYTES
    end = start + SLICE_BYTES
    buffer = memoryview(bytearray(_PIECE_BYTES))
    position = 0
    with Teller(wanted=size >= _SHOW_PROGRESS_FROM and sys.stderr.isatty()) as say:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            whole.update(buffer[:count])
            if part is not None and position < end and position + count > start:
                part.update(buffer[max(start - position, 0) : min(end - position, count)])
            position += count
            say(f"{shown}: {position * 100 // max(1, size)} %")
    cid = file_cid(whole.multihash(), tag=tag, video=video)
    if part is None:
        return cid
    if position <= start:
        slices = -(-position // SLICE_BYTES)
        raise BadInput(
            f"{shown} has {position} bytes, which is {slices} slice{'s' if slices != 1 else ''}; there is no slice {number}"
        )
    return part.cid(cid)


_EMPTY_HASH = FileHasher().multihash()
