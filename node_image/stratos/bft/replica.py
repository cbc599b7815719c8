"""One consensus participant: events in, effects out (see `events` for the contract with its shell).

The replica holds the committed tip, the state of the height being decided, early messages of the next one, and the parts
that do one thing each: `rounds.Rules` says what the algorithm demands next, `journal` what must survive a crash, `gossip`
and `catch_up` repair losses. Every `handle` call takes the event in, lets the rules run until they are silent, and arranges the
effects so that everything signed in the call is in the synced log before the first byte of it leaves.
What must stay true: a vote or proposal for a (height, round, kind) is signed once in a lifetime, crashes included.
A node without a key among the validators runs the same code and merely follows.
"""

from stratos.bft import gossip
from stratos.bft.blocks import header_hash
from stratos.bft.catch_up import TIMEOUT_SECONDS
from stratos.bft.certificate import CertificateError, certificate_checks
from stratos.bft.events import (
    Committed,
    Durable,
    Effect,
    Event,
    PeerDown,
    PeerUp,
    ProposalReady,
    ReadBlock,
    Received,
    Refused,
    RequestVerify,
    SendTo,
    Start,
    Timeout,
    Verified,
    WorkAvailable,
    WriteWal,
)
from stratos.bft.height import Arrival, Candidate, HeightState, Status, Step, Tip
from stratos.bft.proposals import (
    BlockError,
    check_body,
    check_identity,
    check_succession,
    is_timely,
    proposal_checks,
)
from stratos.bft.rounds import CastPrecommit, CastPrevote, Rules
from stratos.bft.signing import SignatureCheck, Signer, Verifier, vote_bytes
from stratos.bft.timers import Timer
from stratos.bft.votes import AHEAD_ROUNDS
from stratos.bft.voting import Voter
from stratos.wire.block import (
    NIL_HASH,
    PRECOMMIT,
    PREVOTE,
    CatchUpRequest,
    CommittedBlock,
    ConsensusMessage,
    Proposal,
    RoundStatus,
    Vote,
)
from stratos.wire.genesis import ConsensusParams

ANSWER_GAP_SECONDS = 0.02
"""The same status of the same peer is answered at most this often."""


