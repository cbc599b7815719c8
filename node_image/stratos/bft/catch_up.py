"""Committed blocks for a node that was down, cut off or is new: whom to ask, for what, and what came out of order.

The node pulls: one peer at a time, a window of heights at a time, the next peer when nothing arrives in time. What
peers claim about their height is only a reason to ask, never believed: each block is checked against its certificate
by the replica before anything is done with it, so a lying peer costs one timeout.
"""

from stratos.wire.block import CatchUpRequest, CommittedBlock

WINDOW = 16
TIMEOUT_SECONDS = 1.0


class CatchUp:
    """Claims of peers, the one outstanding request, blocks that wait for their turn."""

    def __init__(self) -> None:
        self._working: dict[bytes, int] = {}
        self._highest = 0
        """No claim is higher; asked after every event, so it spares a walk over the claims."""
        self._asked: bytes | None = None
        self._asked_last = 0
        self._last_peer = b""
        self._waiting: dict[int, tuple[bytes, CommittedBlock]] = {}

    def note(self, peer: bytes, working_height: int) -> None:
        """A peer says it works on this height, so it has all below."""
        if working_height > self._working.get(peer, 0):
            self._working[peer] = working_height
            self._highest = max(self._highest, working_height)

    def forget_peer(self, peer: bytes) -> None:
        """The peer is gone, or did not answer: ask another."""
        self._working.pop(peer, None)
        if self._asked == peer:
            self._asked = None

    def give_up(self) -> None:
        """The request was not answered in time."""
        if self._asked is not None:
            self.forget_peer(self._asked)

    def advance(self, committed_height: int) -> None:
        """Blocks up to here are committed."""
        for height in [known for known in self._waiting if known <= committed_height]:
            del self._waiting[height]
        if self._asked is not None and committed_height >= self._asked_last:
            self._asked = None

    def next_request(self, committed_height: int) -> tuple[bytes, CatchUpRequest] | None:
        """Whom to ask for what now, None when a request runs or nobody is ahead."""
        if self._asked is not None or self._highest <= committed_height + 1:
            return None
        ahead = sorted(peer for peer, height in self._working.items() if height > committed_height + 1)
        if not ahead:
            return None
        peer = next((peer for peer in ahead if peer > self._last_peer), ahead[0])
        count = min(WINDOW, self._working[peer] - 1 - committed_height)
        self._asked = self._last_peer = peer
        self._asked_last = committed_height + count
        return peer, CatchUpRequest(committed_height + 1, count)

    def hold(self, peer: bytes, message: CommittedBlock, committed_height: int) -> bool:
        """Keep a block that comes before its turn; only from the peer asked and inside the window."""
        height = message.block.header.height
        if peer != self._asked or not committed_height < height <= self._asked_last:
            return False
        self._waiting[height] = (peer, message)
        return True

    def take(self, height: int) -> tuple[bytes, CommittedBlock] | None:
        """The block held for this height, if any."""
        return self._waiting.pop(height, None)
