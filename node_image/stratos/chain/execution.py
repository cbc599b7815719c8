"""One block run through the ledger: pure, the same for proposing, verifying, catching up and simulating.

A transaction that cannot even pay (wrong sequence, no money for the fee) changes nothing and would be free
freight, so it is never part of a block: the proposer leaves it out, and a block that carries one is refused.

A block's bridge events travel in one entry of the meta log, so they are bounded: a transaction that comes after
`FULL_BRIDGE_BYTES` of them is not executed. The proposer keeps it for the next block, and a block that carries it is refused.
"""

from collections.abc import Sequence

from msgspec import Struct

from stratos.bft.validator_set import ValidatorSet
from stratos.chain.mempool import CheckedTx
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import FEE, SEQUENCE
from stratos.ledger.events import BRIDGE_KINDS
from stratos.ledger.machine import Ledger
from stratos.ledger.roots import bridge_root, results_root
from stratos.state import Branch, State
from stratos.wire.block import Commit, EntryResult, Event, Validator
from stratos.wire.codec import encode
from stratos.wire.limits import FULL_BRIDGE_BYTES

UNPAID = frozenset({SEQUENCE, FEE})
"""Result codes of transactions that may not be in a block."""


class Execution(Struct, frozen=True, kw_only=True):
    """What a block did: the branch that holds its writes, the roots for its header, results and events."""

    branch: Branch
    executed: tuple[CheckedTx, ...]
    left_out: tuple[CheckedTx, ...]
    """Transactions that could not pay."""
    postponed: tuple[CheckedTx, ...]
    """Transactions after the block's bridge events were full."""
    results: tuple[EntryResult, ...]
    end_events: tuple[Event, ...]
    bridge_events: tuple[Event, ...]
    validators: tuple[Validator, ...]
    """The voters of height + 2."""
    state_root: bytes
    results_root: bytes
    bridge_root: bytes


def block_context(
    *, height: int, time_ms: int, proposer: bytes, last_commit: Commit, last_voters: ValidatorSet
) -> BlockContext:
    """Context of a block: who signed the certificate of the block before it, and who missed."""
    signers = {entry.index for entry in last_commit.signatures}
    signed = tuple(voter.address for index, voter in enumerate(last_voters) if index in signers)
    missed = tuple(voter.address for index, voter in enumerate(last_voters) if signers and index not in signers)
    return BlockContext(height=height, time_ms=time_ms, proposer=proposer, signed=signed, missed=missed)


def execute(ledger: Ledger, state: State, txs: Sequence[CheckedTx], context: BlockContext) -> Execution:
    """Run `txs` in order on a fork of `state`; the state itself is untouched."""
    branch = state.fork()
    ledger.begin_block(branch, context)
    executed: list[CheckedTx] = []
    left_out: list[CheckedTx] = []
    results: list[EntryResult] = []
    events: list[Event] = []
    bridge_bytes = 0
    taken = len(txs)
    for index, checked in enumerate(txs):
        if bridge_bytes >= FULL_BRIDGE_BYTES:
            taken = index
            break
        result = ledger.deliver_tx(branch, checked.tx, context)
        if result.code in UNPAID:
            left_out.append(checked)
            continue
        executed.append(checked)
        results.append(result)
        if result.events:
            events.extend(result.events)
            bridge_bytes += sum(len(encode(event)) for event in result.events if event.kind in BRIDGE_KINDS)
    end = ledger.end_block(branch, context)
    events.extend(end.events)
    bridge_events = tuple(event for event in events if event.kind in BRIDGE_KINDS)
    return Execution(
        branch=branch,
        executed=tuple(executed),
        left_out=tuple(left_out),
        postponed=tuple(txs[taken:]),
        results=tuple(results),
        end_events=end.events,
        bridge_events=bridge_events,
        validators=end.validators,
        state_root=state.preview(branch),
        results_root=results_root(results, end.events),
        bridge_root=bridge_root(bridge_events),
    )
