"""The value layer as the consensus host runs it: mempool in, ledger in the middle, store at the end.

A block is executed once: by the proposer when it builds it, by everybody else when they verify it; `commit` only keeps that
execution's branch and writes it. Executions wait by block hash (several rounds of one height may have different
blocks); `commit` drops the others. Blocks are kept small enough to execute in `EXECUTION_TARGET_SECONDS` by measuring how
fast this node executes; that only steers what it proposes, never what it accepts.
"""

import time
from collections.abc import Awaitable, Callable, Sequence

from blake3 import blake3

from stratos.bft.blocks import header_hash, seal
from stratos.bft.events import BlockTemplate
from stratos.bft.height import Tip
from stratos.bft.validator_set import ValidatorSet
from stratos.chain.admission import Admission, Rejected
from stratos.chain.execution import Execution, block_context, execute
from stratos.chain.mempool import CheckedTx, Mempool
from stratos.chain.store import ChainStore
from stratos.ledger.machine import Ledger
from stratos.state import State
from stratos.wire.block import Block, Commit, CommittedBlock
from stratos.wire.limits import FULL_BRIDGE_BYTES, MAX_TXS_PER_BLOCK

EXECUTION_TARGET_SECONDS = 0.2
MIN_TXS_PER_BLOCK = 64
FIRST_TXS_PER_BLOCK = 1_000
BLOCK_OVERHEAD_BYTES = 64 * 1024
_ENTRY_OVERHEAD_BYTES = 8


