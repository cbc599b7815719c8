"""The core in single situations; the simulator covers their mixtures."""

from collections.abc import Iterable

import pytest
from msgspec import structs

from stratos.bft import events
from stratos.bft.blocks import header_hash
from stratos.bft.height import Step
from stratos.bft.signing import proposal_bytes, vote_bytes
from stratos.crypto.keys import verify_node
from stratos.sim.cluster import FAST
from stratos.sim.tabletop import GENESIS_HASH, LAYER, Tabletop
from stratos.wire.block import (
    NIL_HASH,
    PRECOMMIT,
    PREVOTE,
    CatchUpRequest,
    ConsensusMessage,
    Header,
    Proposal,
    RoundStatus,
    Vote,
)


def kinds(effects: Iterable[events.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def signed_vote(
    table: Tabletop, index: int, kind: int, *, block_hash: bytes, height: int = 1, round_number: int = 0
) -> Vote:
    """A vote of a seat, made outside its replica."""
    message = vote_bytes(
        GENESIS_HASH, layer=LAYER, kind=kind, height=height, round_number=round_number, block_hash=block_hash
    )
    return Vote(kind, height, round_number, block_hash, index, table.keys[index].sign(message))


def proposal_of(table: Tabletop) -> Proposal:
    """The proposal of the first height, taken from its proposer; nobody else has it."""
    table.drop = lambda _source, _target, _message: True
    table.start()
    table.settle()
    [proposal] = [message for message in table.sent(table.proposer()) if isinstance(message, Proposal)]
    return proposal


def votes_of(messages: Iterable[ConsensusMessage]) -> list[tuple[int, int, int]]:
    return [(vote.round, vote.kind, int(vote.block_hash != NIL_HASH)) for vote in messages if isinstance(vote, Vote)]


def test_a_healthy_height_needs_two_log_syncs_and_no_timer() -> None:
    """Per block and follower: one execution, two synced votes, one commit, nothing else."""
    table = Tabletop(params=structs.replace(FAST, block_seconds=0.001))
    table.start()
    table.advance(1.0, lambda: min(table.heights()) >= 3)
    follower = next(index for index in range(4) if index not in {table.proposer(height) for height in (4, 5)})
    seat = table.seats[follower]
    seat.effects.clear()
    before = table.heights()[follower]
    table.advance(1.0, lambda: table.heights()[follower] > before)
    names = kinds(seat.effects)
    assert names.count("WriteWal") == 2
    assert names.count("RequestVerify") == names.count("CommitBlock") == 1
    assert names.count("Broadcast") == 2
    assert "SendTo" not in names


def test_the_log_is_synced_before_own_messages_leave() -> None:
    """In every list of effects a synced write of the record stands before the broadcast of it."""
    table = Tabletop()
    table.start()
    table.advance(3.0, lambda: min(table.heights()) >= 2)
    for seat in table.seats:
        synced = False
        for effect in seat.effects:
            if isinstance(effect, events.WriteWal):
                synced = effect.sync
            elif isinstance(effect, events.Broadcast):
                assert synced
            else:
                synced = False


def test_a_single_validator_makes_blocks_alone() -> None:
    """A network of one needs nobody."""
    table = Tabletop((1,))
    table.start()
    table.advance(3.0, lambda: table.heights() == [5])
    assert table.heights() == [5]


def test_empty_blocks_come_at_their_pace_and_work_comes_at_once() -> None:
    """Without entries a block is due `block_seconds` after the last one, with entries after `min_block_seconds`."""
    table = Tabletop(
        params=structs.replace(FAST, block_seconds=10.0, min_block_seconds=0.1, propose_timeout_seconds=1.0)
    )
    table.start()
    table.advance(9.0)
    assert table.heights() == [1] * 4
    for index, seat in enumerate(table.seats):
        seat.machine.offer(b"set a 1")
        table.feed(index, events.WorkAvailable())
    table.advance(0.15)
    assert table.heights() == [2] * 4
    table.advance(9.0)
    assert table.heights() == [2] * 4
    table.advance(1.5)
    assert table.heights() == [3] * 4


def test_a_dead_proposer_costs_one_round() -> None:
    """The others vote nil after the propose timeout and go on with the next proposer."""
    table = Tabletop()
    dead = table.proposer()
    table.drop = lambda source, target, _message: dead in (source, target)
    table.start()
    table.advance(2.0, lambda: sum(height >= 1 for height in table.heights()) == 3)
    alive = next(index for index in range(4) if index != dead)
    assert table.seats[alive].blocks[1].commit.round == 1


def test_timeouts_grow_with_the_round() -> None:
    """Each round waits longer, so that some round outlasts any network's delay."""
    table = Tabletop()
    table.drop = lambda _source, _target, _message: True
    waiting = next(index for index in range(4) if index not in (table.proposer(), table.proposer(1, 3)))
    table.start(waiting)
    replica = table.seats[waiting].replica
    for number in range(3):
        for index in range(4):
            if index != waiting:
                vote = signed_vote(table, index, PRECOMMIT, block_hash=NIL_HASH, round_number=number)
                table.feed(waiting, events.Received(table.keys[index].address, vote))
        assert replica.round == number + 1
    patience = table.params.propose_timeout_seconds + 3 * table.params.timeout_delta_seconds
    table.advance(patience - 0.01)
    assert replica.step is Step.PROPOSE
    table.advance(0.02)
    assert table.seats[waiting].replica.step is Step.PREVOTE


@pytest.mark.parametrize(("wall_shift_seconds", "accepted"), [(-0.4, True), (-0.6, False), (3.9, True), (4.2, False)])
def test_block_time_must_fit_the_local_clock(wall_shift_seconds: float, accepted: bool) -> None:
    """Prevote nil when block time is over 0.5 s ahead of the clock or over the message delay behind it (protocol 3)."""
    table = Tabletop()
    proposal = proposal_of(table)
    voter = (table.proposer() + 1) % 4
    replica = table.seats[voter].replica
    wall_ms = proposal.block.header.time_ms + int(wall_shift_seconds * 1000)
    effects = replica.handle(events.Received(table.keys[table.proposer()].address, proposal), 0.0, wall_ms)
    if accepted:
        [request] = [effect for effect in effects if isinstance(effect, events.RequestVerify)]
        effects = replica.handle(events.Verified(request.block_hash, None), 0.0, wall_ms)
    [vote] = [effect.message for effect in effects if isinstance(effect, events.Broadcast)]
    assert isinstance(vote, Vote)
    assert (vote.block_hash != NIL_HASH) == accepted


def test_block_time_must_increase() -> None:
    """A block not later than the last one is never voted for."""
    table = Tabletop()
    proposal = proposal_of(table)
    index = table.proposer()
    header = structs.replace(proposal.block.header, time_ms=table.seats[0].replica.tip.time_ms)
    assert "must increase" in refusal_of(table, index, header)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("layer", "meta"),
        ("genesis_hash", b"x" * 32),
        ("previous_hash", b"x" * 32),
        ("validators_hash", b"x" * 32),
        ("next_validators_hash", b"x" * 32),
    ],
)
def test_headers_that_do_not_fit_the_chain_get_nil(field: str, value: object) -> None:
    """A proposal for another chain, layer, version, parent or set is answered by nil and a reason."""
    table = Tabletop()
    proposal = proposal_of(table)
    header = structs.replace(proposal.block.header, **{field: value})
    assert refusal_of(table, table.proposer(), header)


