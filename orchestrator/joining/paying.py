"""Asking the faucet for what a node's owner needs, so that a lost answer or a second run never costs twice.

The nonce follows from ticket and wallet: whoever asks again asks for the same payment. What the faucet calls temporary
(503 and 429 with Retry-After) is asked again until the deadline; every other refusal is told in the faucet's own words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
from blake3 import blake3

from orchestrator.errors import PartialFailure
from orchestrator.node_status import Answer, request
from stratos.crypto.keys import WalletKey
from stratos.wire.faucet import FAUCET_PATH, FaucetPayment, sign_faucet_request
from stratos.wire.ticket import Ticket, dump_ticket

ANSWER_SECONDS = 20.0
PAUSE_SECONDS = 1.0
TEMPORARY = frozenset({"pending", "chain", "busy"})

Say = Callable[[str], None]
Ask = Callable[[bytes], Answer | None]


class _Refusal(msgspec.Struct):
    code: str
    sentence: str


class _Refused(msgspec.Struct):
    error: _Refusal


def ask_faucet(
    ticket: Ticket, wallet: WalletKey, *, deadline_seconds: float, say: Say, ask: Ask | None = None
) -> FaucetPayment:
    """The payment of the ticket's grant to the wallet, in a block; raises PartialFailure with the reason."""
    body = ticket.body
    ask = ask or (lambda content: _post(body.faucet, content))
    nonce = blake3(b"join" + body.id + wallet.address).digest(length=16)
    deadline = time.monotonic() + deadline_seconds
    while True:
        signed = sign_faucet_request(
            wallet,
            nonce=nonce,
            time_ms=time.time_ns() // 1_000_000,
            amount_wei=int(body.grant_wei),
            ticket=dump_ticket(ticket),
            genesis_hash=body.genesis_hash,
        )
        answer = ask(msgspec.json.encode(signed))
        if answer is not None and answer.status == 200:
            return msgspec.json.decode(answer.body, type=FaucetPayment)
        code, sentence = _reason(answer, body.faucet)
        if code not in TEMPORARY or time.monotonic() > deadline:
            raise PartialFailure(
                f"the faucet did not pay ({code}): {sentence}; run the same command later, or give --wallet FILE with funds"
            )
        say(f"waiting for the faucet: {sentence}"[:160])
        time.sleep(PAUSE_SECONDS)


def _post(base: str, content: bytes) -> Answer | None:
    parts = urlsplit(base)
    path = f"{FAUCET_PATH}/request"
    return request(
        parts.hostname or "", parts.port or 80, path, method="POST", body=content, timeout_seconds=ANSWER_SECONDS
    )


def _reason(answer: Answer | None, base: str) -> tuple[str, str]:
    if answer is None:
        return "busy", f"{base} does not answer"
    try:
        error = msgspec.json.decode(answer.body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "http", f"{base} answered HTTP {answer.status}"
    return error.code, error.sentence
