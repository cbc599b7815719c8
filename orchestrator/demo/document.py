"""What the demo says about its run, and what in it is not as it must be.

The document is the JSON of `demo --json`; `checks` is the list of conditions a run has to meet, as data, so that the
report shows each with what was found, and a failed one is a sentence.
"""

from msgspec import Struct, field

from orchestrator.audit.evidence import AGREE, Finding
from orchestrator.report.data import Check

MIN_EPOCHS = 4
MIN_COPIES = 4


class Counted(Struct, frozen=True):
    """One kind of traffic, only verified work counted."""

    ok: int = 0
    failed: int = 0
    bytes: int = 0


class DemoReward(Struct, frozen=True):
    """What one node earned in all settled epochs."""

    node: str
    role: str
    traffic_noz: int
    mining_wei: int
    traffic_wei: int


class DemoAudit(Struct, frozen=True):
    """The audit's word; `reason` when it could not judge, `findings` when it disagrees."""

    verdict: str
    epochs: int
    findings: tuple[Finding, ...] = ()
    reason: str = ""


class VideoPlayed(Struct, frozen=True):
    """A clip that was put and played through the gateway. `early_segments`: fetched before the upload was whole."""

    handle: str
    segments: int
    seconds: float
    played_seconds: float
    video_codec: str
    audio_codec: str
    early_segments: int


class Withdrawn(Struct, frozen=True):
    """A matured reward that was withdrawn."""

    node: str
    wallet: str
    amount_wei: int
    tx_hash: str
    height: int


class Prepaid(Struct, frozen=True):
    """Ozone the user bought while traffic ran."""

    amount_wei: int
    bought_noz: int
    height: int


class Proven(Struct, frozen=True):
    """One payout verified from receipts to state with only the genesis file."""

    node: str
    epoch: int
    receipts: int
    mining_wei: int
    traffic_wei: int


class DemoDocument(Struct, frozen=True, kw_only=True):
    """The JSON of the demo."""

    up_seconds: float
    nodes: dict[str, int]
    height: int
    state_roots_equal: bool
    uploads: Counted
    downloads: Counted
    streams: Counted
    hash_mismatches: int
    copies_min: int
    copies_challenged: int
    slices_challenged: int
    epochs_settled: int
    rewards: tuple[DemoReward, ...]
    audit: DemoAudit
    video: VideoPlayed
    prepaid: Prepaid
    withdrawn: Withdrawn
    proof: Proven
    report: str
    seconds: float = 0.0
    failures: tuple[str, ...] = field(default_factory=tuple)


def checks(document: DemoDocument, *, wanted_nodes: dict[str, int]) -> tuple[Check, ...]:
    """Everything that has to hold for the run to count."""
    kinds = {"uploads": document.uploads, "downloads": document.downloads, "streams": document.streams}
    failed = sum(one.failed for one in kinds.values())
    done = ", ".join(f"{one.ok} {name}" for name, one in kinds.items())
    resources = [reward for reward in document.rewards if reward.role == "resource"]
    audit = f"{document.audit.verdict}, {document.audit.epochs} epochs"
    if document.audit.reason or document.audit.findings:
        audit += f": {document.audit.reason or f'{len(document.audit.findings)} findings'}"
    early = document.video.early_segments
    return (
        Check("nodes up", document.nodes == wanted_nodes, _counts(document.nodes), _counts(wanted_nodes)),
        Check("state roots of all validators", document.state_roots_equal, _equal(document.state_roots_equal), "equal"),
        Check("work was done and verified", all(one.ok for one in kinds.values()), done, "some of each kind"),
        Check("failed operations", failed == 0, str(failed), "0"),
        Check("wrong bytes", document.hash_mismatches == 0, str(document.hash_mismatches), "0"),
        Check(
            "copies of every slice, by fresh challenges",
            document.slices_challenged > 0 and document.copies_min >= MIN_COPIES,
            f"at least {document.copies_min} of {document.slices_challenged} slices",
            f"at least {MIN_COPIES}",
        ),
        Check(
            "epochs settled on the chain",
            document.epochs_settled >= MIN_EPOCHS,
            str(document.epochs_settled),
            f"at least {MIN_EPOCHS}",
        ),
        Check(
            "resource nodes were paid for traffic",
            any(reward.traffic_wei > 0 and reward.mining_wei > 0 for reward in resources),
            f"{sum(reward.traffic_wei > 0 for reward in resources)} of {len(resources)}",
            "at least 1",
        ),
        Check(
            "three ledgers and every recomputed payout",
            document.audit.verdict == AGREE and document.audit.epochs >= MIN_EPOCHS,
            audit,
            "agree",
        ),
        Check(
            "video played through the gateway",
            abs(document.video.played_seconds - document.video.seconds) < 1.0,
            f"{document.video.played_seconds:.2f} s of {document.video.video_codec} and {document.video.audio_codec}",
            f"{document.video.seconds:.2f} s",
        ),
        Check("playback started before the upload was whole", early > 0, f"{early} segments early", "at least 1"),
        Check(
            "ozone was bought meanwhile",
            document.prepaid.bought_noz > 0,
            f"{document.prepaid.bought_noz:,} noz",
            "some",
        ),
        Check("a matured reward was withdrawn", document.withdrawn.amount_wei > 0, document.withdrawn.node, "one"),
        Check("a payout was proven from receipts to state", document.proof.receipts > 0, document.proof.node, "one"),
    )


def _counts(nodes: dict[str, int]) -> str:
    return ", ".join(f"{count} {role}" for role, count in nodes.items())


def _equal(equal: bool) -> str:
    return "equal" if equal else "different"
