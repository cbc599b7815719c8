"""First lines of files: ours is read, none is version 1, any other is refused and not touched."""

from pathlib import Path

import pytest

from stratos.wire.file_head import UnknownVersion, file_head, records_start

HEAD = file_head("diary", 3)
PATH = Path("/home/diary")


def start(data: bytes) -> int | None:
    return records_start(data, kind="diary", version=3, path=PATH)


def test_records_begin_behind_the_head() -> None:
    """The head is one line of ASCII."""
    assert HEAD == b"stratos diary 3\n"
    assert start(HEAD) == len(HEAD)
    assert start(HEAD + b"records") == len(HEAD)


@pytest.mark.parametrize("length", range(len(HEAD)))
def test_a_new_file_and_a_torn_head_need_the_head(length: int) -> None:
    """A crash while the head was written leaves nothing worth keeping."""
    assert start(HEAD[:length]) is None


def test_a_file_without_a_head_is_of_before_heads() -> None:
    """Its records begin at once."""
    assert start(b"\0\0\0\x10record") == 0


@pytest.mark.parametrize(
    "found", [b"stratos diary 4\n", b"stratos diary 33\nrecords", b"stratos other 3\n", b"stratos \xff"]
)
def test_another_version_is_refused(found: bytes) -> None:
    """The sentence names the file, both versions, and the fix."""
    with pytest.raises(
        UnknownVersion, match=r"^/home/diary .*stratos.* reads 'stratos diary 3'; start it with the image"
    ):
        start(found)
