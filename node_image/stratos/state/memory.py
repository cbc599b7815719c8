"""The whole committed state in memory: a dict, plus key order where somebody asks for it.

Reads are one dict lookup. Order is kept per room (the key up to its second slash, e.g. `bank/balance/`) and only made
when a room is iterated: rooms that are only read by key, which are the large ones, never pay for sorting. A room
changed since its last iteration is sorted again, which is linear for nearly sorted input.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping


def room_of(key: bytes) -> bytes:
    """The room of a key: up to and with its second slash, the whole key when it has none."""
    first = key.find(b"/")
    if first < 0:
        return key
    second = key.find(b"/", first + 1)
    return key if second < 0 else key[: second + 1]


class MemoryStore:
    """Committed keys and values, readable in key order."""

    __slots__ = ("_order", "_rooms", "_values", "get")

    get: Callable[[bytes], bytes | None]
    """The value of a key, or None: the dict's own lookup, because every read of a transaction ends here."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self.get = self._values.get
        self._rooms: dict[bytes, set[bytes]] = {}
        self._order: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (key, value) with this prefix, in key order."""
        values = self._values
        for room in self._rooms_under(prefix):
            keys = self._sorted(room)
            position = bisect_left(keys, prefix)
            while position < len(keys):
                key = keys[position]
                if not key.startswith(prefix):
                    break
                yield key, values[key]
                position += 1

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all changes; None deletes."""
        values = self._values
        for key, value in changes.items():
            if value is None:
                if values.pop(key, None) is not None:
                    room = room_of(key)
                    members = self._rooms[room]
                    members.discard(key)
                    self._order.pop(room, None)
                    if not members:
                        del self._rooms[room]
            else:
                if key not in values:
                    room = room_of(key)
                    self._rooms.setdefault(room, set()).add(key)
                    self._order.pop(room, None)
                values[key] = value

    def _rooms_under(self, prefix: bytes) -> list[bytes]:
        return sorted(room for room in self._rooms if room.startswith(prefix) or prefix.startswith(room))

    def _sorted(self, room: bytes) -> list[bytes]:
        keys = self._order.get(room)
        if keys is None:
            keys = self._order[room] = sorted(self._rooms[room])
        return keys
