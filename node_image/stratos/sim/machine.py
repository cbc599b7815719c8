"""What a simulated node runs above consensus: an application with a pool of waiting entries and a restart.

`KeyValue` is the smallest machine that exercises everything consensus promises an application: state roots that depend on
every entry in order, forks of the committed state that may be thrown away, validator sets that change, restarts.
"""

from typing import Protocol

from blake3 import blake3

from stratos.bft.blocks import seal
from stratos.bft.events import Application, BlockTemplate
from stratos.bft.validator_set import ValidatorSet
from stratos.wire.block import Block, Commit, Validator


class Machine(Protocol):
    """A node's application in a simulation."""

    @property
    def application(self) -> Application: ...

    @property
    def state_root(self) -> bytes:
        """Root of the committed state."""
        ...

    def offer(self, entry: bytes) -> None:
        """An entry arrives (already checked as the shell would)."""
        ...

    def has_work(self) -> bool:
        """Whether entries wait."""
        ...

    def prepare(self, block: Block) -> None:
        """Check the signatures of entries never seen here, as the shell does in threads."""
        ...

    def restart(self, stored_height: int) -> None:
        """Forget everything but the committed state of `stored_height` (a crash)."""
        ...


class KeyValue:
    """A key-value store whose entries are `set key value` or `weight index value` (takes effect two heights later)."""

    def __init__(self, validators: ValidatorSet, *, initial_height: int = 1) -> None:
        first = initial_height - 1
        self._committed: dict[int, tuple[bytes, ValidatorSet, frozenset[bytes]]] = {
            first: (b"\0" * 32, validators, frozenset())
        }
        self._height = first
        self._forks: dict[bytes, tuple[bytes, ValidatorSet]] = {}
        self._waiting: dict[bytes, None] = {}

    @property
    def application(self) -> Application:
        return self

    @property
    def height(self) -> int:
        """Committed height."""
        return self._height

    @property
    def state_root(self) -> bytes:
        return self._committed[self._height][0]

    def offer(self, entry: bytes) -> None:
        if entry not in self._committed[self._height][2]:
            self._waiting[entry] = None

    def has_work(self) -> bool:
        return bool(self._waiting)

    def prepare(self, block: Block) -> None:
        return

    def restart(self, stored_height: int) -> None:
        self._height = stored_height
        self._forks.clear()
        self._waiting.clear()

    def _execute(self, height: int, time_ms: int, entries: tuple[bytes, ...]) -> tuple[bytes, ValidatorSet]:
        if height != self._height + 1:
            raise ValueError(f"block {height} does not follow the committed height {self._height}; commit in order")
        root, validators, _ = self._committed[self._height]
        digest = blake3(root + time_ms.to_bytes(8, "big"))
        weights = {validator.address: validator for validator in validators}
        for entry in entries:
            digest.update(blake3(entry).digest())
            words = entry.split()
            if words[0] == b"weight":
                old = validators[int(words[1])]
                weights[old.address] = Validator(old.address, old.public_key, int(words[2]))
        return digest.digest(), type(validators)(weights.values())

    def propose(self, template: BlockTemplate) -> Block:
        entries = tuple(self._waiting)[:50]
        outcome = self._execute(template.height, template.time_ms, entries)
        block = seal(template, entries=entries, state_root=outcome[0], results_root=b"\1" * 32, bridge_root=b"\2" * 32)
        self._forks[block.header.entries_root + block.header.time_ms.to_bytes(8, "big")] = outcome
        return block

    def verify(self, block: Block) -> str | None:
        header = block.header
        known = self._committed[self._height][2]
        if any(entry in known for entry in block.entries) or len(set(block.entries)) != len(block.entries):
            return "block contains an entry twice"
        outcome = self._execute(header.height, header.time_ms, block.entries)
        if outcome[0] != header.state_root:
            return f"state root is {outcome[0].hex()[:16]}, the header says {header.state_root.hex()[:16]}"
        self._forks[header.entries_root + header.time_ms.to_bytes(8, "big")] = outcome
        return None

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        header = block.header
        outcome = self._forks.get(header.entries_root + header.time_ms.to_bytes(8, "big"))
        if outcome is None:
            outcome = self._execute(header.height, header.time_ms, block.entries)
        known = self._committed[self._height][2] | frozenset(block.entries)
        self._height = header.height
        self._committed[self._height] = (*outcome, known)
        self._forks.clear()
        for entry in block.entries:
            self._waiting.pop(entry, None)
        return outcome[1]

    def validators_after(self, height: int) -> ValidatorSet:
        """What committing `height` returned: the set of height + 2."""
        return self._committed[height][1]
