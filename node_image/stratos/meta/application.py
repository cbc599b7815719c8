"""The meta service layer as consensus runs it: pool in, machine in the middle, state at the end.

`MetaApplication` needs no IO: with a plain `State` it runs in tests and in the simulator, with a `MetaStore` behind
`persist` it runs in a node. A block is executed once per node; commit keeps that execution. Entries the state refuses are
left out by the proposer, and a block that carries one is refused, so the log holds only what took effect.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct, structs

from stratos.bft.blocks import commit_hash, header_hash, seal
from stratos.bft.events import BlockTemplate
from stratos.bft.signing import Verifier
from stratos.bft.validator_set import ValidatorSet
from stratos.crypto.keys import node_address
from stratos.crypto.merkle import merkle_root
from stratos.meta.bridge import VALUE_LAYER
from stratos.meta.entries import decode_entry, entry_hash, verify_entry
from stratos.meta.errors import InvariantBroken, MetaError
from stratos.meta.machine import MetaMachine, get_clock, work_left
from stratos.meta.pool import EntryPool, PooledEntry
from stratos.meta.rooms import ACTIVE, CHAIN_HEIGHT, HOLDER, drop_room
from stratos.state import EMPTY_ROOT, Branch, State
from stratos.wire.block import Block, Commit, CommittedBlock, EntryResult, Validator
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis
from stratos.wire.limits import MAX_TXS_PER_BLOCK
from stratos.wire.metalog import BeaconCommit, BeaconReveal, ChainBlock, NodeStatus

META_LAYER = "meta"
BLOCK_OVERHEAD_BYTES = 64 * 1024
ENTRIES_PER_BLOCK = 1_000
assert META_LAYER != VALUE_LAYER


class Execution(Struct, frozen=True, kw_only=True):
    """What a block did."""

    branch: Branch
    executed: tuple[PooledEntry, ...]
    refused: tuple[tuple[PooledEntry, EntryResult], ...]
    results: tuple[EntryResult, ...]
    validators: tuple[Validator, ...]
    state_root: bytes
    results_root: bytes


class VerifiedSignatures:
    """A verifier that remembers good signatures, so each is checked once per node however often a block is executed."""

    def __init__(self, verify: Verifier, *, remembered: int = 100_000) -> None:
        self.checks = 0
        """Signatures really checked."""
        self._verify = verify
        self._remembered = remembered
        self._good: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()

    def __call__(self, public_key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature is right."""
        key = (public_key, message, signature)
        if key in self._good:
            return True
        self.checks += 1
        if not self._verify(public_key, message, signature):
            return False
        self._good[key] = None
        if len(self._good) > self._remembered:
            self._good.popitem(last=False)
        return True


Persist = Callable[[Branch, Block, Commit, "Execution", ValidatorSet], None]
"""Writes a committed block and its state in one step."""


