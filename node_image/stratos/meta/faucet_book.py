"""What the faucet has given and may still give: a pure core, its clock an argument, and the journal that makes it durable.

Limits, in the order a request meets them: the ticket (valid, unexpired, this network, its grant and uses), the wallet without a
ticket (an allowance a day), the source (payments a day to one /24 or /64), all together (a day, and for ever). A
payment counts from the moment it is signed and written down until the chain has refused it, so a crash, a restart or a lost
answer never makes room for a second one. Every refusal has a code and a sentence; nothing is ever silently dropped.
"""

import ipaddress
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from stratos.crypto import bech32
from stratos.wire.config import FaucetSettings
from stratos.wire.ticket import Ticket, TicketError, read_ticket, refuse_ticket

DAY_MS = 86_400_000
SIGNED, PAID, REFUSED = "signed", "paid", "refused"


class FaucetRefusal(Exception):
    """A request is not paid: HTTP status, code, sentence, and seconds after which it may be (0: never)."""

    def __init__(self, status: int, code: str, sentence: str, *, retry_seconds: int = 0) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.retry_seconds = retry_seconds


class FaucetDamaged(Exception):
    """The journal cannot be read; nothing is paid from it."""


class Grant(Struct, frozen=True, kw_only=True):
    """One payment. `tx` are the signed bytes (hex) that carry it; `state` is signed, paid or refused by the chain."""

    wallet: str
    nonce: str
    amount_wei: int
    ticket: str
    """Hex id of the ticket; empty without one."""
    source: str
    time_ms: int
    tx: str
    tx_hash: str
    sequence: int
    state: str = SIGNED
    height: int = 0
    reason: str = ""


