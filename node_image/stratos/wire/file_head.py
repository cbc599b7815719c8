"""The first line of a file that a node appends to: what it is and in which version, in ASCII.

`stratos journal 1` and a newline. A program reads only versions it knows and touches no other: what looks like damage to an
old program may be a newer program's records, and cutting them off would lose votes or earnings. Files without a head are those of
programs from before heads; their records are of version 1. A head cannot be taken for such a record, which begins with a small length.
"""

from pathlib import Path

_MARK = b"stratos "
_MAX_HEAD_BYTES = 64


class UnknownVersion(ValueError):
    """A store is of a version this program does not know; the sentence names store, version and fix."""


def file_head(kind: str, version: int) -> bytes:
    """The first line of a file of this kind and version."""
    return b"%s%s %d\n" % (_MARK, kind.encode(), version)


def records_start(data: bytes, *, kind: str, version: int, path: Path) -> int | None:
    """Where the records in `data` begin; None: the file is new (or died while its head was written) and needs its head.

    Raises UnknownVersion for a head that is not ours.
    """
    head = file_head(kind, version)
    if head.startswith(data):
        return len(head) if data == head else None
    if not data.startswith(_MARK):
        return 0
    line, newline, _ = data[:_MAX_HEAD_BYTES].partition(b"\n")
    if line + newline == head:
        return len(head)
    raise unknown_version(path, f"the {kind} of a node", line.decode(errors="replace"), head.decode().strip())


def unknown_version(path: Path, what: str, found: str, known: str) -> UnknownVersion:
    """The refusal of a store whose version is not known."""
    return UnknownVersion(
        f"{path} ({what}) has version {found!r} and this program reads {known!r}; start it with the image that wrote it, "
        "or a newer one"
    )
