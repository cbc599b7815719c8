"""What a meta node keeps beside its state: the block log, written with the state of the same block in one synced batch.

The store also says by which version of the meta layer's rules its log was made (none: version 1), so that a program with other
rules refuses it instead of going on with it differently.
"""

from stratos.bft.height import Tip, genesis_tip
from stratos.bft.validator_set import ValidatorSet
from stratos.meta.application import Execution
from stratos.net.block_log import BlockLog, StoreMismatch
from stratos.state import Branch, State
from stratos.wire.block import Block, Commit, CommittedBlock, ValidatorChange
from stratos.wire.genesis import Genesis

META_RULES = b"1"
"""Version of the meta layer's rules that this program applies."""
_RULES = b"meta_rules"
MAX_CHANGES = 1_000
"""Authority changes in one answer."""


class MetaStore:
    """Records beside the state; `persist` is the application's way to write a block."""

    def __init__(self, state: State, *, genesis: Genesis, genesis_hash: bytes) -> None:
        self._state = state
        self._genesis = genesis
        found = state.extra(_RULES)
        if found not in (None, META_RULES):
            raise StoreMismatch(
                f"the meta store was made with meta rules version {found.decode(errors='replace')!r} and this program "
                f"applies {META_RULES.decode()!r}; start it with the image that wrote it, or a newer one"
            )
        self._log = BlockLog(state, genesis_hash=genesis_hash)
        self._first: dict[bytes, bytes] = {}
        """Records of the log's beginning, written with the first block."""

    def tip(self, genesis_validators: ValidatorSet) -> Tip:
        """Where the log stands."""
        return self._log.tip() or genesis_tip(
            time_ms=self._genesis.time_ms,
            initial_height=self._genesis.initial_height,
            validators=genesis_validators,
        )

    def begin(self, authorities: ValidatorSet) -> None:
        """Remember the authorities of a log's beginning; without effect on one that has begun."""
        if self._log.is_new:
            self._first = {**self._log.first_records(authorities), _RULES: META_RULES}

    def persist(
        self, branch: Branch, block: Block, commit: Commit, _execution: Execution, following: ValidatorSet
    ) -> None:
        """Write a block, its state and what follows from it, in one batch. `following` votes at height + 2."""
        records = self._first | self._log.records(block, commit, following=following)
        self._state.commit(branch, block.header.height, records)
        self._first = {}

    def validators(self, set_hash: bytes) -> ValidatorSet:
        """The authority set of this hash; KeyError when the log never had it."""
        return self._log.validators(set_hash)

    def block(self, height: int) -> CommittedBlock | None:
        """A committed block with its certificate."""
        return self._log.block(height)

    def change(self, height: int) -> ValidatorChange | None:
        """Header, certificate and, when the set changes after it, the next set."""
        return self._log.change(height)

    def changes(self, first: int) -> tuple[ValidatorChange, ...]:
        """Authority changes at heights >= `first`, at most MAX_CHANGES."""
        return self._log.changes(first, most=MAX_CHANGES)