class MetaApplication:
    """`bft.events.Application` over the machine. Call `init_genesis` when the state is empty (height 0)."""

    def __init__(
        self,
        genesis: Genesis,
        *,
        genesis_hash: bytes,
        verify: Verifier,
        state: State | None = None,
        height: int = 0,
        pool: EntryPool | None = None,
        persist: Persist | None = None,
        read_block: Callable[[int], CommittedBlock | None] = lambda _height: None,
        wall_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash
        self.signatures = verify if isinstance(verify, VerifiedSignatures) else VerifiedSignatures(verify)
        self.machine = MetaMachine(genesis, genesis_hash, self.signatures)
        self.state = state if state is not None else State()
        self.pool = pool if pool is not None else EntryPool()
        self.height = height
        self.on_refused: Callable[[PooledEntry, EntryResult], None] = lambda _pooled, _result: None
        """Called when a proposer finds that a waiting entry is no longer acceptable."""
        self.on_ordered: Callable[[int, Sequence[PooledEntry], Sequence[EntryResult]], None] = lambda _h, _e, _r: None
        """Called after each commit with its entries and results."""
        self._persist = persist
        self._read_block = read_block
        self._wall_ms = wall_ms
        self._executions: dict[bytes, Execution] = {}
        self._prepared: dict[bytes, PooledEntry] = {}
        self._max_bytes = max(1024, genesis.meta_consensus.max_block_bytes - BLOCK_OVERHEAD_BYTES)
        if self.state.root == EMPTY_ROOT:
            self.init_genesis()

    def init_genesis(self) -> None:
        """Write the state before the first block."""
        branch = self.state.fork()
        self.machine.init_genesis(branch)
        self.state.commit(branch, self.genesis.initial_height - 1)
        self.height = self.genesis.initial_height - 1

    def genesis_validators(self) -> ValidatorSet:
        """The voters of the first two heights."""
        return ValidatorSet(self.machine.end_block(self.state.fork()))

    # -- Application -------------------------------------------------------------------------------------------------

    def propose(self, template: BlockTemplate) -> Block:
        """A block of what waits, executed; what the state refuses by now is dropped from the pool."""
        waiting = self.pool.reap(max_bytes=self._max_bytes, max_entries=min(ENTRIES_PER_BLOCK, MAX_TXS_PER_BLOCK))
        execution = self._execute(
            waiting,
            height=template.height,
            time_ms=template.time_ms,
            last_commit_hash=commit_hash(template.last_commit),
        )
        block = seal(
            template,
            entries=tuple(pooled.raw for pooled in execution.executed),
            state_root=execution.state_root,
            results_root=execution.results_root,
            bridge_root=merkle_root([]),
        )
        self._executions[header_hash(block.header)] = execution
        for pooled, result in execution.refused:
            # The next chain blocks may have come before the one that is missing: keep those.
            if result.code != "order" or (pooled.chain_height or 0) <= CHAIN_HEIGHT.get(execution.branch):
                self.pool.drop(pooled.name)
                self.on_refused(pooled, result)
        return block

    def verify(self, block: Block) -> str | None:
        """Execute a block and compare; None, or what is wrong with it."""
        header = block.header
        if header.height != self.height + 1:
            return f"block {header.height} cannot be executed on height {self.height}"
        block_hash = header_hash(header)
        if block_hash in self._executions:
            return None
        entries = []
        for raw in block.entries:
            try:
                entries.append(self._checked(raw))
            except MetaError as error:
                return f"an entry of block {header.height}: {error.sentence}"
        try:
            execution = self._execute(
                entries, height=header.height, time_ms=header.time_ms, last_commit_hash=header.last_commit_hash
            )
        except InvariantBroken as error:
            return f"block {header.height}: {error}"
        if execution.refused:
            pooled, result = execution.refused[0]
            return f"entry {pooled.name.hex()} of block {header.height} is refused: {result.error}"
        for what, ours, theirs in (
            ("state", execution.state_root, header.state_root),
            ("results", execution.results_root, header.results_root),
            ("bridge", merkle_root([]), header.bridge_root),
        ):
            if ours != theirs:
                return f"{what} root of block {header.height} is {ours.hex()}, its header says {theirs.hex()}"
        self._executions[block_hash] = execution
        return None

    def commit(self, block: Block, commit: Commit) -> ValidatorSet:
        """Make the block the state; the authorities of height + 2."""
        header = block.header
        execution = self._executions.get(commit.block_hash)
        if execution is None:
            refusal = self.verify(block)
            if refusal is not None:
                raise InvariantBroken(f"block {header.height} has a certificate but does not execute here: {refusal}")
            execution = self._executions[commit.block_hash]
        validators = ValidatorSet(execution.validators)
        if self._persist is not None:
            self._persist(execution.branch, block, commit, execution, validators)
        else:
            self.state.commit(execution.branch, header.height)
        self._executions.clear()
        self._prepared.clear()
        self.height = header.height
        self.pool.ordered([pooled.name for pooled in execution.executed])
        self.on_ordered(header.height, execution.executed, execution.results)
        for pooled in self.pool.drop_chain_up_to(CHAIN_HEIGHT.get(self.state)):
            self.on_refused(
                pooled, EntryResult("order", f"chain block {pooled.chain_height} is in the log already", ())
            )
        return validators

    # -- what a host needs beside it ---------------------------------------------------------------------------------

    @property
    def durable_height(self) -> int:
        """Every commit is written before it returns."""
        return self.height

    def has_work(self) -> bool:
        """Whether a block is wanted soon: urgent entries, lotteries to draw, chores."""
        return self.pool.urgent or work_left(self.state)

    def prepare(self, block: Block) -> Awaitable[None] | None:
        """Nothing to do ahead of `verify` here; a node with threads overrides this."""
        return None

    def read_block(self, height: int) -> CommittedBlock | None:
        """A committed block."""
        return self._read_block(height)

    def prepared(self, pooled: PooledEntry) -> None:
        """An entry of a block to come whose signature was checked ahead."""
        self._prepared[pooled.name] = pooled

    def is_checked(self, name: bytes) -> bool:
        """Whether the signature of this entry needs no check any more."""
        return name in self.pool or name in self._prepared

    # -- entries -----------------------------------------------------------------------------------------------------

    def check(self, raw: bytes) -> PooledEntry:
        """Decode an entry and check its author's signature (no state needed: safe in threads); raises MetaError."""
        entry = decode_entry(raw)
        if not verify_entry(entry, self.genesis_hash):
            raise MetaError(
                "signature", "the entry's signature does not fit its author and this network; sign it again"
            )
        return PooledEntry(entry_hash(raw), raw, entry)

    def submit(self, pooled: PooledEntry) -> EntryResult:
        """Try an entry against the committed state; when it would be accepted, it waits in the pool for its block."""
        if self.pool.seen(pooled.name):
            return EntryResult("ok", "", ())
        result = self.trial(pooled)
        if result.code == "ok" or (result.code == "order" and self._may_come_later(pooled)):
            self.pool.add(structs.replace(pooled, lazy=self._is_lazy(pooled)))
            return EntryResult("ok", "", result.events)
        return result

    def trial(self, pooled: PooledEntry) -> EntryResult:
        """What the committed state says to an entry, without ordering it. Only here the wall clock counts too (the next
        block will have its time), so that a quiet or lagging log does not take a fresh entry for one from the future."""
        clock = get_clock(self.state)
        context = self.machine.context(
            height=clock.height + 1,
            time_ms=max(clock.time_ms, self._wall_ms()),
            witness_ms=clock.witness_ms,
            epoch=clock.epoch,
            last_commit_hash=b"\0" * 32,
        )
        return self.machine.deliver(self.state.fork(), pooled.entry, pooled.name, context)

    def _is_lazy(self, pooled: PooledEntry) -> bool:
        """Whether an entry may wait for the next idle block: routine heartbeats, the beacon, chain blocks without news."""
        body = pooled.entry.request.body
        if isinstance(body, NodeStatus):
            holder = HOLDER.get(self.state, node_address(pooled.entry.request.author))
            drops = body.drops_done and next(self.state.items(drop_room(holder.address)), None) if holder else None
            return holder is not None and holder.status == ACTIVE and not drops
        if isinstance(body, ChainBlock):
            return not body.events
        return isinstance(body, BeaconCommit | BeaconReveal)

    def _may_come_later(self, pooled: PooledEntry) -> bool:
        return pooled.chain_height is not None and pooled.chain_height > CHAIN_HEIGHT.get(self.state)

    def _checked(self, raw: bytes) -> PooledEntry:
        name = entry_hash(raw)
        return self.pool.get(name) or self._prepared.get(name) or self.check(raw)

    def _execute(
        self, entries: Sequence[PooledEntry], *, height: int, time_ms: int, last_commit_hash: bytes
    ) -> Execution:
        branch = self.state.fork()
        context = self.machine.begin_block(branch, height=height, time_ms=time_ms, last_commit_hash=last_commit_hash)
        executed: list[PooledEntry] = []
        refused: list[tuple[PooledEntry, EntryResult]] = []
        results: list[EntryResult] = []
        for pooled in entries:
            result = self.machine.deliver(branch, pooled.entry, pooled.name, context)
            if result.code == "ok":
                executed.append(pooled)
                results.append(result)
            else:
                refused.append((pooled, result))
        validators = self.machine.end_block(branch)
        return Execution(
            branch=branch,
            executed=tuple(executed),
            refused=tuple(refused),
            results=tuple(results),
            validators=validators,
            state_root=self.state.preview(branch),
            results_root=merkle_root([encode(result) for result in results]),
        )
