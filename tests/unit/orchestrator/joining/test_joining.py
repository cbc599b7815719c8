"""`join` refuses what it must before it changes anything, and says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from orchestrator.errors import BadInput, EnvironmentFault, VerdictFailed
from orchestrator.joining.joining import Joining, JoinWish, network_folder
from orchestrator.joining.network import Unreachable
from orchestrator.plan.plan import Outcome
from orchestrator.testnet.folder import TestnetFolder
from orchestrator.topology.topology import Topology
from stratos.crypto.keyfile import save_key
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.wire.genesis import genesis_hash
from stratos.wire.ticket import Ticket, dump_ticket, sign_ticket
from tests.unit.orchestrator.joining.conftest import Issue


class Side:
    """A participant's side: a testnets folder, a place for the inventory, and seeds that answer for one network."""

    def __init__(self, root: Path, outcome: Outcome) -> None:
        self.root = root / "theirs"
        self.output = root / "mine.yml"
        self.outcome = outcome
        self.answers = True

    def get(self, url: str) -> bytes:
        if not self.answers:
            raise Unreachable(f"{url} cannot be read: refused")
        hash_hex = genesis_hash(self.outcome.genesis).hex()
        if url.endswith("/status"):
            return msgspec.json.encode({"genesis_hash": hash_hex})
        return msgspec.json.encode({"hash": hash_hex, "genesis": msgspec.to_builtins(self.outcome.genesis)})

    def join(self, ticket: Ticket, **wish: object) -> Joining:
        """A join whose machine is measured and found wanting: it never gets further."""

        def measure(_topology: Topology, _ticket: Ticket, _root: Path, _say: Callable[[str], None]) -> tuple[str, ...]:
            raise VerdictFailed("resource-home has 2 cores and tier 1 asks for 8")

        wanted = structs.replace(
            JoinWish(ticket=dump_ticket(ticket), output=self.output, name="mine", address="203.0.113.9"), **wish
        )
        return Joining(wanted, say=lambda _text: None, measure=measure, get=self.get)


