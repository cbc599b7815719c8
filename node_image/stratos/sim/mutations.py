"""Deliberately broken parts, to prove that the simulator can fail.

Each breaks one rule that safety rests on, through a seam the real code has anyway (a class handed in), never by a condition
in production code. Each must be caught within 200 seeds.
"""

from stratos.bft.events import Effect, WriteWal
from stratos.bft.height import HeightState
from stratos.bft.replica import Replica
from stratos.bft.rounds import Rules
from stratos.bft.validator_set import ValidatorSet
from stratos.ledger.events import OZONE_BOUGHT
from stratos.meta import bridge
from stratos.meta.context import BlockContext
from stratos.meta.machine import MetaMachine
from stratos.meta.rooms import IN_FLIGHT
from stratos.sim.cluster import Core
from stratos.sim.judging import Parts
from stratos.state import Branch
from stratos.wire.block import EntryResult
from stratos.wire.metalog import ChainBlock, Entry


class ShortQuorumSet(ValidatorSet):
    """quorum - 1: one (smallest) voter too few is enough."""

    __slots__ = ()

    def is_quorum(self, weight: int) -> bool:
        return super().is_quorum(weight + min(validator.weight for validator in self))


class NoLockRules(Rules):
    """no lock: a precommit does not bind the next round's prevote."""

    def lock(self, state: HeightState, block_hash: bytes) -> None:
        return

    def keep_valid(self, state: HeightState, block_hash: bytes) -> None:
        return


class LateLogReplica(Replica):
    """WAL written after sending."""

    def _arrange(self, wal: bytes, own: list[Effect], rest: list[Effect]) -> list[Effect]:
        return [*own, *rest, WriteWal(wal, True)] if wal else [*own, *rest]


class DoubleCreditMachine(MetaMachine):
    """double credit: ozone bought on the chain arrives twice."""

    def deliver(self, branch: Branch, entry: Entry, name: bytes, context: BlockContext) -> EntryResult:
        result = super().deliver(branch, entry, name, context)
        body = entry.request.body
        if result.code == "ok" and isinstance(body, ChainBlock):
            for event in body.events:
                if event.kind == OZONE_BOUGHT:
                    bridge.apply_event(branch, context, event)
        return result


class HastyReportMachine(MetaMachine):
    """report without order: the next report does not wait for the chain's word about the last one."""

    def begin_block(self, branch: Branch, *, height: int, time_ms: int, last_commit_hash: bytes) -> BlockContext:
        IN_FLIGHT.set(branch, b"", 0)
        return super().begin_block(branch, height=height, time_ms=time_ms, last_commit_hash=last_commit_hash)


MUTATIONS: dict[str, Parts] = {
    "quorum-1": Parts(core=Core(validator_set=ShortQuorumSet)),
    "no-lock": Parts(core=Core(rules=NoLockRules)),
    "late-log": Parts(core=Core(replica=LateLogReplica)),
    "double-credit": Parts(meta_machine=DoubleCreditMachine),
    "hasty-report": Parts(meta_machine=HastyReportMachine),
}
HOME_WORLD = {
    "quorum-1": "bft",
    "no-lock": "bft",
    "late-log": "bft",
    "double-credit": "full",
    "hasty-report": "full",
}
"""The smallest world in which each shows."""
