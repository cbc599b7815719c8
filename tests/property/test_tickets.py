"""Tickets: what is written is read back, and no byte of the text can be changed unnoticed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratos.crypto.keys import NodeKey
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.config import HostPort
from stratos.wire.ticket import (
    MAX_TICKET_TEXT,
    TICKET_PREFIX,
    MetaSeed,
    Ticket,
    TicketBody,
    TicketError,
    ValidatorSeed,
    dump_ticket,
    read_ticket,
    refuse_ticket,
    sign_ticket,
)

KEY = NodeKey.from_seed(b"c" * 32)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
keys = st.binary(min_size=32, max_size=32)
places: st.SearchStrategy[HostPort] = st.builds(lambda host, port: f"{host}:{port}", names, st.integers(1, 65_535))
bodies = st.builds(
    TicketBody,
    version=st.just(1),
    id=st.binary(min_size=16, max_size=16),
    network=names,
    genesis_hash=keys,
    role=st.sampled_from(["resource", "meta", "validator"]),
    tier=st.integers(0, 3),
    hardware_permille=st.integers(1, 1_000),
    grant_wei=st.integers(0, 10**24).map(str),
    uses=st.integers(1, 10_000),
    issued_ms=st.integers(0, 2**50),
    expires_ms=st.integers(0, 2**50),
    coordinator=st.just(KEY.public_key),
    meta=st.lists(st.builds(MetaSeed, names, places, places, keys), min_size=1, max_size=3).map(tuple),
    validators=st.lists(st.builds(ValidatorSeed, names, places, places, keys), min_size=1, max_size=3).map(tuple),
    faucet=st.sampled_from(["", "http://192.0.2.1:8889"]),
    public_files=st.sampled_from(["", "https://example.org/net"]),
    slice_transport=st.sampled_from(["tls", "plain"]),
)
tickets = bodies.map(lambda body: sign_ticket(KEY, body))


@given(tickets)
def test_a_ticket_survives_its_text(ticket: Ticket) -> None:
    """Text and ticket are one thing in two forms, with or without the line breaks of a mail."""
    text = dump_ticket(ticket)
    assert read_ticket(text) == ticket
    assert read_ticket("\n".join(text[start : start + 60] for start in range(0, len(text), 60)) + "\n") == ticket


@given(tickets, st.data())
def test_every_flipped_bit_of_the_signed_bytes_is_refused(ticket: Ticket, data: st.DataObject) -> None:
    """Whoever changes a bit and mends the check sum has no ticket: forged, or not a ticket at all."""
    from blake3 import blake3

    payload = bytearray(encode(ticket))
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    mended = bytes(payload) + blake3(bytes(payload)).digest()[:4]
    text = TICKET_PREFIX + base64.urlsafe_b64encode(mended).rstrip(b"=").decode()
    with pytest.raises(TicketError):
        read_ticket(text)


@given(tickets, st.data())
def test_every_changed_character_is_refused(ticket: Ticket, data: st.DataObject) -> None:
    """A mistyped, missing or additional character is told as damage, not as somebody's ticket."""
    text = dump_ticket(ticket)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/"))
    changed = data.draw(
        st.sampled_from([text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :], text + letter])
    )
    if changed != text:
        with pytest.raises(TicketError):
            read_ticket(changed)


@given(st.text(max_size=200), st.binary(max_size=300))
def test_junk_is_refused_with_a_sentence(text: str, data: bytes) -> None:
    """Whatever is passed as a ticket raises the one error a person can read."""
    for candidate in (text, TICKET_PREFIX + text, TICKET_PREFIX + base64.urlsafe_b64encode(data).decode()):
        with pytest.raises(TicketError):
            read_ticket(candidate)


@given(tickets, keys)
def test_a_ticket_signed_by_another_is_forged(ticket: Ticket, seed: bytes) -> None:
    """The signature must be of the coordinator that the ticket names."""
    other = NodeKey.from_seed(seed)
    forged = sign_ticket(other, ticket.body)
    if other.public_key != KEY.public_key:
        with pytest.raises(TicketError, match="forged"):
            read_ticket(dump_ticket(forged))


@given(tickets, st.integers(0, 2**51))
def test_a_ticket_is_good_until_it_expires(ticket: Ticket, now_ms: int) -> None:
    """Not a millisecond longer, and for nobody who trusts another coordinator."""
    if now_ms < ticket.body.expires_ms:
        refuse_ticket(ticket, now_ms=now_ms, coordinator=KEY.public_key)
        with pytest.raises(TicketError, match="which you trust"):
            refuse_ticket(ticket, now_ms=now_ms, coordinator=bytes(32))
    else:
        with pytest.raises(TicketError, match="expired"):
            refuse_ticket(ticket, now_ms=now_ms)


def test_the_largest_ticket_has_room() -> None:
    """Eight seeds of each layer with the longest names still make a text within the bound."""
    name, place = "n" * 63, f"{'h' * 120}:65535"
    body = TicketBody(
        version=1,
        id=bytes(16),
        network=name,
        genesis_hash=bytes(32),
        role="resource",
        tier=3,
        hardware_permille=1_000,
        grant_wei=str(10**24),
        uses=1,
        issued_ms=0,
        expires_ms=1,
        coordinator=KEY.public_key,
        meta=(MetaSeed(name, place, place, bytes(32)),) * 8,
        validators=(ValidatorSeed(name, place, place, bytes(32)),) * 8,
        faucet="http://" + "f" * 200,
        public_files="https://" + "p" * 200,
        slice_transport="plain",
    )
    text = dump_ticket(sign_ticket(KEY, body))
    assert len(text) <= MAX_TICKET_TEXT
    assert read_ticket(text).body == body


def test_unsigned_bytes_are_no_ticket() -> None:
    """A body alone is not decoded as a ticket."""
    with pytest.raises(WireError):
        decode(encode((1, 2)), Ticket)