def refusal_of(table: Tabletop, proposer: int, header: Header) -> str:
    """Why a block with this header, properly signed and sent by the proposer, is voted nil."""
    original = proposal_of_sent(table, proposer)
    block = structs.replace(original.block, header=header)
    message = proposal_bytes(
        GENESIS_HASH, layer=LAYER, height=1, round_number=0, valid_round=-1, block_hash=header_hash(header)
    )
    proposal = structs.replace(original, block=block, signature=table.keys[proposer].sign(message))
    voter = (proposer + 1) % 4
    effects = table.feed(voter, events.Received(table.keys[proposer].address, proposal))
    [vote] = [effect.message for effect in effects if isinstance(effect, events.Broadcast)]
    assert isinstance(vote, Vote)
    assert vote.block_hash == NIL_HASH
    [refused] = [effect for effect in effects if isinstance(effect, events.Refused)]
    return refused.reason


def proposal_of_sent(table: Tabletop, proposer: int) -> Proposal:
    return next(message for message in table.sent(proposer) if isinstance(message, Proposal))


def test_a_lock_holds_until_a_later_polka() -> None:
    """Locked on B, a fresh block gets nil in the next round; B proposed again with its polka gets the vote of one
    who never saw that polka."""
    table = Tabletop()
    proposal = proposal_of(table)
    block_hash = header_hash(proposal.block.header)
    first = table.proposer()
    second = table.proposer(1, 1)
    locked = next(index for index in range(4) if index not in (first, second))
    seat = table.seats[locked]
    table.feed(locked, events.Received(table.keys[first].address, proposal))
    table.settle()
    for index in (first, second):
        vote = signed_vote(table, index, PREVOTE, block_hash=block_hash)
        table.feed(locked, events.Received(table.keys[index].address, vote))
    assert votes_of(table.sent(locked)) == [(0, PREVOTE, 1), (0, PRECOMMIT, 1)]
    for index in range(4):
        if index != locked:
            vote = signed_vote(table, index, PRECOMMIT, block_hash=NIL_HASH)
            table.feed(locked, events.Received(table.keys[index].address, vote))
    assert seat.replica.round == 1
    # A fresh block of the second proposer, who did not see the polka.
    for index in range(4):
        if index != second:
            vote = signed_vote(table, index, PRECOMMIT, block_hash=NIL_HASH)
            table.feed(second, events.Received(table.keys[index].address, vote))
    table.now += 0.001
    table.settle()
    fresh = next(m for m in table.sent(second) if isinstance(m, Proposal) and m.round == 1)
    assert header_hash(fresh.block.header) != block_hash
    table.feed(locked, events.Received(table.keys[second].address, fresh))
    table.settle()
    assert votes_of(table.sent(locked))[-1] == (1, PREVOTE, 0)
    # Sooner or later the locked one proposes: B again, with the polka.
    number = next(r for r in range(2, 20) if table.proposer(1, r) == locked)
    for index in range(4):
        if index != locked:
            vote = signed_vote(table, index, PREVOTE, block_hash=NIL_HASH, round_number=number)
            table.feed(locked, events.Received(table.keys[index].address, vote))
    again = next(m for m in table.sent(locked) if isinstance(m, Proposal) and m.round == number)
    assert header_hash(again.block.header) == block_hash
    assert again.valid_round == 0
    fourth = next(index for index in range(4) if index not in (first, second, locked))
    for index in (first, second):
        vote = signed_vote(table, index, PREVOTE, block_hash=NIL_HASH, round_number=number)
        table.feed(fourth, events.Received(table.keys[index].address, vote))
    assert table.seats[fourth].replica.round == number
    table.now += table.params.message_delay_seconds + 1  # old by now: only the polka makes it acceptable
    table.feed(fourth, events.Received(table.keys[locked].address, again))
    table.settle()
    assert votes_of(table.sent(fourth))[-1] == (number, PREVOTE, 1)


