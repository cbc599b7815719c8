"""The write-ahead log survives torn ends and reports real damage."""

import pytest

from stratos.bft.wal import Journal, ProposalRecord, RoundRecord, VoteRecord, WalError, WalRecord, frame, read_log
from stratos.wire.block import PREVOTE, Vote


def vote(height: int, round_number: int, block: bytes) -> Vote:
    return Vote(PREVOTE, height, round_number, block, 0, b"s" * 64)


RECORDS: list[WalRecord] = [RoundRecord(5, 1), ProposalRecord(5, 1, b"b" * 32), VoteRecord(vote(5, 1, b"b" * 32))]


def test_every_torn_end_keeps_the_whole_frames_before_it() -> None:
    """A log cut at any byte gives back exactly the records that were whole."""
    frames = [frame(record) for record in RECORDS]
    log = b"".join(frames)
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    for cut in range(len(log) + 1):
        records, length = read_log(log[:cut])
        whole = max(index for index, end in enumerate(ends) if end <= cut)
        assert records == RECORDS[:whole]
        assert length == ends[whole]


def test_damage_before_whole_records_is_an_error() -> None:
    """A flipped byte in the middle must not silently forget the votes behind it."""
    log = bytearray(b"".join(map(frame, RECORDS)))
    log[14] ^= 1
    with pytest.raises(WalError, match="damaged at byte 0"):
        read_log(bytes(log))


def test_heights_in_the_store_are_forgotten() -> None:
    """Records of stored heights are neither remembered nor kept on a rewrite."""
    journal = Journal()
    log = frame(VoteRecord(vote(4, 0, b"a" * 32))) + frame(VoteRecord(vote(5, 2, b"b" * 32)))
    assert not journal.load(log, stored_height=4)
    assert journal.recall(4).votes == {}
    assert journal.recall(5).votes == {(2, PREVOTE): vote(5, 2, b"b" * 32)}
    assert journal.recall(5).round == 2
    assert read_log(journal.rewrite())[0] == [VoteRecord(vote(5, 2, b"b" * 32))]


def test_a_torn_end_asks_for_a_rewrite() -> None:
    """Appending behind a torn frame would hide what follows, so the log is rewritten first."""
    journal = Journal()
    assert journal.load(frame(RECORDS[0]) + b"\0\0", stored_height=4)
    assert journal.rewrite() == frame(RECORDS[0])
