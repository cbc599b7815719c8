"""Vote sets, validator sets and certificates on random weights and votes."""

from hypothesis import given
from hypothesis import strategies as st

from stratos.bft.certificate import CertificateError, make_commit, verify_commit
from stratos.bft.quorum import has_honest, is_quorum, quorum
from stratos.bft.validator_set import ValidatorSet
from stratos.bft.votes import AHEAD_ROUNDS, PAST_ROUNDS, HeightVotes, VoteSet
from stratos.crypto.keys import verify_node
from stratos.sim.cluster import sim_key
from stratos.wire.block import NIL_HASH, PRECOMMIT, PREVOTE, Commit, Validator, Vote

GENESIS = b"g" * 32
BLOCKS = (b"a" * 32, b"b" * 32, NIL_HASH)
KEYS = sorted((sim_key(3, "property", index) for index in range(9)), key=lambda key: key.address)

weight_lists = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 2**58)), min_size=1, max_size=9)


def set_of(weights: list[int]) -> ValidatorSet:
    return ValidatorSet(
        Validator(key.address, key.public_key, weight) for key, weight in zip(KEYS, weights, strict=False)
    )


def vote(index: int, block_hash: bytes, *, round_number: int = 0, kind: int = PRECOMMIT) -> Vote:
    return Vote(kind, 1, round_number, block_hash, index, bytes(64))


@given(st.integers(1, 10_000))
def test_any_two_quorums_share_more_than_the_liars(count: int) -> None:
    """Two quorums of n overlap in more than the floor((n-1)/3) members that may lie."""
    assert 2 * quorum(count) - count > (count - 1) // 3
    assert is_quorum(quorum(count), count)
    assert not is_quorum(quorum(count) - 1, count)
    assert not has_honest((count - 1) // 3, count)


@given(weight_lists, st.data())
def test_at_most_one_block_gets_a_quorum(weights: list[int], data: st.DataObject) -> None:
    """Whatever everybody votes, the majority is the one block whose votes weigh more than two thirds, or none."""
    voters = set_of(weights)
    choices = data.draw(st.lists(st.sampled_from((*BLOCKS, None)), min_size=len(voters), max_size=len(voters)))
    order = data.draw(st.permutations(range(len(voters))))
    votes = VoteSet(voters)
    for index in order:
        choice = choices[index]
        if choice is not None:
            votes.add(vote(index, choice))
    totals = {
        block: sum(v.weight for v, choice in zip(voters, choices, strict=True) if choice == block) for block in BLOCKS
    }
    winners = [block for block, weight in totals.items() if 3 * weight > 2 * voters.total]
    assert [votes.majority] == (winners or [None])
    assert votes.weight == sum(totals.values())
    assert votes.has_quorum == (3 * votes.weight > 2 * voters.total)
    assert votes.seen == sum(1 << index for index, choice in enumerate(choices) if choice is not None)


@given(weight_lists, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 40), st.sampled_from(BLOCKS)), max_size=200))
def test_votes_of_a_height_stay_bounded(weights: list[int], cast: list[tuple[int, int, bytes]]) -> None:
    """Whatever is sent, only rounds near the current one keep votes, one per validator and kind; evidence is given at
    most once per validator and only for two different votes."""
    voters = set_of(weights)
    votes = HeightVotes(1, voters, layer="value", genesis_hash=GENESIS)
    accused = []
    for index, round_number, block_hash in cast:
        candidate = vote(index, block_hash, round_number=round_number, kind=PREVOTE)
        if votes.wants(candidate):
            proof = votes.add(candidate)
            if proof is not None:
                assert proof.vote_a.block_hash != proof.vote_b.block_hash
                accused.append(proof.validator)
        reached = votes.round_reached()
        if reached > 0 and reached > max(votes.rounds(), default=0) - AHEAD_ROUNDS:
            votes.enter_round(reached)
    assert len(accused) == len(set(accused))
    assert len(votes.rounds()) <= PAST_ROUNDS + AHEAD_ROUNDS + 1
    for number in votes.rounds():
        assert len(votes.round(number).prevotes.votes) <= len(voters)


@given(weight_lists, st.lists(st.integers(-1, 20), min_size=9, max_size=9))
def test_the_round_to_skip_to_has_an_honest_validator(weights: list[int], reached: list[int]) -> None:
    """It is the highest round that more than a third of the weight has reached."""
    voters = set_of(weights)
    votes = HeightVotes(1, voters, layer="value", genesis_hash=GENESIS)
    for index, number in enumerate(reached[: len(voters)]):
        if number >= 0:
            votes.add(vote(index, NIL_HASH, round_number=number, kind=PREVOTE))
    found = votes.round_reached()

    def weight_at(number: int) -> int:
        return sum(v.weight for v, r in zip(voters, reached, strict=False) if r >= number)

    assert has_honest(weight_at(found), voters.total)
    assert not has_honest(weight_at(found + 1), voters.total)


@given(weight_lists, st.integers(0, 2**40), st.integers(0, 50))
def test_proposers_are_a_function_of_set_height_and_round(weights: list[int], height: int, round_number: int) -> None:
    """Every node names the same proposer, and moving on a round is like moving on a height."""
    voters = set_of(weights)
    again = set_of(weights)
    assert voters.proposer(height, round_number) == again.proposer(height, round_number)
    assert voters.proposer(height, round_number + 1) == voters.proposer(height + 1, round_number)


@given(weight_lists, st.data())
def test_a_certificate_is_valid_exactly_when_its_signers_weigh_enough(weights: list[int], data: st.DataObject) -> None:
    """Any subset of true precommits makes a valid certificate if and only if it is a quorum."""
    voters = set_of(weights)
    signers = data.draw(st.sets(st.integers(0, len(voters) - 1)))
    votes = HeightVotes(1, voters, layer="value", genesis_hash=GENESIS)
    precommits = VoteSet(voters)
    for index in signers:
        signature = KEYS[index].sign(votes.message(PRECOMMIT, 0, BLOCKS[0]))
        precommits.add(Vote(PRECOMMIT, 1, 0, BLOCKS[0], index, signature))
    commit = make_commit(height=1, round_number=0, block_hash=BLOCKS[0], precommits=precommits)
    assert valid(commit, voters) == (precommits.majority == BLOCKS[0])


def valid(commit: Commit, voters: ValidatorSet) -> bool:
    try:
        verify_commit(BLOCKS[0], commit, voters, height=1, genesis_hash=GENESIS, layer="value", verify=verify_node)
    except CertificateError:
        return False
    return True