class ChainApplication:
    """`net.consensus_host.HostedApplication` over ledger, state and mempool."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        state: State,
        store: ChainStore,
        tip: Tip,
        mempool: Mempool,
        max_block_bytes: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.state = state
        self.store = store
        self.mempool = mempool
        self.height = tip.height
        self.block_hash = tip.block_hash
        self.time_ms = tip.time_ms
        self.last_hashes: list[bytes] = []
        """Transaction hashes of the last committed block, in order."""
        self.last_executed: tuple[CheckedTx, ...] = ()
        """Those transactions."""
        self.admission: Admission | None = None
        """Set by the shell; checks transactions of a block that were never seen here."""
        self._ledger = ledger
        self._max_bytes = max(1024, max_block_bytes - BLOCK_OVERHEAD_BYTES)
        self._clock = clock
        self._max_txs = FIRST_TXS_PER_BLOCK
        self._voters = tip.voters
        """The set of the last committed height."""
        self._next_voters = tip.validators
        self._latest_set = tip.next_validators
        self._executions: dict[bytes, Execution] = {}
        self._prepared: dict[bytes, CheckedTx | Rejected] = {}

    @property
    def next_voters(self) -> ValidatorSet:
        """The validators of the height being decided."""
        return self._next_voters

    @property
    def durable_height(self) -> int:
        """Every commit is synced before it returns."""
        return self.height

    def has_work(self) -> bool:
        """Whether executable transactions wait."""
        return self.mempool.has_executable

    def propose(self, template: BlockTemplate) -> Block:
        """A block of what waits in the mempool, executed."""
        txs = self.mempool.reap(max_bytes=self._max_bytes, max_txs=min(self._max_txs, MAX_TXS_PER_BLOCK))
        execution = self._execute(txs, template.height, template.time_ms, template.proposer, template.last_commit)
        for checked in execution.left_out:
            self.mempool.drop(checked.hash)
        block = seal(
            template,
            entries=tuple([checked.raw for checked in execution.executed]),
            state_root=execution.state_root,
            results_root=execution.results_root,
            bridge_root=execution.bridge_root,
        )
        self._executions[header_hash(block.header)] = execution
        return block

    def prepare(self, block: Block) -> Awaitable[None] | None:
        """Check signatures of the block's unknown transactions in threads; None when all are known."""
        unknown = [raw for raw in block.entries if self._known(blake3(raw).digest()) is None]
        if not unknown or self.admission is None:
            return None
        return self._prepare(unknown)

    async def _prepare(self, raws: Sequence[bytes]) -> None:
        assert self.admission is not None
        for part in await self.admission.check(raws):
            for checked in part:
                self._prepared[checked.hash] = checked

    def verify(self, block: Block) -> str | None:
        """Execute the block and compare every root with its header; None, or what is wrong."""
        header = block.header
        if header.height != self.height + 1:
            return f"block {header.height} cannot be executed on height {self.height}"
        block_hash = header_hash(header)
        if block_hash in self._executions:
            return None
        txs: list[CheckedTx] = []
        for raw in block.entries:
            tx_hash = blake3(raw).digest()
            checked = self._known(tx_hash)
            if checked is None:
                return f"transaction {tx_hash.hex()} was not checked before its block"
            if isinstance(checked, Rejected):
                return f"transaction {tx_hash.hex()} in the block: {checked.sentence}"
            txs.append(checked)
        execution = self._execute(txs, header.height, header.time_ms, header.proposer, block.last_commit)
        if execution.left_out:
            return f"transaction {execution.left_out[0].hash.hex()} cannot pay and may not be in a block"
        if execution.postponed:
            return (
                f"transaction {execution.postponed[0].hash.hex()} comes after {FULL_BRIDGE_BYTES} bytes of bridge events "
                "and belongs into the next block"
            )
        for name, ours, theirs in (
            ("state", execution.state_root, header.state_root),
            ("results", execution.results_root, header.results_root),
            ("bridge", execution.bridge_root, header.bridge_root),
        ):
            if ours != theirs:
                return f"{name} root of block {header.height} is {ours.hex()}, its header says {theirs.hex()}"
        self._executions[block_hash] = execution
        return None

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        """Make the block the state, durably; the validator set of height + 2."""
        header = block.header
        execution = self._executions.get(commit.block_hash)
        if execution is None:
            refusal = self.verify(block)
            if refusal is not None:
                raise RuntimeError(f"block {header.height} has a certificate but does not execute here: {refusal}")
            execution = self._executions[commit.block_hash]
        if execution.validators != self._latest_set.validators:
            self._latest_set = ValidatorSet(execution.validators)
        hashes = [checked.hash for checked in execution.executed]
        records = self.store.block_records(
            block,
            commit,
            tx_hashes=hashes,
            results=execution.results,
            end_events=execution.end_events,
            bridge_events=execution.bridge_events,
            next_validators=self._latest_set,
        )
        self.state.commit(execution.branch, header.height, records)
        self._executions.clear()
        self._prepared.clear()
        self._voters = self.store.validators(header.validators_hash)
        self._next_voters = self.store.validators(header.next_validators_hash)
        self.height, self.block_hash, self.time_ms = header.height, commit.block_hash, header.time_ms
        self.last_hashes = hashes
        self.last_executed = execution.executed
        sequences: dict[bytes, int] = {}
        for checked in execution.executed:
            sequences[checked.sender] = checked.sequence + 1
        self.mempool.committed(hashes, sequences)
        return self._latest_set

    def read_block(self, height: int) -> CommittedBlock | None:
        """A committed block from the store."""
        return self.store.block(height)

    def _known(self, tx_hash: bytes) -> CheckedTx | Rejected | None:
        return self.mempool.get(tx_hash) or self._prepared.get(tx_hash)

    def _execute(
        self, txs: Sequence[CheckedTx], height: int, time_ms: int, proposer: bytes, last_commit: Commit
    ) -> Execution:
        context = block_context(
            height=height, time_ms=time_ms, proposer=proposer, last_commit=last_commit, last_voters=self._voters
        )
        began = self._clock()
        execution = execute(self._ledger, self.state, txs, context)
        done = len(txs) - len(execution.postponed)
        if done >= MIN_TXS_PER_BLOCK:
            rate = done / max(self._clock() - began, 1e-6)
            wanted = int(rate * EXECUTION_TARGET_SECONDS)
            # Half-way towards the measured size: one slow block (a busy machine) should not shrink the next to nothing.
            self._max_txs = max(MIN_TXS_PER_BLOCK, (self._max_txs + wanted) // 2)
        return execution
