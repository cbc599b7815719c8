"""The log file: what was appended or replaced is what is read, and a crash leaves one whole version."""

from pathlib import Path

from stratos.net.wal_file import WalFile


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
