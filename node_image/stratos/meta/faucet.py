"""The faucet of a meta node: pays from its own wallet what `faucet_book.py` allows, each request once.

The order of steps is what makes a payment happen at most once: check the limits, sign with the account's next sequence, note the
signed bytes durably, submit, wait. Whoever asks again with the same nonce gets the same bytes submitted again. They are signed
anew only when the chain itself shows that the sequence went to another transaction, so that the old bytes can never be
committed. One payment is signed at a time; waiting for blocks is done side by side.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import structlog
from blake3 import blake3
from msgspec import structs
from prometheus_client import CollectorRegistry, Counter, Gauge

from stratos.crypto import bech32
from stratos.crypto.errors import CryptoError
from stratos.crypto.keys import WalletKey, verify_wallet, wallet_address
from stratos.ledger.signing import sign_tx
from stratos.meta.faucet_book import (
    PAID,
    REFUSED,
    SIGNED,
    FaucetBook,
    FaucetDamaged,
    FaucetJournal,
    FaucetRefusal,
    Grant,
    source_network,
    wallet_text,
)
from stratos.meta.faucet_chain import ChainDoor
from stratos.net.peers import RpcError
from stratos.wire.codec import encode
from stratos.wire.config import FaucetSettings
from stratos.wire.faucet import FaucetRequest, faucet_digest
from stratos.wire.txs import Send

WAIT_MS = 10_000
MAX_WAITING = 64
ASKS_A_MINUTE = 60
"""Requests of one source network that are looked at a minute, paid or not."""
MAX_SOURCES = 4_096
_log = structlog.get_logger("stratos.meta.faucet")


class Faucet:
    """Pays requests. `request` raises FaucetRefusal with the reason."""

    def __init__(
        self,
        *,
        settings: FaucetSettings,
        wallet: WalletKey,
        genesis_hash: bytes,
        fee_wei: int,
        window_ms: int,
        journal: FaucetJournal,
        chain: ChainDoor,
        wall_ms: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.wallet = wallet
        self.book = FaucetBook(settings, genesis_hash=genesis_hash)
        self.damage = ""
        """Why nothing is paid at all; empty: all is well."""
        self._genesis_hash = genesis_hash
        self._fee_wei = fee_wei
        self._window_ms = window_ms
        self._journal = journal
        self._chain = chain
        self._wall_ms = wall_ms
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._asked: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._outcomes: Counter | None = None
        try:
            for grant in journal.load():
                self.book.note(grant)
        except (FaucetDamaged, OSError) as error:
            self.damage = str(error)
            _log.error("faucet closed", reason=self.damage)

    async def request(self, ask: FaucetRequest, source: str | None) -> Grant:
        """Pay, or say what was paid for this nonce before."""
        try:
            grant = await self._pay(ask, source_network(source))
        except FaucetRefusal as refusal:
            self._count(refusal.code)
            raise
        self._count(PAID)
        return grant

    def limits(self) -> dict[str, str]:
        """What the faucet tells about itself."""
        today = self.book.given_today_wei(self._wall_ms())
        return {
            "wallet": self.wallet.text,
            "coordinator": self.settings.coordinator,
            "open_wei": self.settings.open_wei,
            "day_left_wei": str(max(0, int(self.settings.day_wei) - today)),
            "total_left_wei": str(max(0, int(self.settings.total_wei) - self.book.given_wei())),
            "closed": self.damage,
        }

    def add_metrics(self, registry: CollectorRegistry) -> None:
        """Requests by outcome, and what was given."""
        self._outcomes = Counter(
            "stratos_faucet_requests", "Faucet requests by outcome", ["outcome"], registry=registry
        )
        Gauge("stratos_faucet_given_stos", "STOS given in all", registry=registry).set_function(
            lambda: self.book.given_wei() / 10**18
        )
        Gauge("stratos_faucet_day_left_stos", "STOS that may still be given today", registry=registry).set_function(
            lambda: int(self.limits()["day_left_wei"]) / 10**18
        )

    def _count(self, outcome: str) -> None:
        if self._outcomes is not None:
            self._outcomes.labels(outcome).inc()

    async def _pay(self, ask: FaucetRequest, source: str) -> Grant:
        now_ms = self._wall_ms()
        if self.damage:
            raise FaucetRefusal(503, "closed", f"the faucet is closed: {self.damage}; tell the coordinator")
        self._limit_asking(source, now_ms)
        wallet = self._wallet_of(ask, now_ms)
        if self._waiting >= MAX_WAITING:
            raise FaucetRefusal(503, "busy", f"{self._waiting} requests wait already; ask again", retry_seconds=5)
        self._waiting += 1
        try:
            async with self._lock:
                grant = await self._signed(ask, wallet, source)
                if grant.state == SIGNED:
                    grant = await self._submit(grant)
            return await self._settled(grant)
        except RpcError as error:
            raise FaucetRefusal(
                503, "chain", f"no validator took the payment ({error}); ask again with the same nonce", retry_seconds=5
            ) from error
        finally:
            self._waiting -= 1

    def _limit_asking(self, source: str, now_ms: int) -> None:
        """Before any signature is checked: a flood costs next to nothing."""
        minute, asked = self._asked.pop(source, (now_ms // 60_000, 0))
        if minute != now_ms // 60_000:
            minute, asked = now_ms // 60_000, 0
        self._asked[source] = (minute, asked + 1)
        while len(self._asked) > MAX_SOURCES:
            self._asked.popitem(last=False)
        if asked >= ASKS_A_MINUTE:
            raise FaucetRefusal(
                429,
                "asking",
                f"network {source} asked {asked} times this minute; ask again in a minute",
                retry_seconds=60,
            )

    def _wallet_of(self, ask: FaucetRequest, now_ms: int) -> bytes:
        if abs(now_ms - ask.time_ms) > self._window_ms:
            raise FaucetRefusal(
                403,
                "time",
                f"the request is {(now_ms - ask.time_ms) / 1000:.0f} s old, allowed are {self._window_ms // 1000}; "
                "set the clock and sign it again",
            )
        public_key = bytes.fromhex(ask.public_key)
        try:
            address = wallet_address(public_key)
        except CryptoError as error:
            raise FaucetRefusal(400, "invalid", str(error)) from error
        digest = faucet_digest(ask, self._genesis_hash)
        if not verify_wallet(public_key, digest, bytes.fromhex(ask.signature)):
            raise FaucetRefusal(
                403, "signature", "the signature is not the wallet's for this request and this network; sign it again"
            )
        return address

    async def _signed(self, ask: FaucetRequest, address: bytes, source: str) -> Grant:
        wallet, amount = wallet_text(address), int(ask.amount_wei)
        known = self.book.known(wallet, ask.nonce)
        if known is not None and known.state != REFUSED:
            if known.amount_wei != amount:
                raise FaucetRefusal(
                    409, "nonce", f"this nonce asked for {known.amount_wei} wei before; use a new one for {amount}"
                )
            return known
        now_ms = self._wall_ms()
        ticket = self.book.check(wallet=wallet, amount_wei=amount, ticket=ask.ticket, source=source, now_ms=now_ms)
        account = await self._chain.account(self.wallet.address)
        if int(account.balance_wei) < amount + self._fee_wei:
            raise FaucetRefusal(
                503, "empty", f"the faucet has {account.balance_wei} wei left, not {amount}; tell the coordinator"
            )
        grant = Grant(
            wallet=wallet,
            nonce=ask.nonce,
            amount_wei=amount,
            ticket=ticket,
            source=source,
            time_ms=now_ms,
            tx="",
            tx_hash="",
            sequence=0,
        )
        return self._sign(grant, address, account.next_sequence)

    def _sign(self, grant: Grant, address: bytes, sequence: int) -> Grant:
        message = Send(address, str(grant.amount_wei))
        tx = encode(sign_tx(self.wallet, message, sequence=sequence, genesis_hash=self._genesis_hash, memo="faucet"))
        signed = structs.replace(grant, tx=tx.hex(), tx_hash=blake3(tx).hexdigest(), sequence=sequence)
        return self._note(signed)

    def _note(self, grant: Grant) -> Grant:
        self._journal.write(grant)
        self.book.note(grant)
        return grant

    async def _submit(self, grant: Grant) -> Grant:
        verdict = await self._chain.submit(bytes.fromhex(grant.tx))
        if verdict.code in ("ok", "duplicate"):
            return grant
        if verdict.code == "sequence" and await self._chain.lost(
            self.wallet.address, bytes.fromhex(grant.tx_hash), grant.sequence
        ):
            account = await self._chain.account(self.wallet.address)
            address = bech32.decode(bech32.WALLET, grant.wallet)
            grant = self._sign(grant, address, account.next_sequence)
            verdict = await self._chain.submit(bytes.fromhex(grant.tx))
        if verdict.code not in ("ok", "duplicate", "sequence"):
            raise FaucetRefusal(
                503, "chain", f"the chain did not take the payment: {verdict.error}; ask again", retry_seconds=5
            )
        return grant

    async def _settled(self, grant: Grant) -> Grant:
        if grant.state == PAID:
            return grant
        record = await self._chain.wait(bytes.fromhex(grant.tx_hash), WAIT_MS)
        if record is None:
            raise FaucetRefusal(
                503,
                "pending",
                f"the payment {grant.tx_hash} is in no block after {WAIT_MS // 1000} s; ask again with the same nonce",
                retry_seconds=5,
            )
        if record.result.code != "ok":
            self._note(structs.replace(grant, state=REFUSED, reason=record.result.error))
            raise FaucetRefusal(503, "chain", f"the chain refused the payment: {record.result.error}; ask again")
        paid = self._note(structs.replace(grant, state=PAID, height=record.height))
        _log.info("faucet paid", wallet=grant.wallet, amount_wei=str(grant.amount_wei), ticket=grant.ticket)
        return paid
