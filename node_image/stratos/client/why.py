"""Why a node stands where it stands, and why a slice lies where it lies - checked, not believed.

A node's score is its history, added up. A slice's holders were drawn by lot: this draws the lot again from the table the
meta layer kept, after checking the seed's one part that nobody could choose, the certificate hash, against a header that
the authorities of the genesis file (and their successors) have signed.
"""

from collections.abc import Sequence

from msgspec import Struct

from stratos.client.observer import Observer
from stratos.meta.placement import Candidate, Lottery, placement_seed
from stratos.resource.tokens import AuthorityTrust
from stratos.wire.block import ValidatorChange
from stratos.wire.metarpc import (
    Evidence,
    Explain,
    Explanation,
    FileAnswer,
    GetEvidence,
    GetFile,
    GetSetChanges,
    GetSlice,
    SetChanges,
    SliceAnswer,
)
from stratos.wire.transfer import MetaEvidence


class SliceReason(Struct, frozen=True):
    """A slice with its lottery. `seed_proven`: the seed is made of what the rule says, with a certificate from a header that
    was verified from genesis. `drawn`: whom the kept table gives for that seed; empty when the table is no longer kept."""

    answer: SliceAnswer
    certificate: bytes
    seed_proven: bool
    drawn: tuple[bytes, ...]

    @property
    def agrees(self) -> bool:
        """Whether drawing again chose the same holders."""
        return self.seed_proven and self.drawn == self.answer.chosen


def explain_node(observer: Observer, node: bytes) -> Explanation:
    """A holder and the changes of its score."""
    return observer.ask_meta(Explain(node), Explanation)


def slices_of_file(observer: Observer, wallet: bytes, file_cid: bytes) -> tuple[bytes, ...]:
    """Digests of a file's slices, in order."""
    answer = observer.ask_meta(GetFile(wallet, file_cid), FileAnswer)
    return tuple(placed.spec.digest for placed in answer.slices)


def explain_slice(observer: Observer, digest: bytes) -> SliceReason:
    """A slice's lottery, drawn again."""
    answer = observer.ask_meta(GetSlice(digest), SliceAnswer)
    found = observer.ask_meta(GetEvidence(answer.placed_height), Evidence)
    trust = AuthorityTrust(observer.genesis, observer.genesis_hash, lambda height: _changes(observer, height))
    header = trust.check(MetaEvidence(found.header, found.commit))
    seed = placement_seed(
        digest=digest,
        wallet=answer.wallet,
        session=answer.session,
        certificate=header.last_commit_hash,
        beacon=answer.beacon,
    )
    proven = seed == answer.seed and header.height == answer.placed_height
    table = [Candidate(row.address, row.host, row.weight, row.tier, row.room) for row in answer.candidates]
    drawn = Lottery(table).choose(
        answer.seed, count=len(answer.chosen), length=answer.slice.spec.length, tier=answer.tier
    )
    return SliceReason(answer, header.last_commit_hash, proven, drawn)


def _changes(observer: Observer, height: int) -> Sequence[ValidatorChange]:
    answer = observer.ask_meta(GetSetChanges(height), SetChanges)
    return [ValidatorChange(change.header, change.commit, change.next_validators) for change in answer.changes]
