"""A crash at any instant: whatever prefix of its effects a validator carried out, after the restart it never votes twice."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratos.bft import events
from stratos.bft.blocks import header_hash
from stratos.sim.tabletop import Tabletop
from stratos.wire.block import CommittedBlock, ConsensusMessage, Proposal, Vote


class Spy:
    """Everything one seat ever sent that it signed itself."""

    def __init__(self, table: Tabletop, index: int) -> None:
        self.table = table
        self.index = index
        self.signed: dict[tuple[str, int, int, int], bytes] = {}
        self.conflicts: list[object] = []

    def see(self, message: ConsensusMessage) -> None:
        if isinstance(message, Vote) and message.index == self.index:
            key, block_hash = ("vote", message.height, message.round, message.kind), message.block_hash
        elif isinstance(message, Proposal) and self.table.proposer(message.height, message.round) == self.index:
            key, block_hash = ("proposal", message.height, message.round, 0), header_hash(message.block.header)
        else:
            return
        if self.signed.setdefault(key, block_hash) != block_hash:
            self.conflicts.append(key)


class CrashingTable(Tabletop):
    """Seat `victim` dies when it has carried out `budget` effects, in the middle of a list of them if need be."""

    victim = -1
    budget = -1

    def feed(self, index: int, event: events.Event) -> list[events.Effect]:
        if index != self.victim or self.budget < 0:
            return super().feed(index, event)
        seat = self.seats[index]
        if not seat.is_up:
            return []
        effects = seat.replica.handle(event, self.now, self.wall_ms())
        for effect in effects:
            if self.budget == 0:
                self.budget = -1
                self.now += 0.5  # the clock goes on, so a new proposal would be another block
                self.restart(index)
                break
            self.budget -= 1
            self._perform(index, seat, effect)
        return effects


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    budget=st.integers(0, 60),
    victim=st.integers(0, 3),
    lost=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), max_size=6),
)
def test_a_restart_after_any_prefix_of_effects_never_votes_twice(
    budget: int, victim: int, lost: set[tuple[int, int, int]]
) -> None:
    """The log is ahead of every signature that left, and the network of four goes on afterwards."""
    table = CrashingTable()
    table.victim, table.budget = victim, budget
    spy = Spy(table, victim)

    def drop(source: int, target: int, message: ConsensusMessage) -> bool:
        if source == victim:
            spy.see(message)
        kind = 0 if isinstance(message, Proposal) else message.kind if isinstance(message, Vote) else 3
        return table.now < 3.0 and (source, target, kind) in lost

    table.drop = drop
    table.start()
    table.advance(30.0, lambda: min(table.heights()) >= 6)
    assert spy.conflicts == []
    assert min(table.heights()) >= 6
    for height in range(1, 7):
        assert len({header_hash(block_at(table, index, height).block.header) for index in range(4)}) == 1


def block_at(table: Tabletop, index: int, height: int) -> CommittedBlock:
    return table.seats[index].blocks[height]
