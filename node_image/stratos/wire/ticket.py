"""A join ticket: what a coordinator hands to a participant, as one line of text that survives a mail.

It names the network (by its genesis hash), the seeds that serve the rest, and what the bearer may do: which role and
tier, until when, and how much the faucet pays for it. The genesis itself is not in it but must have that hash, whoever
it is fetched from, so a ticket stays short and a lying seed can only refuse.

Text form: the prefix, then base64url of (canonical msgpack | first 4 bytes of its BLAKE3). The check sum tells a mistyped
ticket from a forged one; the coordinator's signature covers every byte of the body. One ticket has one text: stray bits,
padding and non-canonical bytes are refused. White space that mail programs put in is not part of it.
"""

import base64
import binascii
from typing import Annotated

from blake3 import blake3
from msgspec import Meta, Struct

from stratos.crypto.keys import NodeKey, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.wire.codec import WireError, decode, encode
from stratos.wire.config import HostPort, Role
from stratos.wire.scalars import Amount, Count, Ed25519Public, Ed25519Signature, Hash32, Nonce, TimeMs

TICKET_VERSION = 1
TICKET_PREFIX = "stratosticket1"
TAG_TICKET = b"ticket"
MAX_TICKET_BYTES = 8 * 1024
MAX_TICKET_TEXT = 12 * 1024
MAX_SEEDS = 8
_CHECK_BYTES = 4

SeedName = Annotated[str, Meta(min_length=1, max_length=63)]
Url = Annotated[str, Meta(pattern=r"^(|https?://[!-~]{1,200})$", max_length=208)]


class TicketError(ValueError):
    """A ticket cannot be used; the sentence says why and what to do."""


class MetaSeed(Struct, frozen=True, array_like=True):
    """An entry point to the meta layer: host:port of its RPC and of its HTTP, answered by the holder of the key."""

    name: SeedName
    rpc: HostPort
    http: HostPort
    public_key: Ed25519Public


class ValidatorSeed(Struct, frozen=True, array_like=True):
    """An entry point to the chain: host:port of its REST and of its p2p port."""

    name: SeedName
    rest: HostPort
    p2p: HostPort
    public_key: Ed25519Public


class TicketBody(Struct, frozen=True, array_like=True):
    """What the coordinator signs. `tier` 0 for roles without tiers; `grant_wei` is what the faucet pays each of `uses` nodes."""

    version: Count
    id: Nonce
    network: Annotated[str, Meta(min_length=1, max_length=63)]
    genesis_hash: Hash32
    role: Role
    tier: Annotated[int, Meta(ge=0, le=3)]
    hardware_permille: Annotated[int, Meta(ge=1, le=1_000)]
    """How much of the recommended hardware of role and tier the machine must have."""
    grant_wei: Amount
    uses: Annotated[int, Meta(ge=1, le=10_000)]
    issued_ms: TimeMs
    expires_ms: TimeMs
    coordinator: Ed25519Public
    meta: Annotated[tuple[MetaSeed, ...], Meta(min_length=1, max_length=MAX_SEEDS)]
    validators: Annotated[tuple[ValidatorSeed, ...], Meta(min_length=1, max_length=MAX_SEEDS)]
    faucet: Url
    """Base URL of the meta node that serves the faucet; empty: the participant brings a wallet."""
    public_files: Url
    """Where the published files are; empty: the seeds alone serve."""
    slice_transport: Annotated[str, Meta(pattern="^(tls|plain)$", max_length=5)]


class Ticket(Struct, frozen=True, array_like=True):
    """A body with the coordinator's signature over it."""

    body: TicketBody
    signature: Ed25519Signature


def sign_ticket(key: NodeKey, body: TicketBody) -> Ticket:
    """The ticket of a coordinator; `body.coordinator` must be its key."""
    return Ticket(body, key.sign(_signed_bytes(body)))


def dump_ticket(ticket: Ticket) -> str:
    """The text form, one line; raises TicketError when names and addresses are so long that nobody could read it."""
    payload = encode(ticket)
    if len(payload) > MAX_TICKET_BYTES:
        raise TicketError(f"the ticket has {len(payload)} bytes, allowed are {MAX_TICKET_BYTES}; name fewer seeds")
    checked = payload + blake3(payload).digest()[:_CHECK_BYTES]
    return TICKET_PREFIX + base64.urlsafe_b64encode(checked).rstrip(b"=").decode("ascii")


def read_ticket(text: str) -> Ticket:
    """The ticket in a text, its check sum and signature verified; raises TicketError. Says nothing about time or network."""
    ticket = _parsed(text)
    body = ticket.body
    if body.version != TICKET_VERSION:
        raise TicketError(
            f"the ticket has version {body.version}, this program knows {TICKET_VERSION}; use the matching program"
        )
    if not verify_node(body.coordinator, _signed_bytes(body), ticket.signature):
        raise TicketError(
            "the ticket is forged: its signature is not its coordinator's; ask the coordinator for another"
        )
    return ticket


def refuse_ticket(ticket: Ticket, *, now_ms: int, coordinator: bytes | None = None) -> None:
    """Raise TicketError when the ticket has expired, or is not by the coordinator whose key is pinned."""
    body = ticket.body
    if coordinator is not None and body.coordinator != coordinator:
        raise TicketError(
            f"the ticket is signed by coordinator {body.coordinator.hex()}, not by {coordinator.hex()} which you trust; "
            "do not use it, ask your coordinator for another"
        )
    if now_ms >= body.expires_ms:
        late = (now_ms - body.expires_ms) // 1000
        raise TicketError(f"the ticket expired {late} seconds ago; ask the coordinator for a new one")


def _signed_bytes(body: TicketBody) -> bytes:
    return sign_bytes(TAG_TICKET, body.genesis_hash, encode(body))


def _parsed(text: str) -> Ticket:
    if len(text) > 2 * MAX_TICKET_TEXT:
        raise TicketError(f"a ticket has at most {MAX_TICKET_TEXT} characters, not {len(text)}; pass the ticket alone")
    compact = "".join(text.split())
    if not compact.startswith(TICKET_PREFIX):
        raise TicketError(f"{compact[:30]!r} is no ticket: it should begin with {TICKET_PREFIX}; copy it again")
    letters = compact[len(TICKET_PREFIX) :]
    if not letters or len(compact) > MAX_TICKET_TEXT:
        raise TicketError(
            f"a ticket has {len(TICKET_PREFIX) + 1} to {MAX_TICKET_TEXT} characters, not {len(compact)}; copy it again"
        )
    try:
        data = base64.b64decode(letters + "=" * (-len(letters) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise TicketError("the ticket has characters that no ticket has; copy it again") from error
    payload, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    whole = base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii") == letters
    if not whole or blake3(payload).digest()[:_CHECK_BYTES] != check:
        raise TicketError("the ticket is damaged: its check sum is wrong; copy it again, all of it")
    try:
        return decode(payload, Ticket, limit=MAX_TICKET_BYTES)
    except WireError as error:
        raise TicketError(f"the ticket cannot be read: {error}; ask the coordinator for another") from error