@pytest.fixture
def side(tmp_path: Path, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Nobody has joined yet."""
    side = Side(tmp_path, outcome)
    monkeypatch.setenv("STRATOS_TESTNETS", str(side.root))
    return side


@pytest.fixture
def now_ms() -> int:
    """Tickets here are issued now, as the clock of `join` is the machine's."""
    return time.time_ns() // 1_000_000


def test_a_machine_that_does_not_qualify_is_refused(side: Side, issue: Issue, now_ms: int) -> None:
    """The verdict's own sentence; no key is made and nobody is asked for money."""
    with pytest.raises(VerdictFailed, match="tier 1 asks for 8"):
        side.join(issue(now_ms=now_ms)).run()
    assert not (side.root / "net").exists()


def test_an_expired_ticket_is_refused(side: Side, issue: Issue, now_ms: int) -> None:
    """By the clock of this machine, before anything is asked or written."""
    with pytest.raises(BadInput, match="expired"):
        side.join(issue(now_ms=now_ms - 10_000_000)).run()
    assert not side.output.exists()


def test_a_forged_ticket_is_refused(side: Side, issue: Issue, now_ms: int) -> None:
    """Signed by somebody else in the coordinator's name, or by another coordinator than the pinned one."""
    good = issue(now_ms=now_ms)
    with pytest.raises(BadInput, match="forged"):
        side.join(sign_ticket(NodeKey.from_seed(b"o" * 32), good.body)).run()
    with pytest.raises(BadInput, match="which you trust"):
        side.join(good, coordinator=b"p" * 32).run()
    assert not side.output.exists()


def test_seeds_out_of_reach_are_told(side: Side, issue: Issue, now_ms: int) -> None:
    """Nothing is written before the network has answered."""
    side.answers = False
    with pytest.raises(EnvironmentFault, match="no validator of the ticket answers"):
        side.join(issue(now_ms=now_ms)).run()
    assert not side.output.exists()


def test_another_genesis_is_refused(side: Side, issue: Issue, now_ms: int) -> None:
    """The ticket's hash decides what the network is."""
    side.outcome = structs.replace(side.outcome, genesis=structs.replace(side.outcome.genesis, network="evil"))
    with pytest.raises(BadInput, match="serves network evil"):
        side.join(issue(now_ms=now_ms)).run()


def test_a_folder_of_another_network_is_refused(side: Side, issue: Issue, outcome: Outcome, now_ms: int) -> None:
    """A testnet that was made anew under its old name is not mixed up with the old one."""
    folder = TestnetFolder(side.root / "net")
    folder.path.mkdir(parents=True)
    folder.save_genesis(structs.replace(outcome.genesis, time_ms=1))
    with pytest.raises(BadInput, match="--testnet NAME"):
        side.join(issue(now_ms=now_ms)).run()


def test_the_coordinators_own_folder_is_refused(side: Side, issue: Issue, outcome: Outcome, now_ms: int) -> None:
    """Whoever runs the testnet adds a host to its inventory instead."""
    folder = TestnetFolder(side.root / "net")
    folder.path.mkdir(parents=True)
    folder.save_genesis(outcome.genesis)
    folder.save_plan(outcome.plan)
    with pytest.raises(BadInput, match="and you run it"):
        side.join(issue(now_ms=now_ms)).run()


def test_an_edited_inventory_is_kept_and_must_still_fit(side: Side, issue: Issue, now_ms: int) -> None:
    """What the participant changed stays; a tier that the ticket is not for is refused."""
    with pytest.raises(VerdictFailed):
        side.join(issue(now_ms=now_ms)).run()
    text = side.output.read_text()
    side.output.write_text(text.replace("16 GiB", "3 TiB"))
    with pytest.raises(VerdictFailed):
        side.join(issue(now_ms=now_ms)).run()
    assert "3 TiB" in side.output.read_text()
    side.output.write_text(text.replace("stratos_tier: 1", "stratos_tier: 3"))
    with pytest.raises(BadInput, match="the ticket is for tier 1"):
        side.join(issue(now_ms=now_ms)).run()


def test_a_validators_stake_comes_from_ticket_or_option(side: Side, issue: Issue, now_ms: int) -> None:
    """It is written into the inventory; one that gives no vote, or for a node without stakes, is refused before."""
    with pytest.raises(BadInput, match="gives no vote"):
        side.join(issue(role="validator", now_ms=now_ms), stake_wei=5).run()
    with pytest.raises(BadInput, match="leave --stake away"):
        side.join(issue(now_ms=now_ms), stake_wei=10**18).run()
    assert not side.output.exists()
    for wanted, wish in (("499.", {}), ('"7"', {"stake_wei": 7 * 10**18})):
        with pytest.raises(VerdictFailed):
            side.join(issue(role="validator", grant_wei=500 * 10**18, now_ms=now_ms), **wish).run()
        assert f"stratos_stake_stos: {wanted}" in side.output.read_text().replace('"499', "499")
        side.output.unlink()


def test_an_inventory_of_another_testnet_is_not_taken_over(side: Side, issue: Issue, now_ms: int) -> None:
    """--output names a file that says something else."""
    with pytest.raises(VerdictFailed):
        side.join(issue(now_ms=now_ms)).run()
    with pytest.raises(BadInput, match="not of other"):
        side.join(issue(now_ms=now_ms), testnet="other").run()
    with pytest.raises(BadInput, match="0 resource nodes named yours"):
        side.join(issue(now_ms=now_ms), name="yours").run()


def test_the_networks_files_lie_beside_the_inventory(side: Side, issue: Issue, now_ms: int) -> None:
    """Genesis and entry points, from which `up` goes on without the ticket."""
    with pytest.raises(VerdictFailed):
        side.join(issue(now_ms=now_ms)).run()
    assert sorted(path.name for path in network_folder(side.output).iterdir()) == ["endpoints.json", "genesis.json"]


def test_a_nodes_wallet_is_not_exchanged(side: Side, issue: Issue, tmp_path: Path, now_ms: int) -> None:
    """A second join with another wallet would leave the deposit with the first."""
    first, second = tmp_path / "a.key", tmp_path / "b.key"
    save_key(first, WalletKey.from_secret(b"a" * 32))
    save_key(second, WalletKey.from_secret(b"b" * 32))
    folder = TestnetFolder(side.root / "net")
    folder.path.mkdir(parents=True)
    from orchestrator.testnet.journal import Journal

    journal = Journal(folder.journal_file, "join")
    one = side.join(issue(now_ms=now_ms), wallet=first)
    assert one._keys(folder, "mine", journal).owner_key().text == WalletKey.from_secret(b"a" * 32).text
    assert one._keys(folder, "mine", journal).owner_key().text == WalletKey.from_secret(b"a" * 32).text
    with pytest.raises(BadInput, match="belongs to wallet"):
        side.join(issue(now_ms=now_ms), wallet=second)._keys(folder, "mine", journal)
    assert folder.ring().coordinator == ""
    assert list(folder.ring().wallets) == ["user"]
