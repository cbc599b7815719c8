"""The state on disk: every block is one synced write batch, so a crash shows either all of it or none.

The batch holds the changed keys, the height, the root and whatever the caller must keep in step with them (`extra`: the
block, its certificate). The authenticated map is not written: its nodes would multiply the batch, and rebuilding it
from 100,000 keys at open takes about a second. At open the rebuilt root is compared with the stored one, so a damaged
file is refused instead of voted on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from stratos.state.branch import Branch
from stratos.state.state import State, StateError

STORE_VERSION = b"1"
_STATE = b"s"
_EXTRA = b"x"
_HEIGHT = b"mheight"
_ROOT = b"mroot"
_VERSION = b"mversion"


class DurableState(State):
    """A state whose commits survive the process. One process at a time may have it open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._database = _open_database(path)
        self._synced = WriteOptions()
        self._synced.sync = True
        version = self._database.get(_VERSION)
        if version is None:
            self._database.put(_VERSION, STORE_VERSION, self._synced)
        elif version != STORE_VERSION:
            raise StateError(
                f"{path} has store version {version.decode(errors='replace')!r} and this program reads "
                f"{STORE_VERSION.decode()!r}; start it with the image that wrote it, or a newer one"
            )
        self._load()

    @classmethod
    def open(cls, path: Path) -> "DurableState":
        """The state last committed at `path`; empty at height 0 when there is none."""
        return cls(path)

    def extra(self, key: bytes) -> bytes | None:
        """A record committed beside the state, or None."""
        value: bytes | None = self._database.get(_EXTRA + key)
        return value

    def put_extra(self, records: Mapping[bytes, bytes]) -> None:
        """Store records beside the state, synced, without a block."""
        batch = WriteBatch(raw_mode=True)
        for key, value in records.items():
            batch.put(_EXTRA + key, value)
        self._database.write(batch, self._synced)

    def close(self) -> None:
        """Close the file; the object is not usable afterwards."""
        self._database.close()

    def _persist(self, branch: Branch, *, height: int, root: bytes, extra: Mapping[bytes, bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in branch.changes().items():
            if value is None:
                batch.delete(_STATE + key)
            else:
                batch.put(_STATE + key, value)
        for key, value in extra.items():
            batch.put(_EXTRA + key, value)
        batch.put(_HEIGHT, b"%d" % height)
        batch.put(_ROOT, root)
        self._database.write(batch, self._synced)

    def _load(self) -> None:
        stored_root = self._database.get(_ROOT)
        changes: dict[bytes, bytes | None] = {}
        for stored, value in self._database.items(from_key=_STATE):
            key = cast(bytes, stored)  # a store opened in raw mode holds nothing but bytes
            if not key.startswith(_STATE):
                break
            changes[key[1:]] = cast(bytes, value)
        self._store.apply(changes)
        self._map = self._map.update(changes)
        self._height = int(self._database.get(_HEIGHT) or b"0")
        if stored_root is not None and stored_root != self.root:
            raise StateError(
                f"{self.path} is damaged: its content has root {self.root.hex()}, height {self._height} was committed "
                f"with {stored_root.hex()}; remove the folder and let the node catch up"
            )


def _open_database(path: Path) -> Rdict:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(16 * 1024 * 1024)
    options.set_max_write_buffer_number(2)
    options.set_keep_log_file_num(2)
    options.set_max_file_opening_threads(
        1
    )  # the default starts 16 threads at each open; there are few files to look at
    try:
        return Rdict(str(path), options)
    except Exception as error:
        raise StateError(f"cannot open the store at {path}: {error}; is another process using it?") from error