def test_more_than_a_third_in_a_later_round_pulls_along() -> None:
    """Two of four in round 5 contain somebody honest; one alone does not."""
    table = Tabletop()
    table.drop = lambda _source, _target, _message: True
    table.start()
    replica = table.seats[0].replica
    for index, expected in ((1, 0), (2, 5)):
        vote = signed_vote(table, index, PREVOTE, block_hash=NIL_HASH, round_number=5)
        table.feed(0, events.Received(table.keys[index].address, vote))
        assert replica.round == expected


def test_two_votes_of_one_validator_are_evidence_once() -> None:
    """Contradicting votes give a proof both of whose signatures anybody can check; the first one keeps counting."""
    table = Tabletop()
    table.drop = lambda _source, _target, _message: True
    table.start()
    peer = table.keys[1].address
    found = []
    for block_hash in (b"a" * 32, b"b" * 32, b"c" * 32):
        vote = signed_vote(table, 1, PREVOTE, block_hash=block_hash)
        effects = table.feed(0, events.Received(peer, vote))
        found += [effect for effect in effects if isinstance(effect, events.Evidence)]
    [evidence] = found
    assert evidence.validator == peer
    for vote in (evidence.vote_a, evidence.vote_b):
        message = vote_bytes(
            GENESIS_HASH, layer=LAYER, kind=PREVOTE, height=1, round_number=0, block_hash=vote.block_hash
        )
        assert verify_node(table.keys[1].public_key, message, vote.signature)


