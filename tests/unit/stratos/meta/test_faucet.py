"""The faucet pays what its limits allow, each request once, whatever the chain, the disk or the asker does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from stratos.crypto.keys import NodeKey, WalletKey
from stratos.meta.faucet import ASKS_A_MINUTE, Faucet
from stratos.meta.faucet_book import DAY_MS, FaucetBook, FaucetJournal, FaucetRefusal, Grant, source_network
from stratos.net.peers import PeerUnreachable
from stratos.wire.block import EntryResult
from stratos.wire.chainrpc import Account, TxRecord, TxVerdict
from stratos.wire.codec import decode
from stratos.wire.config import FaucetSettings
from stratos.wire.faucet import FaucetRequest, sign_faucet_request
from stratos.wire.ticket import MetaSeed, TicketBody, ValidatorSeed, dump_ticket, sign_ticket
from stratos.wire.txs import Send, Tx

NETWORK = b"g" * 32
COORDINATOR = NodeKey.from_seed(b"c" * 32)
STOS = 10**18
NOW = 1_800_000_000_000


def settings(**changes: object) -> FaucetSettings:
    usual = FaucetSettings(
        coordinator=COORDINATOR.public_key.hex(),
        open_wei=str(10 * STOS),
        day_wei=str(5_000 * STOS),
        total_wei=str(100_000 * STOS),
        address_requests=1_000,
    )
    return structs.replace(usual, **changes)


def ticket(**changes: object) -> str:
    body = TicketBody(
        version=1,
        id=b"t" * 16,
        network="net",
        genesis_hash=NETWORK,
        role="resource",
        tier=1,
        hardware_permille=1_000,
        grant_wei=str(800 * STOS),
        uses=1,
        issued_ms=NOW,
        expires_ms=NOW + 10 * DAY_MS,
        coordinator=COORDINATOR.public_key,
        meta=(MetaSeed("m1", "h:1", "h:2", bytes(32)),),
        validators=(ValidatorSeed("v1", "h:3", "h:4", bytes(32)),),
        faucet="",
        public_files="",
        slice_transport="tls",
    )
    return dump_ticket(sign_ticket(COORDINATOR, structs.replace(body, **changes)))


class Chain:
    """A validator that commits at once, unless told otherwise."""

    def __init__(self) -> None:
        self.balance = 10**24
        self.sequence = 0
        self.committed: dict[bytes, Tx] = {}
        self.silent = False
        self.slow = False
        self.taken_by_another = 0
        """So many of the next transactions find their sequence used by another program."""
        self.refuses = ""

    async def account(self, address: bytes) -> Account:
        self._answer()
        return Account(address, 1, str(self.balance), self.sequence, self.sequence)

    async def submit(self, tx: bytes) -> TxVerdict:
        from blake3 import blake3

        self._answer()
        found, name = decode(tx, Tx), blake3(tx).digest()
        if name in self.committed:
            return TxVerdict(name, "duplicate", "is in a block already")
        if self.taken_by_another:
            self.taken_by_another -= 1
            self.sequence += 1
        if found.body.sequence != self.sequence:
            return TxVerdict(name, "sequence", "was used")
        if not self.slow:
            self.committed[name] = found
            self.sequence += 1
        return TxVerdict(name, "ok", "")

    async def wait(self, tx_hash: bytes, wait_ms: int) -> TxRecord | None:
        self._answer()
        if tx_hash not in self.committed:
            return None
        return TxRecord(tx_hash, 7, 0, b"x", EntryResult(self.refuses or "ok", self.refuses, ()))

    async def lost(self, address: bytes, tx_hash: bytes, sequence: int) -> bool:
        self._answer()
        return self.sequence > sequence and tx_hash not in self.committed

    def paid_to(self, wallet: WalletKey) -> list[int]:
        sent = [tx.body.message for tx in self.committed.values()]
        return [int(one.amount_wei) for one in sent if isinstance(one, Send) and one.recipient == wallet.address]

    def _answer(self) -> None:
        if self.silent:
            raise PeerUnreachable("nobody answers")


class World:
    """A faucet on a folder, its chain, and a clock that is set by hand."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.chain = Chain()
        self.now = NOW
        self.folder = folder
        self.settings = settings(**changes)
        self.wallet = WalletKey.from_secret(b"f" * 32)
        self.restart()

    def restart(self) -> None:
        self.faucet = Faucet(
            settings=self.settings,
            wallet=self.wallet,
            genesis_hash=NETWORK,
            fee_wei=10**9,
            window_ms=600_000,
            journal=FaucetJournal(self.folder / "faucet.jsonl"),
            chain=self.chain,
            wall_ms=lambda: self.now,
        )

    async def ask(self, asked: FaucetRequest, source: str = "192.0.2.1") -> Grant:
        return await self.faucet.request(asked, source)

    async def refusal(self, asked: FaucetRequest, source: str = "192.0.2.1") -> FaucetRefusal:
        with pytest.raises(FaucetRefusal) as caught:
            await self.faucet.request(asked, source)
        return caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def wallet(number: int = 1) -> WalletKey:
    return WalletKey.from_secret(bytes(31) + bytes([number]))