class FaucetBook:
    """All grants, and what may be granted."""

    def __init__(self, settings: FaucetSettings, *, genesis_hash: bytes) -> None:
        self.settings = settings
        self._genesis_hash = genesis_hash
        self._grants: dict[tuple[str, str], Grant] = {}
        self._total_wei = 0
        self._of_ticket: dict[str, set[tuple[str, str]]] = {}
        self._recent: dict[tuple[str, str], None] = {}
        """Grants of the last day at least, oldest first: what a request is held against never grows with the years."""

    def note(self, grant: Grant) -> None:
        """A grant is new or has got further."""
        name = grant.wallet, grant.nonce
        before = self._grants.get(name)
        self._total_wei += _counted(grant) - (_counted(before) if before is not None else 0)
        self._grants[name] = grant
        if grant.ticket:
            self._of_ticket.setdefault(grant.ticket, set()).add(name)
        if before is None or before.time_ms != grant.time_ms:
            self._recent.pop(name, None)
            self._recent[name] = None

    def known(self, wallet: str, nonce: str) -> Grant | None:
        """The grant that this request asked for before."""
        return self._grants.get((wallet, nonce))

    @property
    def grants(self) -> tuple[Grant, ...]:
        """Every grant, oldest first."""
        return tuple(self._grants.values())

    def given_wei(self) -> int:
        """What was given in all."""
        return self._total_wei

    def given_today_wei(self, now_ms: int) -> int:
        """What was given in the last 24 hours."""
        return sum(grant.amount_wei for grant in self._today(now_ms))

    def check(self, *, wallet: str, amount_wei: int, ticket: str, source: str, now_ms: int) -> str:
        """Raise FaucetRefusal unless this may be given now; the ticket's id, empty without one."""
        if amount_wei <= 0:
            raise FaucetRefusal(400, "invalid", "the amount must be more than 0 wei")
        ticket_id = self._check_ticket(ticket, wallet, amount_wei, now_ms) if ticket else ""
        if not ticket:
            self._check_open(wallet, amount_wei, now_ms)
        self._check_source(source, now_ms)
        self._check_all(amount_wei, now_ms)
        return ticket_id

    def _today(self, now_ms: int) -> list[Grant]:
        """Grants of the last 24 hours that count; older ones are forgotten here."""
        since_ms = now_ms - DAY_MS
        for name in [name for name in self._recent if self._grants[name].time_ms < since_ms]:
            del self._recent[name]
        return [grant for name in self._recent if (grant := self._grants[name]).state != REFUSED]

    def _check_ticket(self, text: str, wallet: str, amount_wei: int, now_ms: int) -> str:
        ticket = self._read(text, now_ms)
        body = ticket.body
        if body.genesis_hash != self._genesis_hash:
            raise FaucetRefusal(
                403, "ticket_network", f"the ticket is for network {body.network} with another genesis; ask its faucet"
            )
        paid = (self._grants[name] for name in self._of_ticket.get(body.id.hex(), ()))
        grants = [grant for grant in paid if grant.state != REFUSED]
        given = sum(grant.amount_wei for grant in grants if grant.wallet == wallet)
        if given + amount_wei > int(body.grant_wei):
            raise FaucetRefusal(
                403,
                "ticket_amount",
                f"the ticket grants a wallet {body.grant_wei} wei, of which {given} are given; {amount_wei} more are too much",
            )
        others = {grant.wallet for grant in grants if grant.wallet != wallet}
        if len(others) >= body.uses:
            raise FaucetRefusal(
                403,
                "ticket_used",
                f"the ticket is used up: {len(others)} of {body.uses} wallets were paid with it; ask for a new one",
            )
        return body.id.hex()

    def _read(self, text: str, now_ms: int) -> Ticket:
        try:
            ticket = read_ticket(text)
            refuse_ticket(ticket, now_ms=now_ms, coordinator=bytes.fromhex(self.settings.coordinator))
        except TicketError as error:
            raise FaucetRefusal(403, "ticket", str(error)) from error
        return ticket

    def _check_open(self, wallet: str, amount_wei: int, now_ms: int) -> None:
        most = int(self.settings.open_wei)
        if not most:
            raise FaucetRefusal(
                403, "ticket_needed", "this faucet pays with a join ticket only; ask the coordinator for one"
            )
        mine = [grant for grant in self._today(now_ms) if grant.wallet == wallet and not grant.ticket]
        given = sum(grant.amount_wei for grant in mine)
        if amount_wei > most:
            raise FaucetRefusal(
                403, "amount", f"without a ticket a wallet gets at most {most} wei a day, not {amount_wei}"
            )
        if given + amount_wei > most:
            raise _later("wallet_day", f"this wallet got {given} of {most} wei in 24 hours", mine, now_ms)

    def _check_source(self, source: str, now_ms: int) -> None:
        most = self.settings.address_requests
        same = [grant for grant in self._today(now_ms) if grant.source == source]
        if len(same) >= most:
            raise _later("address_day", f"{len(same)} payments went to network {source} in 24 hours", same, now_ms)

    def _check_all(self, amount_wei: int, now_ms: int) -> None:
        day, total = int(self.settings.day_wei), int(self.settings.total_wei)
        ever = self.given_wei()
        if ever + amount_wei > total:
            raise FaucetRefusal(
                503,
                "spent",
                f"the faucet has given {ever} of {total} wei for good; ask the coordinator to raise its limit",
            )
        today = self._today(now_ms)
        given = sum(grant.amount_wei for grant in today)
        if given + amount_wei > day:
            refusal = _later("day", f"the faucet has given {given} of {day} wei in 24 hours", today, now_ms)
            raise FaucetRefusal(503, refusal.code, refusal.sentence, retry_seconds=refusal.retry_seconds)


def _counted(grant: Grant) -> int:
    return 0 if grant.state == REFUSED else grant.amount_wei


def _later(code: str, why: str, grants: list[Grant], now_ms: int) -> FaucetRefusal:
    """Refused until the oldest of the grants that count is a day old."""
    oldest = min((grant.time_ms for grant in grants), default=now_ms)
    seconds = max(1, (oldest + DAY_MS - now_ms + 999) // 1000)
    return FaucetRefusal(429, code, f"{why}; ask again in {seconds} seconds", retry_seconds=seconds)


def source_network(address: str | None) -> str:
    """The network that a source address counts for: its /24, its /64, or itself when it is neither kind of address."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        if mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        found = mapped
    return str(ipaddress.ip_network((found, 24), strict=False))


def wallet_text(address: bytes) -> str:
    """st1..."""
    return bech32.encode(bech32.WALLET, address)


class FaucetJournal:
    """Grants on disk, one JSON line each, synced before anything is sent; the last line about a grant counts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[Grant]:
        """Everything noted; a last line that a crash tore is cut off, any other damage is FaucetDamaged."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        whole, newline, torn = data.rpartition(b"\n")
        if torn:
            os.truncate(self._path, len(whole) + len(newline))
        grants = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                grants.append(msgspec.json.decode(line, type=Grant))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FaucetDamaged(f"{self._path} is damaged in line {number} ({error}); restore it") from error
        return grants

    def write(self, grant: Grant) -> None:
        """Note a grant durably."""
        fresh = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(grant) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
