"""The load generator's own ledger: whole lines, readable after a kill."""

from pathlib import Path

import pytest

from stratos.client.ledgerfile import LedgerFile, OperationLine, ReceiptLine, read_ledger

RECEIPT = ReceiptLine(time_ms=1, wallet="aa", kind=2, task="bb", earner="cc", epoch=3, total_noz=10**18, digest="dd")
OPERATION = OperationLine(time_ms=2, op="put", wallet="aa", ok=False, error="no room", bytes=5)


def test_lines_come_back_as_written(tmp_path: Path) -> None:
    """Lines of several files are read in order of file names, each typed."""
    for name, lines in (("b", [OPERATION]), ("a", [RECEIPT, OPERATION])):
        file = LedgerFile(tmp_path / "ledger", name)
        file.write(*lines)
        file.close()
        file.write(RECEIPT)
    assert list(read_ledger(tmp_path / "ledger")) == [RECEIPT, OPERATION, OPERATION]


def test_a_torn_last_line_is_ignored_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    """What a kill cut off is no line; a line that was changed is an error with its place."""
    file = LedgerFile(tmp_path, "a")
    file.write(RECEIPT)
    file.close()
    assert file.path is not None
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + whole[:20])
    assert list(read_ledger(tmp_path)) == [RECEIPT]
    file.path.write_bytes(whole.replace(b'"kind":2', b'"kind":x') + whole)
    with pytest.raises(ValueError, match=r"a\.jsonl:1"):
        list(read_ledger(tmp_path))


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    """A client without a ledger folder writes nowhere."""
    file = LedgerFile(None, "a")
    file.write(RECEIPT)
    file.close()
    assert list(tmp_path.iterdir()) == []
