"""The log file: what was appended or replaced is what is read, and a crash leaves one whole version."""

from pathlib import Path

import pytest

from stratos.net.wal_file import WalFile
from stratos.wire.file_head import UnknownVersion


def test_appends_are_read_back_in_order_after_reopening(tmp_path: Path) -> None:
    """The file is the concatenation of its appends, across processes."""
    wal = WalFile(tmp_path / "data" / "wal")
    assert wal.read() == b""
    wal.append(b"one")
    wal.append(b"two" * 100_000)
    wal.sync()
    wal.close()
    again = WalFile(tmp_path / "data" / "wal")
    assert again.read() == b"one" + b"two" * 100_000
    again.append(b"three")
    assert again.read().endswith(b"three")
    again.close()


def test_replacing_keeps_only_the_new_content_and_appends_go_on_behind_it(tmp_path: Path) -> None:
    """After a replacement the old records are gone and the file can be appended to."""
    wal = WalFile(tmp_path / "wal")
    wal.append(b"old")
    wal.replace(b"new")
    wal.append(b"er")
    wal.sync()
    assert wal.read() == b"newer"
    wal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["wal"]


def test_a_crash_while_replacing_leaves_the_old_log(tmp_path: Path) -> None:
    """An unfinished replacement beside the log is not looked at."""
    wal = WalFile(tmp_path / "wal")
    wal.append(b"old")
    wal.close()
    (tmp_path / "wal.new").write_bytes(b"half")
    wal = WalFile(tmp_path / "wal")
    assert wal.read() == b"old"
    wal.replace(b"whole")
    assert wal.read() == b"whole"
    wal.close()


def test_the_log_says_its_version_and_readers_do_not_see_it(tmp_path: Path) -> None:
    """The first line stands in a new log and in a replaced one."""
    wal = WalFile(tmp_path / "wal")
    wal.append(b"one")
    assert (tmp_path / "wal").read_bytes() == b"stratos write-ahead-log 1\none"
    wal.replace(b"two")
    assert (tmp_path / "wal").read_bytes() == b"stratos write-ahead-log 1\ntwo"
    wal.close()


def test_a_log_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Its votes belong to a program that can read them."""
    (tmp_path / "wal").write_bytes(b"stratos write-ahead-log 2\nvotes")
    with pytest.raises(UnknownVersion, match=r"wal .*write-ahead-log 2.*start it with the image that wrote it"):
        WalFile(tmp_path / "wal")
    assert (tmp_path / "wal").read_bytes() == b"stratos write-ahead-log 2\nvotes"


def test_a_log_from_before_versions_is_read_and_gets_its_line_when_replaced(tmp_path: Path) -> None:
    """Records without a first line are of version 1."""
    (tmp_path / "wal").write_bytes(b"\0\0\0\1old")
    wal = WalFile(tmp_path / "wal")
    wal.append(b"new")
    assert wal.read() == b"\0\0\0\1oldnew"
    wal.replace(b"kept")
    assert (tmp_path / "wal").read_bytes() == b"stratos write-ahead-log 1\nkept"
    wal.close()


def test_a_first_line_torn_by_a_crash_is_written_again(tmp_path: Path) -> None:
    """Nothing was in the log yet."""
    (tmp_path / "wal").write_bytes(b"stratos wri")
    wal = WalFile(tmp_path / "wal")
    wal.append(b"one")
    assert wal.read() == b"one"
    wal.close()