def request(
    key: WalletKey, amount_wei: int, *, text: str = "", nonce: bytes | None = None, time_ms: int = NOW
) -> FaucetRequest:
    return sign_faucet_request(
        key,
        nonce=nonce or os.urandom(16),
        time_ms=time_ms,
        amount_wei=amount_wei,
        ticket=text,
        genesis_hash=NETWORK,
    )


async def test_a_request_is_paid_once_however_often_it_is_asked(world: World) -> None:
    """The same nonce gives the same payment, also after a restart."""
    asked = request(wallet(), STOS)
    first = await world.ask(asked)
    assert (first.state, first.height) == ("paid", 7)
    assert await world.ask(asked) == first
    world.restart()
    assert await world.ask(asked) == first
    assert world.chain.paid_to(wallet()) == [STOS]
    assert (await world.refusal(request(wallet(), 2 * STOS, nonce=bytes.fromhex(asked.nonce)))).code == "nonce"


async def test_a_crash_between_signing_and_the_block_never_pays_twice(world: World) -> None:
    """What was signed and written down is submitted again as it was."""
    asked = request(wallet(), STOS)
    world.chain.slow = True
    assert (await world.refusal(asked)).code == "pending"
    world.restart()
    world.chain.slow = False
    await world.ask(asked)
    assert world.chain.paid_to(wallet()) == [STOS]


async def test_a_sequence_that_another_program_used_is_signed_again(world: World) -> None:
    """Only when the chain shows that the old bytes can never be committed."""
    world.chain.taken_by_another = 1
    await world.ask(request(wallet(), STOS))
    assert world.chain.paid_to(wallet()) == [STOS]


async def test_a_silent_chain_is_told_and_asked_again(world: World) -> None:
    """No validator: 503 with a sentence and when to come back, and nothing is lost or paid twice."""
    asked = request(wallet(), STOS)
    world.chain.silent = True
    refused = await world.refusal(asked)
    assert (refused.status, refused.code, refused.retry_seconds > 0) == (503, "chain", True)
    world.chain.silent = False
    await world.ask(asked)
    assert world.chain.paid_to(wallet()) == [STOS]


async def test_old_grants_are_not_looked_at_again(world: World) -> None:
    """What is older than a day counts for the total and for its ticket only."""
    await world.ask(request(wallet(1), 10 * STOS))
    await world.ask(request(wallet(2), 800 * STOS, text=ticket()))
    world.now += DAY_MS + 1
    book = world.faucet.book
    assert book.given_today_wei(world.now) == 0
    assert book.given_wei() == 810 * STOS
    assert len(book._recent) == 0
    assert (await world.refusal(request(wallet(3), STOS, text=ticket(), time_ms=world.now))).code == "ticket_used"


async def test_an_empty_faucet_says_so(world: World) -> None:
    """503 `empty`, before anything is signed."""
    world.chain.balance = STOS
    refused = await world.refusal(request(wallet(), STOS))
    assert (refused.status, refused.code) == (503, "empty")
    assert world.faucet.book.grants == ()


