"""Asking the faucet: the same payment each time, patience with what passes, and its own words for what does not."""

from __future__ import annotations

import msgspec
import pytest

from orchestrator.errors import PartialFailure
from orchestrator.joining import paying
from orchestrator.node_status import Answer
from stratos.crypto.keys import WalletKey
from stratos.wire.faucet import FaucetPayment, FaucetRequest
from tests.unit.orchestrator.joining.conftest import Issue

WALLET = WalletKey.from_secret(b"w" * 32)


class FakeFaucet:
    """Gives these answers in turn, the last one for ever; keeps what it was asked."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.asked: list[FaucetRequest] = []

    def __call__(self, content: bytes) -> Answer | None:
        self.asked.append(msgspec.json.decode(content, type=FaucetRequest))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def refusal(status: int, code: str) -> Answer:
    return Answer(status, msgspec.json.encode({"error": {"code": code, "sentence": f"because of {code}"}}))


PAID = Answer(200, msgspec.json.encode(FaucetPayment(wallet=WALLET.text, amount_wei="8", tx_hash="0" * 64, height="4")))


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between two questions."""
    monkeypatch.setattr(paying, "PAUSE_SECONDS", 0.0)


def ask(issue: Issue, faucet: FakeFaucet, seconds: float = 60.0) -> FaucetPayment:
    return paying.ask_faucet(issue(), WALLET, deadline_seconds=seconds, say=lambda _text: None, ask=faucet)


def test_what_passes_is_waited_for_with_the_same_request(issue: Issue) -> None:
    """Silence, a full block, a busy faucet: asked again under one nonce, so one payment comes of it."""
    faucet = FakeFaucet(None, refusal(503, "pending"), refusal(503, "busy"), refusal(503, "chain"), PAID)
    assert ask(issue, faucet).height == "4"
    assert len({one.nonce for one in faucet.asked}) == 1
    ask(issue, again := FakeFaucet(PAID))
    assert again.asked[0].nonce == faucet.asked[0].nonce


@pytest.mark.parametrize(
    ("status", "code"), [(403, "ticket_used"), (429, "address_day"), (503, "spent"), (503, "empty")]
)
def test_what_does_not_pass_is_told_in_the_faucets_words(status: int, code: str, issue: Issue) -> None:
    """At once, with what to do."""
    with pytest.raises(PartialFailure, match=f"because of {code}.*--wallet"):
        ask(issue, FakeFaucet(refusal(status, code)))


def test_patience_ends(issue: Issue) -> None:
    """A faucet that never answers is told after the deadline; so is one that answers something else."""
    with pytest.raises(PartialFailure, match="does not answer"):
        ask(issue, FakeFaucet(None), seconds=0.0)
    with pytest.raises(PartialFailure, match="HTTP 502"):
        ask(issue, FakeFaucet(Answer(502, b"<html>")))
