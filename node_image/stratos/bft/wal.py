"""Write-ahead log: what a validator must remember of heights that are not in the store yet.

Own proposals (so that none is made twice), own votes, locks with their block (so that a lock outlives the crash of
everybody at once) and the round reached. Records are framed as u32 length | 8 bytes of BLAKE3 | msgpack. A crash may tear the
last, unsynced write: reading stops at the first broken frame. A broken frame with a whole one behind it is not
a torn write but a damaged disk; forgetting the votes behind it could mean voting twice, so that is an error.
"""

from blake3 import blake3
from msgspec import Struct

from stratos.wire.block import Block, Vote, VoteSignatures
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.limits import MAX_FRAME_BYTES
from stratos.wire.scalars import Count, Hash32, Height

_HEAD_BYTES = 12


class WalError(ValueError):
    """The log is damaged in the middle."""


class RoundRecord(Struct, frozen=True, array_like=True, tag="round"):
    """The validator entered this round."""

    height: Height
    round: Count


class ProposalRecord(Struct, frozen=True, array_like=True, tag="proposal"):
    """The validator proposed this block."""

    height: Height
    round: Count
    block_hash: Hash32


class VoteRecord(Struct, frozen=True, array_like=True, tag="vote"):
    """The validator's own signed vote."""

    vote: Vote


class LockRecord(Struct, frozen=True, array_like=True, tag="lock"):
    """The validator locked on `block` in this round, because of the prevotes in `polka`."""

    height: Height
    round: Count
    block: Block
    polka: VoteSignatures


WalRecord = RoundRecord | ProposalRecord | VoteRecord | LockRecord


def frame(record: WalRecord) -> bytes:
    """The bytes of one record in the log."""
    body = encode(record)
    return len(body).to_bytes(4, "big") + blake3(body).digest(8) + body


def _frame_end(log: bytes, start: int) -> int | None:
    """End of the whole frame at `start`, None when there is none."""
    body_start = start + _HEAD_BYTES
    length = int.from_bytes(log[start : start + 4], "big")
    end = body_start + length
    if not 0 < length <= MAX_FRAME_BYTES or end > len(log):
        return None
    if blake3(log[body_start:end]).digest(8) != log[start + 4 : body_start]:
        return None
    return end


def read_log(log: bytes) -> tuple[list[WalRecord], int]:
    """Records of a log and the length of its whole part; raises WalError when it is damaged before that."""
    records: list[WalRecord] = []
    position = 0
    while (end := _frame_end(log, position)) is not None:
        try:
            records.append(decode(log[position + _HEAD_BYTES : end], WalRecord))  # type: ignore[arg-type]
        except WireError as error:
            raise WalError(f"log record at byte {position} is not of this version: {error}") from error
        position = end
    for later in range(position + 1, len(log) - _HEAD_BYTES):
        if _frame_end(log, later) is not None:
            raise WalError(
                f"log is damaged at byte {position} but whole again at {later}; votes may be lost, so restore the file "
                f"or retire this validator key"
            )
    return records, position


def record_height(record: WalRecord) -> int:
    """Height a record belongs to."""
    return record.vote.height if isinstance(record, VoteRecord) else record.height


class Memory(Struct):
    """What the log says about one height."""

    round: int = 0
    proposed: dict[int, bytes] = {}
    votes: dict[tuple[int, int], Vote] = {}
    """Own votes by (round, kind)."""
    lock: LockRecord | None = None

    def learn(self, record: WalRecord) -> None:
        """Take one record in, in the order of the log."""
        if isinstance(record, VoteRecord):
            vote = record.vote
            self.votes.setdefault((vote.round, vote.kind), vote)
            self.round = max(self.round, vote.round)
            return
        self.round = max(self.round, record.round)
        if isinstance(record, ProposalRecord):
            self.proposed.setdefault(record.round, record.block_hash)
        elif isinstance(record, LockRecord) and (self.lock is None or record.round >= self.lock.round):
            self.lock = record


class Journal:
    """The log as the replica sees it: memory per open height, bytes still to be written, bytes to keep on a rewrite."""

    def __init__(self, *, rewrite_bytes: int = 4 * 1024 * 1024) -> None:
        self._memory: dict[int, Memory] = {}
        self._frames: list[tuple[int, bytes]] = []
        self._pending: list[bytes] = []
        self._written = 0
        self._rewrite_bytes = rewrite_bytes

    def load(self, log: bytes, *, stored_height: int) -> bool:
        """Read the log found at start; True when it has a torn end and must be rewritten before appending."""
        records, length = read_log(log)
        for record in records:
            height = record_height(record)
            if height > stored_height:
                self._memory.setdefault(height, Memory()).learn(record)
                self._frames.append((height, frame(record)))
        self._written = length
        return length != len(log)

    def recall(self, height: int) -> Memory:
        """What is remembered of a height (empty for a fresh one)."""
        return self._memory.get(height) or Memory()

    def note(self, record: WalRecord) -> None:
        """Append a record; it is written with the next flush."""
        height = record_height(record)
        data = frame(record)
        self._frames.append((height, data))
        self._pending.append(data)

    def flush(self) -> bytes:
        """Bytes noted since the last flush."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._written += len(data)
        return data

    def forget(self, stored_height: int) -> None:
        """Heights up to this one are in the store for good."""
        self._frames = [(height, data) for height, data in self._frames if height > stored_height]
        for height in [known for known in self._memory if known <= stored_height]:
            del self._memory[height]

    @property
    def is_long(self) -> bool:
        """Whether the log on disk has grown enough to be worth a rewrite."""
        return self._written > self._rewrite_bytes

    def rewrite(self) -> bytes:
        """The whole log again, with nothing but open heights."""
        self._pending.clear()
        data = b"".join(data for _, data in self._frames)
        self._written = len(data)
        return data
