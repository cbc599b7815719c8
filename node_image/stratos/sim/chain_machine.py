"""The value layer's real application on a simulated node: ledger, state, mempool, store; only the disk is memory.

What the shell does beside consensus is done here in the same order: signatures of transactions are checked before the
mempool and before a block that brings unknown ones is executed. The committed state survives a crash, the mempool does
not. Checks of one transaction are shared by all nodes of a simulation, as their answer cannot differ.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

from stratos.bft.events import Application
from stratos.bft.height import Tip, genesis_tip
from stratos.bft.validator_set import ValidatorSet
from stratos.chain.admission import Admission, Checked, Rejected, check_tx
from stratos.chain.application import ChainApplication
from stratos.chain.mempool import Mempool, MempoolError
from stratos.chain.store import ChainStore
from stratos.ledger import bank, rulebook, staking
from stratos.ledger.errors import LedgerError
from stratos.ledger.machine import Ledger
from stratos.state import State
from stratos.wire.block import Block

check_once = lru_cache(maxsize=65_536)(check_tx)


class _InlineAdmission:
    """Answers `prepare` at once; stands where the shell's thread pool is."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash

    async def check(self, raws: Sequence[bytes]) -> list[list[Checked]]:
        return [[check_once(raw, self._genesis_hash) for raw in raws]]


class ChainMachine:
    """One validator's `ChainApplication`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.state = State()
        branch = self.state.fork()
        events = ledger.init_genesis(branch)
        store = ChainStore(self.state, genesis_hash=ledger.genesis_hash)
        self.validators = ValidatorSet(staking.voters(branch))
        height = ledger.genesis.initial_height - 1
        self.state.commit(branch, height, store.genesis_records(self.validators, events, height))
        self._app = self._open()

    @property
    def application(self) -> Application:
        return self._app

    @property
    def chain(self) -> ChainApplication:
        """The application by its own type."""
        return self._app

    @property
    def state_root(self) -> bytes:
        return self.state.root

    def install(self, ledger: Ledger) -> None:
        """Another program takes over this store at the node's next start."""
        self._ledger = ledger

    def _open(self) -> ChainApplication:
        rulebook.require_known(self.state, self.state.height + 1, self._ledger.newest_rules)
        store = ChainStore(self.state, genesis_hash=self._ledger.genesis_hash)
        tip: Tip = store.tip() or genesis_tip(
            time_ms=self._ledger.genesis.time_ms,
            initial_height=self._ledger.genesis.initial_height,
            validators=self.validators,
        )
        app = ChainApplication(
            ledger=self._ledger,
            state=self.state,
            store=store,
            tip=tip,
            mempool=Mempool(),
            max_block_bytes=self._ledger.genesis.value_consensus.max_block_bytes,
            clock=lambda: 0.0,
        )
        app.admission = cast(Admission, _InlineAdmission(self._ledger.genesis_hash))
        return app

    def offer(self, entry: bytes) -> None:
        mempool = self._app.mempool
        checked = check_once(entry, self._ledger.genesis_hash)
        if isinstance(checked, Rejected) or mempool.seen(checked.hash):
            return
        try:
            expected = bank.sequence(self.state, checked.sender)
            waiting = mempool.next_sequence(checked.sender)
            self._ledger.check_tx(self.state, checked.tx, max(expected, waiting or 0, checked.sequence))
            mempool.add(checked, account_sequence=expected, now=0.0)
        except (MempoolError, LedgerError):
            return

    def has_work(self) -> bool:
        return self._app.has_work()

    def prepare(self, block: Block) -> None:
        waiting = self._app.prepare(block)
        if waiting is not None:
            for _ in waiting.__await__():
                raise RuntimeError("the inline admission never waits")

    def restart(self, stored_height: int) -> None:
        self._app = self._open()
        if self._app.height != stored_height:
            raise RuntimeError(f"store is at {self._app.height}, the node thinks {stored_height}")