def test_each_vote_is_verified_once() -> None:
    """Copies of a known vote, and signatures in the next block's certificate, cost no second check."""
    checks: list[tuple[bytes, bytes]] = []

    def counting(public_key: bytes, message: bytes, signature: bytes) -> bool:
        checks.append((message, signature))
        return verify_node(public_key, message, signature)

    table = Tabletop(verify=counting, params=structs.replace(FAST, block_seconds=0.001))
    table.start()
    table.advance(2.0, lambda: min(table.heights()) >= 5)
    assert max(checks.count(check) for check in checks) <= 3  # once in each of the three other nodes


def test_a_wrong_signature_is_refused_and_blamed_on_the_sender() -> None:
    """A vote nobody cast changes nothing."""
    table = Tabletop()
    table.drop = lambda _source, _target, _message: True
    table.start()
    vote = structs.replace(signed_vote(table, 1, PREVOTE, block_hash=NIL_HASH), index=2)
    effects = table.feed(0, events.Received(table.keys[3].address, vote))
    assert effects == [events.Refused(table.keys[3].address, "a signature in its message is wrong")]


def test_junk_costs_a_bounded_number_of_checks_per_round() -> None:
    """A peer that sends wrong votes without end stops being listened to until the next round."""
    checks = 0

    def counting(_public_key: bytes, _message: bytes, _signature: bytes) -> bool:
        nonlocal checks
        checks += 1
        return False

    table = Tabletop(verify=counting)
    table.drop = lambda _source, _target, _message: True
    table.start()
    for number in range(5_000):
        vote = Vote(PREVOTE, 1, number, NIL_HASH, 1, b"j" * 64)
        table.feed(0, events.Received(table.keys[1].address, vote))
    assert checks <= 8 * 4 + 64


def test_a_late_joiner_catches_up_over_certificates() -> None:
    """A node that comes when blocks exist asks one peer at a time and executes them all."""
    table = Tabletop((1, 1, 1, 0), params=structs.replace(FAST, block_seconds=0.01))
    table.start(0, 1, 2)
    table.advance(5.0, lambda: min(table.heights()[:3]) >= 40)
    table.start(3)
    table.advance(2.0, lambda: table.heights()[3] >= 40)
    assert table.heights()[3] >= 40
    requests = [e.message for e in table.seats[3].effects if isinstance(e, events.SendTo)]
    assert sum(isinstance(message, CatchUpRequest) for message in requests) <= 10
    assert table.seats[3].machine.state_root == table.seats[3].blocks[table.heights()[3]].block.header.state_root


