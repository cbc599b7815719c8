"""No key material leaves: neither a secret of the ring in any form, nor what looks like one."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.keys import KeyRing, NodeSecrets, complete_ring
from orchestrator.testnet.redaction import MARK, Redactor, forms_of, secrets_of

SEED = bytes(range(32))


def ring(seed: bytes = SEED) -> KeyRing:
    """A ring of one node, with all kinds of secrets."""
    counter = iter(range(1, 1_000))
    full = complete_ring(KeyRing(), ["n1"], lambda size: bytes([next(counter) % 250 + 1]) * size)
    return KeyRing(
        nodes={"n1": NodeSecrets(seed.hex(), full.nodes["n1"].owner_secret)},
        wallets=full.wallets,
        coordinator=full.coordinator,
    )


@given(seed=st.binary(min_size=32, max_size=32), around=st.binary(max_size=40))
def test_every_secret_of_the_ring_is_taken_out_in_every_form(seed: bytes, around: bytes) -> None:
    """Hex in both cases, both alphabets of base64, raw bytes and lists of numbers: none survives, whatever surrounds it."""
    cleaner = Redactor(ring(seed))
    for secret in secrets_of(ring(seed)):
        for form in forms_of(secret):
            assert form not in cleaner.clean(around + form + around)
    assert cleaner.count > 0


@pytest.mark.parametrize(
    "text",
    [
        '{"event": "x", "owner_secret": "0011223344"}',
        "password=hunter2, next",
        "ansible_become_password: 'hunter2'",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2 and the log was cut here",
        "vault_password: hunter2",
    ],
)
def test_what_looks_like_a_secret_is_taken_out_too(text: str) -> None:
    """Values under telling names, and private key blocks, also torn ones."""
    clean = Redactor(ring()).clean(text.encode())
    assert b"hunter2" not in clean and b"0011223344" not in clean
    assert MARK in clean


def test_what_is_no_secret_stays_as_it_was() -> None:
    """Public keys, hashes, amounts and JSON survive byte for byte."""
    text = json.dumps(
        {"public_key": "ab" * 32, "state_root": "cd" * 32, "tokens": 5, "event": "a secret meeting"}
    ).encode()
    cleaner = Redactor(ring())
    assert cleaner.clean(text) == text
    assert cleaner.clean(base64.b64encode(bytes(64))) == base64.b64encode(bytes(64))
    assert cleaner.count == 0