class Replica(Voter):
    """Consensus, catch-up and write-ahead log of one node of one layer."""

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
        super().__init__(
            layer=layer,
            genesis_hash=genesis_hash,
            params=params,
            tip=tip,
            address=address,
            sign=sign,
            verify=verify,
            rules=rules,
        )
        self._peers = gossip.PeerRing()
        self._answered: dict[bytes, tuple[RoundStatus, float]] = {}
        self._last_mark: object = None
        self._beats = 0

    # The seam.

    def handle(self, event: Event, now: float, wall_ms: int) -> list[Effect]:
        """Take one event in at monotonic time `now` (seconds) and wall clock `wall_ms`; effects in order."""
        if self._halted:
            return []
        self._now, self._wall_ms = now, wall_ms
        match event:
            case Received():
                self._on_received(event)
            case Verified():
                self._on_verified(event)
            case ProposalReady():
                self._on_proposal_ready(event)
            case Committed():
                self._on_committed(event)
            case Timeout():
                self._on_timeout(event)
            case Durable():
                self._on_durable(event.height)
            case WorkAvailable():
                self._on_work()
            case PeerUp():
                self._peers.add(event.peer)
                if self._state.step is not Step.NEW:
                    self._out.append(SendTo(event.peer, gossip.status_of(self._state)))
            case PeerDown():
                self._peers.remove(event.peer)
                self._catch_up.forget_peer(event.peer)
                self._answered.pop(event.peer, None)
            case Start():
                self._set_timer(Timer.STATUS, self._status_seconds())
                self._load(event.wal)
        self._run_rules()
        self._seek_blocks()
        own, rest = self._own, self._out
        self._own, self._out = [], []
        return self._arrange(self._journal.flush(), own, rest)

    def signature_check(self, message: ConsensusMessage) -> list[SignatureCheck]:
        """Signatures the core would check in this message now. A shell that checks them (all right, at least one) in
        threads passes Received(..., verified=True); an empty list means: pass it on unverified, it costs nothing."""
        if isinstance(message, Vote):
            if self._is_late(message):
                return [self._late_check(message)]
            state = self._state_at(message.height)
            return [state.votes.check(message)] if state is not None and state.votes.wants(message) else []
        if isinstance(message, Proposal):
            state = self._state_at(message.height)
            block_hash = header_hash(message.block.header)
            if state is not None and self._is_news(state, message, block_hash):
                try:
                    return proposal_checks(
                        message, block_hash, state, genesis_hash=self._genesis_hash, layer=self._layer
                    )
                except (BlockError, CertificateError):
                    return []
        return []

    def _arrange(self, wal: bytes, own: list[Effect], rest: list[Effect]) -> list[Effect]:
        """The log first, synced when anything of our own leaves; then that; then everything else."""
        if own:
            return [WriteWal(wal, True), *own, *rest] if wal else [*own, *rest]
        return [WriteWal(wal, False), *rest] if wal else rest

    def _on_timeout(self, event: Timeout) -> None:
        due, rearm = self._timers.fired(event.id, self._now)
        if rearm is not None:
            self._out.append(rearm)
        if not due:
            return
        state = self._state
        match event.id:
            case Timer.PACE:
                if state.step is Step.PROPOSE and state.round == 0 and self._is_proposer():
                    self._begin_proposal()
            case Timer.PROPOSE:
                if state.step is Step.PROPOSE:
                    self._do(CastPrevote(NIL_HASH))
            case Timer.PREVOTE:
                if state.step is Step.PREVOTE:
                    self._do(CastPrecommit())
            case Timer.PRECOMMIT:
                self._enter_round(state.round + 1)
            case Timer.STATUS:
                self._on_status_timer()
            case Timer.CATCH_UP:
                self._catch_up.give_up()

    # Messages.

    def _on_received(self, event: Received) -> None:
        peer, message = event.peer, event.message
        match message:
            case Vote():
                self._on_vote(peer, message, verified=event.verified)
            case Proposal():
                self._on_proposal(peer, message, verified=event.verified)
            case RoundStatus():
                self._on_status(peer, message)
            case CommittedBlock():
                self._on_committed_block(peer, message)
            case CatchUpRequest(first, count):
                last = min(first + count - 1, self._stored_height)
                self._out.extend(ReadBlock(peer, height) for height in range(max(first, 1), last + 1))

    def _passes(self, peer: bytes, checks: list[SignatureCheck], *, verified: bool) -> bool:
        """Run signature checks unless done; a peer may cause a bounded number of them per round."""
        if verified:
            return True
        limit = 8 * len(self._state.validators) + 64
        spent = self._budget[peer] = self._budget.get(peer, 0) + len(checks)
        if spent > limit:
            return False
        if all(self._verify(check.public_key, check.message, check.signature) for check in checks):
            return True
        self._out.append(Refused(peer, "a signature in its message is wrong"))
        return False

    def _on_vote(self, peer: bytes, vote: Vote, *, verified: bool) -> None:
        if self._is_late(vote):
            assert self._last_precommits is not None
            if self._passes(peer, [self._late_check(vote)], verified=verified):
                self._last_precommits.add(vote)
            return
        state = self._state_at(vote.height)
        if state is None:
            if vote.height > self._state.height:
                self._catch_up.note(peer, vote.height)
            return
        if state.votes.wants(vote) and self._passes(peer, [state.votes.check(vote)], verified=verified):
            self._count(state, vote)

    def _is_late(self, vote: Vote) -> bool:
        """A precommit for the block just committed: it still belongs into the certificate of the next block."""
        known = self._last_precommits
        return (
            known is not None
            and vote.height == self.tip.height
            and vote.kind == PRECOMMIT
            and vote.round == self.tip.commit.round
            and vote.block_hash == self.tip.block_hash
            and vote.index < len(self.tip.voters)
            and vote.index not in known.votes
        )

    def _late_check(self, vote: Vote) -> SignatureCheck:
        message = vote_bytes(
            self._genesis_hash,
            layer=self._layer,
            kind=PRECOMMIT,
            height=vote.height,
            round_number=vote.round,
            block_hash=vote.block_hash,
        )
        return SignatureCheck(self.tip.voters[vote.index].public_key, message, vote.signature)

    def _is_news(self, state: HeightState, proposal: Proposal, block_hash: bytes) -> bool:
        """Whether a proposal is worth its checks: near rounds, one each, another only for a block with a quorum."""
        if proposal.round > state.round + AHEAD_ROUNDS:
            return False
        wanted = block_hash in state.wanted and block_hash not in state.candidates
        known = state.proposals.get(proposal.round)
        if known is not None:
            return wanted and known.block_hash != block_hash
        return wanted or proposal.round >= state.round

    def _on_proposal(self, peer: bytes, proposal: Proposal, *, verified: bool) -> None:
        state = self._state_at(proposal.height)
        if state is None:
            if proposal.height > self._state.height:
                self._catch_up.note(peer, proposal.height)
            return
        block_hash = header_hash(proposal.block.header)
        if not self._is_news(state, proposal, block_hash):
            return
        try:
            checks = proposal_checks(proposal, block_hash, state, genesis_hash=self._genesis_hash, layer=self._layer)
            if not self._passes(peer, checks, verified=verified):
                return
            check_body(proposal.block, self.params)
        except (BlockError, CertificateError) as error:
            self._out.append(Refused(peer, str(error)))
            return
        timely = is_timely(proposal.block.header.time_ms, self._wall_ms, self.params)
        state.proposals[proposal.round] = Arrival(proposal, block_hash, timely)
        for signature in proposal.polka:
            self._count(
                state,
                Vote(PREVOTE, state.height, proposal.valid_round, block_hash, signature.index, signature.signature),
            )
        if state is self._state:
            self._consider(proposal.round)

    # Repair and catch-up.

    def _on_status_timer(self) -> None:
        self._set_timer(Timer.STATUS, self._status_seconds())
        state = self._state
        if state.step is Step.NEW:
            return
        votes = state.votes.round(state.round)
        mark = (state.height, state.round, state.step, votes.prevotes.seen, votes.precommits.seen)
        waiting = state.step is Step.PROPOSE and self._now < self._pace_until
        stuck = mark == self._last_mark and not waiting
        self._last_mark = mark
        self._beats += 1
        if stuck or self._beats % gossip.HEARTBEAT_EVERY == 0:
            status = gossip.status_of(state)
            count = gossip.STATUS_PEERS if stuck else gossip.HEARTBEAT_PEERS
            self._out.extend(SendTo(peer, status) for peer in self._peers.take(count))

    def _on_status(self, peer: bytes, status: RoundStatus) -> None:
        state = self._state
        if status.height > state.height:
            self._catch_up.note(peer, status.height)
            return
        answered = self._answered.get(peer)
        if answered is not None and answered[0] == status and self._now - answered[1] < ANSWER_GAP_SECONDS:
            return
        self._answered[peer] = (status, self._now)
        if status.height < state.height:
            self._out.append(SendTo(peer, gossip.status_of(state)))
        else:
            self._out.extend(SendTo(peer, message) for message in gossip.missing(state, status))

    def _is_between_heights(self) -> bool:
        return self._state.step is Step.NEW or self._halted

    def _seek_blocks(self) -> None:
        """Adopt the next held block, or ask for the next ones."""
        if self._is_between_heights():
            return
        if self._state.certified is None:
            held = self._catch_up.take(self._state.height)
            if held is not None:
                self._adopt(*held)
                self._run_rules()
                if self._is_between_heights():
                    return
        request = self._catch_up.next_request(self.tip.height)
        if request is not None:
            self._out.append(SendTo(*request))
            self._set_timer(Timer.CATCH_UP, TIMEOUT_SECONDS)

    def _on_committed_block(self, peer: bytes, message: CommittedBlock) -> None:
        height = message.block.header.height
        state = self._state
        if height == state.height and state.step is not Step.NEW and state.certified is None:
            self._adopt(peer, message)
        else:
            self._catch_up.hold(peer, message, self.tip.height)

    def _adopt(self, peer: bytes, message: CommittedBlock) -> None:
        """Check a block of the current height against its certificate; then it only has to execute."""
        state = self._state
        block, commit = message.block, message.commit
        block_hash = header_hash(block.header)
        try:
            check_identity(block.header, layer=self._layer, genesis_hash=self._genesis_hash, height=state.height)
            known = state.votes.round(commit.round).precommits if state.votes.keeps(commit.round) else None
            checks = certificate_checks(
                commit,
                state.validators,
                genesis_hash=self._genesis_hash,
                layer=self._layer,
                height=state.height,
                block_hash=block_hash,
                known=known,
            )
            if not self._passes(peer, checks, verified=False):
                self._catch_up.forget_peer(peer)
                return
            check_body(block, self.params)
        except (BlockError, CertificateError) as error:
            self._out.append(Refused(peer, str(error)))
            self._catch_up.forget_peer(peer)
            return
        try:
            check_succession(block.header, self.tip)
        except BlockError as error:
            self._halt(f"block {state.height} is certified but does not continue this node's chain: {error}")
            return
        state.certified = (block_hash, message)
        if block_hash not in state.candidates:
            state.candidates[block_hash] = Candidate(block, Status.PENDING)
            self._out.append(RequestVerify(block_hash, block))