def test_a_forged_committed_block_is_refused() -> None:
    """Catch-up believes certificates, never peers."""
    table = Tabletop((1, 1, 1, 0))
    table.start(0, 1, 2)
    table.advance(3.0, lambda: min(table.heights()[:3]) >= 2)
    table.drop = lambda _source, _target, _message: True
    table.start(3)
    stored = table.seats[0].blocks[1]
    forged = structs.replace(stored, block=structs.replace(stored.block, entries=(b"set a 1",)))
    effects = table.feed(3, events.Received(table.keys[0].address, forged))
    assert [effect for effect in effects if isinstance(effect, events.Refused)]
    assert table.heights()[3] == 0
    table.feed(3, events.Received(table.keys[0].address, stored))
    table.settle()
    assert table.heights()[3] == 1


def test_a_final_block_that_does_not_execute_halts_the_node() -> None:
    """Going on with a wrong state would only spread it."""
    table = Tabletop((1, 1, 1, 0))
    table.start(0, 1, 2)
    table.advance(3.0, lambda: min(table.heights()[:3]) >= 1)
    table.drop = lambda _source, _target, _message: True
    table.start(3)
    effects = table.feed(3, events.Received(table.keys[0].address, table.seats[0].blocks[1]))
    [request] = [effect for effect in effects if isinstance(effect, events.RequestVerify)]
    effects = table.seats[3].replica.handle(events.Verified(request.block_hash, "state root differs"), 0.0, 0)
    assert [effect for effect in effects if isinstance(effect, events.Halt)]
    assert table.seats[3].replica.handle(events.WorkAvailable(), 0.0, 0) == []


def test_a_stuck_node_is_sent_exactly_what_it_lacks() -> None:
    """A status with empty bitmaps is answered by the proposal and every known vote, one with full bitmaps by nothing."""
    table = Tabletop()
    table.drop = lambda _source, _target, message: isinstance(message, Vote) and message.kind == PRECOMMIT
    table.start()
    table.settle()
    table.now += 1.0
    peer = table.keys[1].address
    effects = table.feed(0, events.Received(peer, RoundStatus(1, 0, 1, False, b"", b"")))
    sent = [effect.message for effect in effects if isinstance(effect, events.SendTo)]
    assert sum(isinstance(message, Proposal) for message in sent) == 1
    assert sum(isinstance(message, Vote) and message.kind == PREVOTE for message in sent) == 4
    assert sum(isinstance(message, Vote) and message.kind == PRECOMMIT for message in sent) == 1
    assert table.feed(0, events.Received(peer, RoundStatus(1, 0, 3, True, b"\x0f", b"\x0f"))) == []


def test_a_cold_start_of_all_nodes_after_a_lock_still_decides() -> None:
    """When everybody dies holding a lock, the block itself must be in the logs."""
    table = Tabletop()
    table.drop = lambda _source, _target, message: isinstance(message, Vote) and message.kind == PRECOMMIT
    table.start()
    table.settle()
    assert all(votes_of(table.sent(index))[-1] == (0, PRECOMMIT, 1) for index in range(4))
    table.drop = lambda _source, _target, _message: False
    for index in range(4):
        table.restart(index)
    table.advance(5.0, lambda: min(table.heights()) >= 1)
    assert table.heights() == [1] * 4


def test_weights_up_to_two_to_the_62_decide() -> None:
    """Thresholds are exact at the largest weights."""
    table = Tabletop((2**60, 2**60, 2**60, 2**60))
    table.start()
    table.advance(2.0, lambda: min(table.heights()) >= 2)
    assert min(table.heights()) >= 2


def test_changed_weights_vote_two_heights_later() -> None:
    """The set that block H decides is named as next in H + 1 and votes from H + 2 on."""
    table = Tabletop()
    table.start()
    for seat in table.seats:
        seat.machine.offer(b"weight 0 2 0")
    table.advance(5.0, lambda: min(table.heights()) >= 6)
    blocks = table.seats[0].blocks
    changed = next(height for height, known in blocks.items() if known.block.entries)
    assert blocks[changed].block.header.next_validators_hash == table.validators.hash
    assert blocks[changed + 1].block.header.next_validators_hash != table.validators.hash
    assert blocks[changed + 2].block.header.validators_hash == blocks[changed + 1].block.header.next_validators_hash