async def test_what_the_chain_refuses_does_not_count(world: World) -> None:
    """A payment that failed in its block leaves the allowance as it was, and may be asked for again."""
    world.chain.refuses = "funds"
    asked = request(wallet(), 10 * STOS)
    assert (await world.refusal(asked)).code == "chain"
    world.chain.refuses = ""
    world.chain.committed.clear()
    await world.ask(asked)


async def test_a_wallet_without_a_ticket_has_an_allowance_a_day(world: World) -> None:
    """Ten a day, and again a day later; what comes too early is told when."""
    await world.ask(request(wallet(), 10 * STOS))
    refused = await world.refusal(request(wallet(), STOS))
    assert (refused.status, refused.code, refused.retry_seconds) == (429, "wallet_day", 86_400)
    await world.ask(request(wallet(2), STOS))
    world.now += DAY_MS + 1
    await world.ask(request(wallet(), STOS, time_ms=world.now))
    assert (await world.refusal(request(wallet(3), 11 * STOS, time_ms=world.now))).code == "amount"


async def test_limits_hold_after_a_restart(world: World) -> None:
    """The journal remembers what was given, a torn last line does not hurt."""
    await world.ask(request(wallet(), 10 * STOS))
    with (world.folder / "faucet.jsonl").open("ab") as file:
        file.write(b'{"wallet": "st1')
    world.restart()
    assert (await world.refusal(request(wallet(), STOS))).code == "wallet_day"
    await world.ask(request(wallet(2), STOS))
    world.restart()
    assert world.faucet.book.given_wei() == 11 * STOS


async def test_a_damaged_journal_closes_the_faucet_loudly(world: World) -> None:
    """What was given is not known, so nothing is: 503 with the reason."""
    await world.ask(request(wallet(), STOS))
    path = world.folder / "faucet.jsonl"
    path.write_bytes(b"junk\n" + path.read_bytes())
    world.restart()
    refused = await world.refusal(request(wallet(2), STOS))
    assert (refused.status, refused.code) == (503, "closed")
    assert "line 1" in refused.sentence


async def test_the_journal_is_private(world: World) -> None:
    """Signed transactions and source networks are nobody else's."""
    await world.ask(request(wallet(), STOS))
    assert (world.folder / "faucet.jsonl").stat().st_mode & 0o077 == 0


async def test_networks_of_addresses_have_a_limit(tmp_path: Path) -> None:
    """A /24 or a /64 counts as one source, whatever its addresses are."""
    world = World(tmp_path, address_requests=2)
    await world.ask(request(wallet(1), STOS), "198.51.100.1")
    await world.ask(request(wallet(2), STOS), "198.51.100.200")
    assert (await world.refusal(request(wallet(3), STOS), "198.51.100.77")).code == "address_day"
    await world.ask(request(wallet(3), STOS), "198.51.101.77")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_the_network_of_a_source(address: str | None, network: str) -> None:
    """IPv4 by /24, IPv6 by /64, IPv4 inside IPv6 as IPv4."""
    assert source_network(address) == network


async def test_all_together_have_a_day_and_an_end(tmp_path: Path) -> None:
    """The day's limit comes back, the total never does; both are 503."""
    world = World(tmp_path, day_wei=str(15 * STOS), total_wei=str(25 * STOS))
    await world.ask(request(wallet(1), 10 * STOS))
    refused = await world.refusal(request(wallet(2), 10 * STOS))
    assert (refused.status, refused.code, refused.retry_seconds > 0) == (503, "day", True)
    world.now += DAY_MS + 1
    await world.ask(request(wallet(2), 10 * STOS, time_ms=world.now))
    world.now += DAY_MS + 1
    refused = await world.refusal(request(wallet(3), 10 * STOS, time_ms=world.now))
    assert (refused.status, refused.code, refused.retry_seconds) == (503, "spent", 0)


