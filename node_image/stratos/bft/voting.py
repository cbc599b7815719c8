"""The voter: one height after the other, its rounds, proposals, votes, locks and decisions.

It carries out what `rounds.Rules` demand: signs, logs, counts and sends votes, asks the application for blocks and their
execution, sets the timers, hands the decision over. Every signature goes through `_cast` or `_propose`, which look into
what was signed before (this life or an earlier one) first. `replica.Replica` adds everything that comes from peers.
"""

from msgspec import structs

from stratos.bft.blocks import header_hash
from stratos.bft.catch_up import CatchUp
from stratos.bft.certificate import CertificateError, make_commit, run_checks
from stratos.bft.events import (
    BlockTemplate,
    Broadcast,
    CommitBlock,
    Committed,
    Effect,
    Evidence,
    Halt,
    ProposalReady,
    Refused,
    ReplaceWal,
    RequestProposal,
    RequestVerify,
    Verified,
)
from stratos.bft.height import Arrival, Candidate, HeightState, Status, Step, Tip
from stratos.bft.proposals import BlockError, check_identity, check_succession, last_commit_checks
from stratos.bft.rounds import (
    AcceptPolka,
    Action,
    CastPrecommit,
    CastPrevote,
    Decide,
    Diverged,
    EnterRound,
    Rules,
    WaitPrecommits,
    WaitPrevotes,
)
from stratos.bft.signing import Signer, Verifier, proposal_bytes
from stratos.bft.timers import Timer, Timers
from stratos.bft.votes import VoteSet
from stratos.bft.wal import Journal, LockRecord, ProposalRecord, RoundRecord, VoteRecord
from stratos.wire.block import (
    EMPTY_COMMIT,
    NIL_HASH,
    PRECOMMIT,
    PREVOTE,
    Block,
    Commit,
    PrecommitSignature,
    Proposal,
    Vote,
)
from stratos.wire.genesis import ConsensusParams


class Voter:
    """State of one participant that does not depend on who sent what."""

    def __init__(
        self,
        *,
        layer: str,
        genesis_hash: bytes,
        params: ConsensusParams,
        tip: Tip,
        address: bytes,
        sign: Signer,
        verify: Verifier,
        rules: Rules | None = None,
    ) -> None:
        self.tip = tip
        self.params = params
        self._layer = layer
        self._genesis_hash = genesis_hash
        self._address = address
        self._sign = sign
        self._verify = verify
        self._rules = rules or Rules()
        self._journal = Journal()
        self._timers = Timers()
        self._catch_up = CatchUp()
        self._state = self._new_state(tip.height + 1)
        self._ahead: HeightState | None = None
        self._stored_height = tip.height
        self._last_precommits = _certificate_votes(tip)
        self._work = False
        self._pace_until = 0.0
        self._budget: dict[bytes, int] = {}
        self._halted = False
        self._now = 0.0
        self._wall_ms = 0
        self._own: list[Effect] = []
        """Broadcasts of what was signed in this call."""
        self._out: list[Effect] = []

    @property
    def height(self) -> int:
        """The height being decided."""
        return self._state.height

    @property
    def round(self) -> int:
        return self._state.round

    @property
    def step(self) -> Step:
        return self._state.step

    @property
    def halted(self) -> bool:
        return self._halted

    @property
    def validators(self) -> "tuple[bytes, ...]":
        """Addresses of the voters of the height being decided."""
        return tuple(validator.address for validator in self._state.validators)

    # Heights.

    def _new_state(self, height: int) -> HeightState:
        tip = self.tip
        validators = tip.validators if height == tip.height + 1 else tip.next_validators
        return HeightState(height, validators, layer=self._layer, genesis_hash=self._genesis_hash)

    def _state_at(self, height: int) -> HeightState | None:
        """State of the current or, once its validators are known, the next height."""
        if height == self._state.height:
            return self._state
        if height == self._state.height + 1 and self._state.step is not Step.NEW:
            if self._ahead is None:
                self._ahead = self._new_state(height)
            return self._ahead
        return None

    def _load(self, log: bytes) -> None:
        """Take in the write-ahead log and begin."""
        if self._journal.load(log, stored_height=self.tip.height):
            self._out.append(ReplaceWal(self._journal.rewrite()))
        self._enter_height()

    def _enter_height(self) -> None:
        state = self._state
        state.memory = self._journal.recall(state.height)
        lock = state.memory.lock
        if lock is not None:
            block_hash = header_hash(lock.block.header)
            state.candidates[block_hash] = Candidate(lock.block, Status.PENDING)
            self._rules.restore(state, block_hash, lock)
            self._out.append(RequestVerify(block_hash, lock.block))
        self._enter_round(state.memory.round)
        for vote in state.memory.votes.values():
            if state.votes.wants(vote):
                state.votes.add(vote)
                if state.votes.keeps(vote.round):
                    state.note_majorities(vote.round)
        for wanted_round in list(state.proposals):
            self._consider(wanted_round)

    def _on_committed(self, event: Committed) -> None:
        if event.height != self.tip.height or self._state.step is not Step.NEW:
            return
        self._stored_height = event.height
        self.tip = structs.replace(self.tip, next_validators=event.validators)
        self._work = event.work
        if event.durable:
            self._on_durable(event.height)
        self._enter_height()

    def _on_durable(self, height: int) -> None:
        self._journal.forget(height)
        if self._journal.is_long:
            self._out.append(ReplaceWal(self._journal.rewrite()))

    # Rounds.

    def _enter_round(self, number: int) -> None:
        state = self._state
        state.enter_round(number)
        self._budget.clear()
        for timer in (Timer.PACE, Timer.PREVOTE, Timer.PRECOMMIT):
            self._timers.cancel(timer)
        if number > state.memory.round:
            state.memory.round = number
            self._journal.note(RoundRecord(state.height, number))
        if (number, PRECOMMIT) in state.memory.votes:
            state.step = Step.PRECOMMIT
        elif (number, PREVOTE) in state.memory.votes:
            state.step = Step.PREVOTE
        pace = self._pace_seconds() if number == 0 else 0.0
        self._pace_until = self._now + pace
        self._set_timer(Timer.PROPOSE, pace + self._propose_seconds(number))
        if state.step is Step.PROPOSE and self._is_proposer():
            if pace > 0:
                self._set_timer(Timer.PACE, pace)
            else:
                self._begin_proposal()
        self._consider(number)

    def _is_proposer(self) -> bool:
        state = self._state
        return (
            state.validators.proposer(state.height, state.round).address == self._address
            and state.round not in state.memory.proposed
        )

    def _begin_proposal(self) -> None:
        """Propose the valid block again, else ask the application for a new one."""
        state = self._state
        if state.valid_hash is not None:
            self._propose(state.valid_hash, state.block_of(state.valid_hash), state.valid_round, state.valid_polka)
            return
        template = BlockTemplate(
            layer=self._layer,
            genesis_hash=self._genesis_hash,
            height=state.height,
            time_ms=max(self.tip.time_ms + 1, self._wall_ms),
            previous_hash=self.tip.block_hash,
            last_commit=self._last_commit(),
            validators_hash=self.tip.validators.hash,
            next_validators_hash=self.tip.next_validators.hash,
            proposer=self._address,
        )
        self._out.append(RequestProposal(state.height, state.round, template))

    def _on_proposal_ready(self, event: ProposalReady) -> None:
        state = self._state
        if (event.height, event.round) != (state.height, state.round) or state.step is not Step.PROPOSE:
            return
        if not self._is_proposer():
            return
        block_hash = header_hash(event.block.header)
        state.candidates[block_hash] = Candidate(event.block, Status.VALID)
        self._propose(block_hash, event.block, -1, ())

    def _propose(
        self, block_hash: bytes, block: Block, valid_round: int, polka: tuple[PrecommitSignature, ...]
    ) -> None:
        state = self._state
        message = proposal_bytes(
            self._genesis_hash,
            layer=self._layer,
            height=state.height,
            round_number=state.round,
            valid_round=valid_round,
            block_hash=block_hash,
        )
        proposal = Proposal(state.height, state.round, valid_round, block, polka, self._sign(message))
        state.memory.proposed[state.round] = block_hash
        self._journal.note(ProposalRecord(state.height, state.round, block_hash))
        self._own.append(Broadcast(proposal))
        state.proposals[state.round] = Arrival(proposal, block_hash, True)

    def _cast(self, kind: int, block_hash: bytes) -> None:
        """Sign, log, count and send a vote of the current round; never a second one."""
        state = self._state
        index = state.validators.index_of(self._address)
        if index is None or (state.round, kind) in state.memory.votes:
            return
        signature = self._sign(state.votes.message(kind, state.round, block_hash))
        vote = Vote(kind, state.height, state.round, block_hash, index, signature)
        state.memory.votes[state.round, kind] = vote
        self._journal.note(VoteRecord(vote))
        self._own.append(Broadcast(vote))
        self._count(state, vote)

    def _run_rules(self) -> None:
        while not self._halted and (action := self._rules.next(self._state)) is not None:
            self._do(action)

    def _do(self, action: Action) -> None:
        state = self._state
        match action:
            case CastPrevote(block_hash):
                state.step = Step.PREVOTE
                self._cast(PREVOTE, block_hash)
            case CastPrecommit():
                state.step = Step.PRECOMMIT
                self._cast(PRECOMMIT, NIL_HASH)
            case AcceptPolka(block_hash, lock):
                state.polka_seen = True
                self._rules.keep_valid(state, block_hash)
                if lock:
                    self._rules.lock(state, block_hash)
                    state.step = Step.PRECOMMIT
                    if state.validators.index_of(self._address) is not None:
                        polka = state.votes.round(state.round).prevotes.signatures(block_hash)
                        self._journal.note(LockRecord(state.height, state.round, state.block_of(block_hash), polka))
                    self._cast(PRECOMMIT, block_hash)
            case EnterRound(number):
                self._enter_round(number)
            case WaitPrevotes():
                state.prevote_wait = True
                self._set_timer(Timer.PREVOTE, self._vote_seconds())
            case WaitPrecommits():
                state.precommit_wait = True
                self._set_timer(Timer.PRECOMMIT, self._vote_seconds())
            case Decide(block_hash, number):
                self._decide(block_hash, number)
            case Diverged(block_hash):
                self._halt(
                    f"block {block_hash.hex()} of height {state.height} is final but does not execute here; this "
                    f"node's state is wrong, restore it from another node"
                )

    def _decide(self, block_hash: bytes, round_number: int | None) -> None:
        state = self._state
        block = state.block_of(block_hash)
        if round_number is None:
            assert state.certified is not None
            commit = state.certified[1].commit
        else:
            commit = make_commit(
                height=state.height,
                round_number=round_number,
                block_hash=block_hash,
                precommits=state.votes.round(round_number).precommits,
            )
        self._out.append(CommitBlock(block_hash, block, commit))
        tip = self.tip
        self.tip = Tip(
            height=state.height,
            block_hash=block_hash,
            time_ms=block.header.time_ms,
            commit=commit,
            voters=state.validators,
            validators=tip.next_validators,
            next_validators=tip.next_validators,
        )
        if round_number is None:
            self._last_precommits = _certificate_votes(self.tip)
        else:
            self._last_precommits = state.votes.round(round_number).precommits
        for timer in (Timer.PACE, Timer.PROPOSE, Timer.PREVOTE, Timer.PRECOMMIT):
            self._timers.cancel(timer)
        self._catch_up.advance(state.height)
        self._state = self._ahead or self._new_state(state.height + 1)
        self._ahead = None

    def _last_commit(self) -> Commit:
        """The certificate of the tip with every precommit that came in time."""
        if self._last_precommits is None:
            return EMPTY_COMMIT
        return make_commit(
            height=self.tip.height,
            round_number=self.tip.commit.round,
            block_hash=self.tip.block_hash,
            precommits=self._last_precommits,
        )

    def _halt(self, reason: str) -> None:
        self._halted = True
        self._out.append(Halt(reason))

    def _count(self, state: HeightState, vote: Vote) -> None:
        proof = state.votes.add(vote)
        if proof is not None:
            self._out.append(Evidence(proof.validator, proof.vote_a, proof.vote_b))
        if state.votes.keeps(vote.round):
            wanted = len(state.wanted)
            state.note_majorities(vote.round)
            if len(state.wanted) > wanted and state is self._state:
                for number in list(state.proposals):
                    self._consider(number)

    def _consider(self, number: int) -> None:
        """Have the proposal of a round executed once its turn has come, or its block has a quorum anyway."""
        state = self._state
        arrival = state.proposals.get(number)
        if arrival is None or state.step is Step.NEW or arrival.block_hash in state.candidates:
            return
        if number != state.round and arrival.block_hash not in state.wanted:
            return
        block = arrival.proposal.block
        try:
            check_identity(block.header, layer=self._layer, genesis_hash=self._genesis_hash, height=state.height)
            check_succession(block.header, self.tip)
            checks = last_commit_checks(
                block,
                self.tip,
                genesis_hash=self._genesis_hash,
                layer=self._layer,
                known=self._last_precommits,
            )
            run_checks(checks, self._verify)
        except (BlockError, CertificateError) as error:
            state.candidates[arrival.block_hash] = Candidate(block, Status.INVALID)
            self._out.append(Refused(state.validators.proposer(state.height, number).address, str(error)))
            return
        state.candidates[arrival.block_hash] = Candidate(block, Status.PENDING)
        self._out.append(RequestVerify(arrival.block_hash, block))

    def _on_verified(self, event: Verified) -> None:
        candidate = self._state.candidates.get(event.block_hash)
        if candidate is None or candidate.status is not Status.PENDING:
            return
        candidate.status = Status.VALID if event.error is None else Status.INVALID
        if event.error is not None:
            self._out.append(Refused(candidate.block.header.proposer, event.error))

    # Time.

    def _set_timer(self, timer: Timer, delay_seconds: float) -> None:
        effect = self._timers.set(timer, delay_seconds, self._now)
        if effect is not None:
            self._out.append(effect)

    def _propose_seconds(self, number: int) -> float:
        return self.params.propose_timeout_seconds + number * self.params.timeout_delta_seconds

    def _vote_seconds(self) -> float:
        return self.params.vote_timeout_seconds + self._state.round * self.params.timeout_delta_seconds

    def _status_seconds(self) -> float:
        return self.params.vote_timeout_seconds / 2

    def _pace_seconds(self) -> float:
        """How long the next block should still wait: counted from the last block's time, so that nodes agree."""
        if self._last_precommits is None:
            return 0.0
        gap = self.params.min_block_seconds if self._work else self.params.block_seconds
        since = (self._wall_ms - self.tip.time_ms) / 1000
        pace = min(max(gap - since, 0.0), gap)
        # Block time moves at least 1 ms a block; do not let it run away from the clock, or others refuse it.
        ahead = -since - self.params.clock_drift_seconds / 2
        return max(pace, min(ahead, self.params.block_seconds))

    def _on_work(self) -> None:
        if self._work:
            return
        self._work = True
        state = self._state
        if state.step is not Step.PROPOSE or state.round != 0 or self._now >= self._pace_until:
            return
        pace = min(self._pace_seconds(), self._pace_until - self._now)
        self._pace_until = self._now + pace
        self._set_timer(Timer.PROPOSE, pace + self._propose_seconds(0))
        if self._is_proposer():
            if pace > 0:
                self._set_timer(Timer.PACE, pace)
            else:
                self._timers.cancel(Timer.PACE)
                self._begin_proposal()


def _certificate_votes(tip: Tip) -> VoteSet | None:
    """The tip's certificate as a vote set, to which late precommits are added; None before the first block."""
    if tip.commit == EMPTY_COMMIT:
        return None
    votes = VoteSet(tip.voters)
    for signature in tip.commit.signatures:
        votes.add(Vote(PRECOMMIT, tip.height, tip.commit.round, tip.block_hash, signature.index, signature.signature))
    return votes