async def test_a_ticket_grants_its_amount_to_its_uses(world: World) -> None:
    """A deposit's worth for one wallet, not more, and not for a second wallet."""
    text = ticket()
    await world.ask(request(wallet(), 800 * STOS, text=text))
    assert (await world.refusal(request(wallet(), 1, text=text))).code == "ticket_amount"
    assert (await world.refusal(request(wallet(2), 800 * STOS, text=text))).code == "ticket_used"
    more = ticket(id=b"u" * 16, uses=2)
    await world.ask(request(wallet(2), 800 * STOS, text=more))
    await world.ask(request(wallet(3), 800 * STOS, text=more))
    assert (await world.refusal(request(wallet(4), 800 * STOS, text=more))).code == "ticket_used"


async def test_bad_tickets_are_refused_with_the_reason(world: World) -> None:
    """Expired, of another network, of another coordinator, damaged: nothing is paid."""
    other = NodeKey.from_seed(b"o" * 32)
    good = ticket()
    cases = {
        "expired": (ticket(expires_ms=NOW - 1), "ticket"),
        "another genesis": (ticket(genesis_hash=b"x" * 32), "ticket_network"),
        "forged": (ticket(coordinator=other.public_key), "ticket"),
        "damaged": (good[:-3] + "AAA", "ticket"),
    }
    for word, (text, code) in cases.items():
        refused = await world.refusal(request(wallet(), STOS, text=text))
        assert (refused.status, refused.code) == (403, code)
        assert word in refused.sentence
    assert world.chain.committed == {}


async def test_only_the_wallet_itself_may_ask_and_only_now(world: World) -> None:
    """A wrong signature, an old request and a key that is none are refused before the limits are looked at."""
    good = request(wallet(), STOS)
    assert (await world.refusal(structs.replace(good, amount_wei="2"))).code == "signature"
    assert (await world.refusal(structs.replace(good, public_key=wallet(2).public_key.hex()))).code == "signature"
    assert (await world.refusal(structs.replace(good, public_key="00" * 33))).code == "invalid"
    assert (await world.refusal(request(wallet(), STOS, time_ms=NOW - 600_001))).code == "time"
    assert (await world.refusal(request(wallet(), 0))).code == "invalid"


async def test_a_flood_from_one_network_is_not_looked_at(world: World) -> None:
    """After so many requests a minute the answer is 429, until the minute is over."""
    bad = structs.replace(request(wallet(), STOS), signature="00" * 64)
    for _ in range(ASKS_A_MINUTE):
        assert (await world.refusal(bad)).code == "signature"
    assert (await world.refusal(bad)).code == "asking"
    assert (await world.refusal(bad, "203.0.113.9")).code == "signature"
    world.now += 60_000
    assert (await world.refusal(bad)).code == "signature"


async def test_tickets_only(tmp_path: Path) -> None:
    """With an open allowance of 0 a wallet needs a ticket."""
    world = World(tmp_path, open_wei="0")
    assert (await world.refusal(request(wallet(), STOS))).code == "ticket_needed"
    await world.ask(request(wallet(), STOS, text=ticket()))


async def test_outcomes_are_counted(world: World) -> None:
    """Each payment and each refusal by its code; what was given in STOS."""
    registry = CollectorRegistry()
    world.faucet.add_metrics(registry)
    await world.ask(request(wallet(), 10 * STOS))
    await world.refusal(request(wallet(), STOS))
    assert registry.get_sample_value("stratos_faucet_requests_total", {"outcome": "paid"}) == 1
    assert registry.get_sample_value("stratos_faucet_requests_total", {"outcome": "wallet_day"}) == 1
    assert registry.get_sample_value("stratos_faucet_given_stos") == 10
    assert world.faucet.limits()["day_left_wei"] == str(4_990 * STOS)


def test_the_book_alone_is_pure() -> None:
    """The same grants and the same question give the same answer, whatever the time of day."""
    book = FaucetBook(settings(), genesis_hash=NETWORK)
    assert book.check(wallet="st1a", amount_wei=STOS, ticket="", source="s", now_ms=NOW) == ""
    assert book.grants == ()
